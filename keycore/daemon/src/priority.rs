//! Who goes first where processors are short. Without a privilege nobody raises a priority again, so only threads lower theirs.

/// Gives the calling thread, and those that it starts, a lower priority by `nice`: beside one busy thread with its own it gets a quarter of a
/// processor with 5, a tenth with 10.
///
/// That holds among threads of one scheduling group (sched(7), "The autogroup feature"). Services of systemd, and containers, are a group
/// each: there engines give way to engines, and not to a proxy.
pub(crate) fn give_way(nice: i32) {
    if let Err(error) = rustix::process::nice(nice) {
        tracing::warn!("a thread can't give way to others: {error}");
    }
}
