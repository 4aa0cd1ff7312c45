use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process};

/// A process that is to take over, for whoever may call that off meanwhile.
#[derive(Default)]
pub(crate) struct Attempt(Mutex<State>);

#[derive(Default)]
enum State {
    #[default]
    None,
    /// It has not been waited for, so the process id is its own.
    Started(Pid),
    CalledOff,
}

impl Attempt {
    /// Ends the process, if there is one, as SIGTERM ends this one: it drains if it has taken over by now. None is started
    /// any more.
    pub(crate) fn call_off(&self) {
        if let State::Started(pid) = std::mem::replace(&mut *self.state(), State::CalledOff) {
            tracing::info!(pid = pid.as_raw_nonzero(), "the process that was to take over is ended as well");
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Whether it may go on.
    pub(super) fn started(&self, child: &Child) -> bool {
        let mut state = self.state();
        let goes_on = !matches!(*state, State::CalledOff);
        if goes_on {
            *state = State::Started(Pid::from_child(child));
        }
        goes_on
    }

    /// To be called before the process is waited for: from then on its id may be another's.
    pub(super) fn failed(&self) {
        let mut state = self.state();
        if matches!(*state, State::Started(_)) {
            *state = State::None;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
