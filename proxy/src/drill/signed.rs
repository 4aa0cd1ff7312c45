//! Who signed meanwhile: as the proxy's own status report says.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde::Deserialize;

/// How long the admin listener may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Largest answer that is read: far more than a report has.
const LARGEST: u64 = 16 * 1024 * 1024;

/// The answers of each engine since the proxy's start; none if the proxy did not say.
pub(super) struct Answers(Option<BTreeMap<String, u64>>);

#[derive(Deserialize)]
struct StatusReport {
    engines: Vec<Engine>,
}

#[derive(Deserialize)]
struct Engine {
    name: String,
    answers: u64,
}

impl Answers {
    /// Asks the admin listener, if there is one.
    pub(super) fn ask(admin: Option<SocketAddr>) -> Self {
        Self(
            admin.and_then(report).map(|report| {
                report.engines.into_iter().map(|engine| (engine.name, engine.answers)).collect()
            }),
        )
    }

    /// How many more there are now than there were then. Connections that were replaced begin anew.
    pub(super) fn until(&self, later: &Self) -> Option<BTreeMap<String, u64>> {
        let (before, now) = (self.0.as_ref()?, later.0.as_ref()?);
        let more = |(name, answers): (&String, &u64)| {
            let before = before.get(name).copied().unwrap_or(0);
            (name.clone(), answers.saturating_sub(before))
        };
        Some(now.iter().map(more).collect())
    }
}

/// HTTP/1.0, so that the answer ends where the connection does.
fn report(admin: SocketAddr) -> Option<StatusReport> {
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET /status.json?since={} HTTP/1.0\r\nHost: {admin}\r\n\r\n", u64::MAX).ok()?;
    let mut answer = Vec::new();
    stream.take(LARGEST).read_to_end(&mut answer).ok()?;
    let (head, body) = std::str::from_utf8(&answer).ok()?.split_once("\r\n\r\n")?;
    if head.split(' ').nth(1) != Some("200") {
        return None;
    }
    serde_json::from_str(body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_answered_between_two_moments_is_counted_for_each_engine() {
        let answers = |counts: &[(&str, u64)]| {
            Answers(Some(counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()))
        };
        let more = answers(&[("0", 5), ("1", 7)]).until(&answers(&[("0", 5), ("1", 9), ("2", 3)])).unwrap();
        assert_eq!(more.into_iter().collect::<Vec<_>>(), [("0".into(), 0), ("1".into(), 2), ("2".into(), 3)]);
        assert!(Answers(None).until(&answers(&[])).is_none());
    }
}
