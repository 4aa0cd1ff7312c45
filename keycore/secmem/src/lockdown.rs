//! What a process gives up before it touches a secret.

use core::fmt;

use rustix::io::Errno;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{CapabilitySet, capabilities, set_no_new_privs};

/// One measure of the lockdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// `PR_SET_DUMPABLE` 0: no core dump, and no debugger of the same user (ptrace, /proc/PID/mem).
    NotDumpable,
    /// `RLIMIT_CORE` 0: no core dump, handed down to children.
    NoCoreLimit,
    /// `PR_SET_NO_NEW_PRIVS`: no set-user-id program gains anything; for this thread and those that it starts.
    NoNewPrivileges,
    /// `mlockall`: nothing of the process is swapped out.
    LockedMemory,
}

impl Measure {
    /// What stays open without it, and what to do.
    fn consequence(self) -> &'static str {
        match self {
            Self::NotDumpable => "another process of this user may read the memory",
            Self::NoCoreLimit => "a crash may write a core dump",
            Self::NoNewPrivileges => "set-user-id programs keep their effect",
            Self::LockedMemory => {
                "memory outside of the pages kept for cluster keys may be swapped out; raise RLIMIT_MEMLOCK \
                 (systemd: LimitMEMLOCK=infinity) or turn swap off or encrypt it"
            }
        }
    }
}

/// A measure that could not be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Which.
    pub measure: Measure,
    /// What the operating system said.
    pub error: Errno,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} failed ({}): {}", self.measure, self.error, self.measure.consequence())
    }
}

/// What the lockdown achieved.
#[must_use = "log the gaps"]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lockdown {
    /// The measures that could not be taken; none is the good case.
    pub gaps: Vec<Gap>,
}

impl Lockdown {
    /// Whether every measure was taken.
    pub fn is_complete(&self) -> bool {
        self.gaps.is_empty()
    }
}

/// Takes all measures; to be called first in `main`, before threads and secrets. Calling it again is harmless.
///
/// Memory is locked as it is touched (`MCL_ONFAULT`), and only where the limit can't be hit later: with an unlimited
/// RLIMIT_MEMLOCK or with CAP_IPC_LOCK. A limit that is hit later would fail allocations of a running engine.
pub fn lock_down_process() -> Lockdown {
    let mut gaps = Vec::new();
    let mut note = |measure, outcome: Result<(), Errno>| {
        gaps.extend(outcome.err().map(|error| Gap { measure, error }));
    };
    note(Measure::NotDumpable, set_dumpable_behavior(DumpableBehavior::NotDumpable));
    note(Measure::NoCoreLimit, setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }));
    note(Measure::NoNewPrivileges, set_no_new_privs(true));
    note(Measure::LockedMemory, lock_memory());
    Lockdown { gaps }
}

/// Whether some secret is in memory that could not be locked: RLIMIT_MEMLOCK was used up.
pub fn secrets_may_be_swapped() -> bool {
    crate::pages::some_are_unlocked()
}

fn lock_memory() -> Result<(), Errno> {
    let unlimited = getrlimit(Resource::Memlock).current.is_none();
    let exempt = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    if !unlimited && !exempt {
        return Err(Errno::PERM);
    }
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
}
