//! Who goes first where processors are short (sched(7), nice values). Nobody may raise a priority again, so only threads lower theirs.

/// Gives the calling thread, and those that it starts, a lower priority by `nice`: beside one with its own it gets a quarter of a
/// processor with 5, a tenth with 10.
pub(crate) fn give_way(nice: i32) {
    if let Err(error) = rustix::process::nice(nice) {
        tracing::warn!("a thread can't give way to others: {error}");
    }
}
