use std::fmt::{self, Write};
use std::time::Duration;

use super::histogram::Histogram;
use crate::handshake::EngineTime;

/// How long handshakes and their parts take.
#[derive(Default)]
pub(crate) struct Timings {
    pub(crate) full: Histogram,
    pub(crate) resumed: Histogram,
    /// Waiting for `limits.handshakes`.
    pub(crate) queue: Histogram,
    /// From asking for a signature to having it: the worker's queue, the socket and the engine, a hedge or a failover
    /// included.
    pub(crate) signature: Histogram,
    /// Parts of that, where the engine says what it took.
    socket: Histogram,
    engine_queue: Histogram,
    engine: Histogram,
}

impl Timings {
    /// A signature that was asked for was there, or not, after this time, of which the engine had it for as long as it says.
    pub(crate) fn answered(&self, took: Duration, engine: Option<EngineTime>) {
        self.signature.observe(took);
        if let Some(EngineTime { queued, computing }) = engine {
            // Another machine's clock may run a little faster.
            self.socket.observe(took.saturating_sub(queued + computing));
            self.engine_queue.observe(queued);
            self.engine.observe(computing);
        }
    }

    pub(super) fn write(&self, out: &mut String) -> fmt::Result {
        let name = "hsm_proxy_handshake_seconds";
        writeln!(out, "# HELP {name} From a connection's acceptance to the end of its handshake.")?;
        writeln!(out, "# TYPE {name} histogram")?;
        self.full.write(name, "result=\"full\"", out)?;
        self.resumed.write(name, "result=\"resumed\"", out)?;
        let name = "hsm_proxy_signature_seconds";
        writeln!(
            out,
            "# HELP {name} What signatures wait for: a place in the proxy (queue), then the engine's answer (answer), which is \
             the sum of socket, engine-queue and engine."
        )?;
        writeln!(out, "# TYPE {name} histogram")?;
        self.queue.write(name, "stage=\"queue\"", out)?;
        self.signature.write(name, "stage=\"answer\"", out)?;
        self.socket.write(name, "stage=\"socket\"", out)?;
        self.engine_queue.write(name, "stage=\"engine-queue\"", out)?;
        self.engine.write(name, "stage=\"engine\"", out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_split_in_parts_that_sum_up_to_it_if_the_engine_says_what_it_took() {
        let timings = Timings::default();
        let micros = Duration::from_micros;
        timings.answered(micros(900), Some(EngineTime { queued: micros(150), computing: micros(250) }));
        timings.answered(micros(100), None);
        // As by a clock that runs faster.
        timings.answered(micros(10), Some(EngineTime { queued: micros(5), computing: micros(6) }));
        let mut text = String::new();
        timings.write(&mut text).unwrap();
        for (stage, sum, count) in [
            ("answer", "0.00101", 3),
            ("socket", "0.0005", 2),
            ("engine-queue", "0.000155", 2),
            ("engine", "0.000256", 2),
            ("queue", "0", 0),
        ] {
            let lines = format!(
                "hsm_proxy_signature_seconds_sum{{stage=\"{stage}\"}} {sum}\n\
                 hsm_proxy_signature_seconds_count{{stage=\"{stage}\"}} {count}\n"
            );
            assert!(text.contains(&lines), "{lines}{text}");
        }
    }
}
