//! A client who does what clients do, and notices whether it takes longer.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::Error;
use crate::idle::read_response;
use crate::tls::Target;

const REQUEST: &[u8] = b"GET /small HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Latencies count from the appointed times, so that a stall is charged for all that it held up.
pub(crate) fn run(target: &Target, time: Duration, per_second: u32) -> Result<(), Error> {
    let mut stream = target.connect()?;
    let (begun, period) = (Instant::now(), Duration::from_secs(1) / per_second);
    let (mut latencies, mut failed) = (Vec::new(), 0_u64);
    for number in 0_u32.. {
        let appointed = begun + period * number;
        if appointed >= begun + time {
            break;
        }
        std::thread::sleep(appointed.saturating_duration_since(Instant::now()));
        let answered = stream.write_all(REQUEST).and_then(|()| read_response(&mut stream));
        if matches!(answered, Ok(200)) {
            latencies.push(appointed.elapsed());
        } else {
            failed += 1;
            stream = target.connect()?;
        }
    }
    latencies.sort_unstable();
    let at = |percent: usize| {
        let index = (latencies.len() * percent / 100).min(latencies.len().saturating_sub(1));
        latencies.get(index).map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
    };
    let report = json!({
        "requests": latencies.len(), "failed": failed,
        "p50-ms": at(50), "p99-ms": at(99), "most-ms": at(100),
    });
    println!("{report}");
    Ok(())
}
