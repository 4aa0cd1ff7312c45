//! The lockdown, in a process of its own: this file has one test because it changes its process for good.

#![allow(clippy::unwrap_used)]

use keycore_secmem::lockdown::{Measure, lock_down_process};

/// The value of a line of /proc/thread-self/status.
fn status(field: &str) -> String {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_start_matches(':').trim().to_owned()
}

#[test]
fn the_process_is_closed_and_gaps_are_named() {
    let lockdown = lock_down_process();
    let missing = |measure| lockdown.gaps.iter().any(|gap| gap.measure == measure);

    assert!(!missing(Measure::NotDumpable) && !missing(Measure::NoCoreLimit), "{lockdown:?}");
    assert!(!missing(Measure::NoNewPrivileges), "{lockdown:?}");
    let dumpable = rustix::process::dumpable_behavior().unwrap();
    assert_eq!(dumpable, rustix::process::DumpableBehavior::NotDumpable);
    assert_eq!(rustix::process::getrlimit(rustix::process::Resource::Core).current, Some(0));
    assert_eq!(status("NoNewPrivs"), "1");
    if !missing(Measure::LockedMemory) {
        // Memory touched from now on is locked.
        let touched = vec![1u8; 4 << 20];
        let locked: u64 = status("VmLck").split(' ').next().unwrap().parse().unwrap();
        assert!(locked * 1024 >= touched.len() as u64, "only {locked} KiB are locked");
    }
    for gap in &lockdown.gaps {
        assert!(gap.to_string().contains("failed"), "{gap}");
    }
    assert_eq!(lock_down_process(), lockdown, "a second call changes nothing");
}
