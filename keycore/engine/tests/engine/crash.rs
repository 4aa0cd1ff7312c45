//! Power cuts: at every write and every sync of a long history, nothing that was acknowledged is lost.
//!
//! The history runs in a process of its own under strace, so what is cut is what the unchanged store and audit log asked
//! of the kernel, in the order in which they asked ("All File Systems Are Not Created Equal", OSDI 2014, section 3, works
//! the same way). For every call that changes a file, and every one that syncs, `disk` makes what a power cut right there
//! may leave: what was synced, and of the rest nothing, everything, or what a seed picks, in sectors. Each is
//! opened by the ordinary code and compared with what the clients had been told by then.

#![allow(clippy::disallowed_methods, reason = "the environment tells the recorded process what it is")]

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};

mod check;
mod custodians;
mod disk;
mod history;
mod recording;

use check::Expected;
use disk::{Disk, Left};
use recording::Event;

/// What is left of the unsynced writes, for every cut: how often a seed picks. `KEYCORE_CRASH_SEEDS` asks for more.
const SEEDS: u64 = 1;

#[test]
fn a_power_cut_at_any_write_or_sync_loses_nothing_that_was_acknowledged() {
    let Some(events) = recording::record("crash::history::recorded") else { return };
    let seeds = std::env::var("KEYCORE_CRASH_SEEDS").map_or(SEEDS, |text| text.parse().unwrap());
    let (writes, syncs) = recording::census(&events);
    assert!(writes > 1000 && syncs > 100, "{writes} writes, {syncs} syncs: the history is too short");

    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let (queue, cuts) = mpsc::sync_channel(4 * workers);
    let (cuts, failed) = (Mutex::new(cuts), AtomicBool::new(false));
    let made = std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let next = || cuts.lock().ok()?.recv().ok();
                while let Some(cut) = next() {
                    // After a failure the queue is only emptied.
                    if !failed.load(Ordering::Relaxed) && !is_good(&cut) {
                        failed.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
        let made = make_cuts(&events, seeds, &queue);
        drop(queue);
        made
    });
    assert!(!failed.into_inner(), "see above");
    println!("{writes} writes and {syncs} syncs, {made} different disks after a power cut");
}

/// What a disk looks like after a cut, and what must be found on it.
struct Cut {
    /// Which call of the history the power failed at, and what was left, for the message.
    what: String,
    image: disk::Image,
    expected: Expected,
}

/// Queues all disks that the history can leave, each one once; gives how many.
fn make_cuts(events: &[Event], seeds: u64, queue: &mpsc::SyncSender<Cut>) -> usize {
    let (mut disk, mut expected) = (Disk::default(), Expected::default());
    let mut seen = HashSet::new();
    for (at, event) in events.iter().enumerate() {
        if let Event::Acknowledged(line) = event {
            expected.acknowledge(line);
            continue;
        }
        disk.apply(event);
        let picks = (0..seeds).map(|seed| Left::Picked(seed << 32 | at as u64));
        for left in [Left::Nothing, Left::Everything].into_iter().chain(picks) {
            let image = disk.after_power_cut(left);
            if seen.insert((image.digest(), expected.acknowledged())) {
                let what = format!("event {at}, {event}: {left:?}");
                queue.send(Cut { what, image, expected: expected.clone() }).unwrap();
            }
        }
    }
    seen.len()
}

fn is_good(cut: &Cut) -> bool {
    let place = recording::fast_directory();
    cut.image.write_to(place.path());
    let good = catch_unwind(AssertUnwindSafe(|| cut.expected.check(place.path()))).is_ok();
    if !good {
        eprintln!("that was a power cut at {}; acknowledged: {}", cut.what, cut.expected.acknowledged());
    }
    good
}
