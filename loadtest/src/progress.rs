//! One line on the terminal that says how it goes; nothing in a pipe.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use crate::load::Watch;
use crate::time::thousands;

/// The line; erased when dropped.
pub(crate) struct Progress {
    title: String,
    terminal: bool,
    last: (Instant, u64),
}

impl Progress {
    /// How often [`Self::show`] is worth calling.
    pub(crate) const INTERVAL: Duration = Duration::from_millis(250);

    pub(crate) fn new(title: String) -> Self {
        Self { title, terminal: stderr().is_terminal(), last: (Instant::now(), 0) }
    }

    pub(crate) fn show(&mut self, load: &Watch) {
        if !self.terminal {
            return;
        }
        let (handshakes, failed) = load.so_far();
        let now = Instant::now();
        let (last, before) = self.last;
        self.last = (now, handshakes);
        #[allow(clippy::cast_precision_loss)] // for the eye
        let rate = (handshakes - before) as f64 / (now - last).as_secs_f64().max(1e-3);
        self.write(&format!(
            "\r\x1b[K{}{:.1} s  {} handshakes  {:.0}/s  {} failed",
            self.title,
            load.begun().elapsed().as_secs_f64(),
            thousands(handshakes),
            rate,
            thousands(failed)
        ));
    }

    fn write(&self, text: &str) {
        // A terminal that went away is no reason to end a measurement.
        let _gone = stderr().write_all(text.as_bytes());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            self.write("\r\x1b[K");
        }
    }
}
