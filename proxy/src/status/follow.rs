//! From counters that only grow to what happened in each second.

use std::collections::HashMap;

use time::OffsetDateTime;

use super::history::{Event, EventKind, History, Sample};
use super::millis;
use crate::generation::Generation;
use crate::keys::{SignerStatus, SigningCounts};
use crate::metrics::{HandshakeResult, Metrics, Spreads};
use crate::upstream::ServerGroups;
use crate::views::View;

/// Servers of upstreams whose changes are told; with more of them, only the present shows.
const SERVERS: usize = 500;

/// What the counters said last.
pub(super) struct Follower {
    last: Option<Counted>,
    signers: Vec<SignerStatus>,
    servers: HashMap<(String, String), bool>,
}

struct Counted {
    moment: OffsetDateTime,
    handshakes: [u64; HandshakeResult::ALL.len()],
    requests: (u64, u64),
    signatures: Spreads,
    counts: SigningCounts,
    reloads: (u64, u64),
}

impl Follower {
    pub(super) fn new() -> Self {
        Self { last: None, signers: Vec::new(), servers: HashMap::new() }
    }

    /// Adds to the history what happened since the last call; the first one only begins to count.
    pub(super) fn sample(
        &mut self,
        moment: OffsetDateTime,
        metrics: &Metrics,
        view: &View,
        generation: &Generation,
        history: &mut History,
    ) {
        let now = Counted {
            moment,
            handshakes: metrics.handshakes(),
            requests: metrics.requests.totals(),
            signatures: metrics.timings.signature.spreads(),
            counts: view.counts,
            reloads: metrics.reloads.counts(),
        };
        let Some(last) = &self.last else {
            self.signers.clone_from(&view.signers);
            self.servers = states(&generation.upstreams);
            self.last = Some(now);
            return;
        };
        let sample = difference(last, &now, metrics.connections(), view);
        let reloads = |of: fn(&Counted) -> u64| of(&now).saturating_sub(of(last));
        let (good, failed) = (reloads(|counted| counted.reloads.0), reloads(|counted| counted.reloads.1));
        let mut events = Events { at: sample.at, history };
        self.engines(view, &mut events);
        events.counted(EventKind::Failover, sample.failovers);
        events.counted(EventKind::NoSignature, sample.unsigned);
        events.counted(EventKind::Reload, good);
        events.counted(EventKind::ReloadFailed, failed);
        self.upstreams(&generation.upstreams, &mut events);
        history.add(sample);
        self.last = Some(now);
    }

    fn engines(&mut self, view: &View, events: &mut Events<'_>) {
        for signer in &view.signers {
            let before = self.signers.iter().find(|before| before.name == signer.name);
            let was_up = before.is_none_or(|before| before.up);
            let lost = before.is_some_and(|before| signer.losses > before.losses);
            match (was_up, signer.up) {
                (true, false) => events.note(EventKind::EngineDown, &signer.name, signer.state.clone()),
                (false, true) => events.note(EventKind::EngineUp, &signer.name, String::new()),
                (true, true) if lost => events.note(EventKind::EngineLost, &signer.name, String::new()),
                _ => {}
            }
        }
        self.signers.clone_from(&view.signers);
    }

    fn upstreams(&mut self, upstreams: &ServerGroups, events: &mut Events<'_>) {
        let states = states(upstreams);
        for ((upstream, server), is_up) in &states {
            let was_up = self.servers.get(&(upstream.clone(), server.clone())).copied().unwrap_or(true);
            match (was_up, is_up) {
                (true, false) => events.note(EventKind::UpstreamDown, server, upstream.clone()),
                (false, true) => events.note(EventKind::UpstreamUp, server, upstream.clone()),
                _ => {}
            }
        }
        self.servers = states;
    }
}

/// Where what happens in one sample is written.
struct Events<'a> {
    at: u64,
    history: &'a mut History,
}

impl Events<'_> {
    fn note(&mut self, kind: EventKind, subject: &str, text: String) {
        self.history.note(Event { at: self.at, kind, subject: subject.to_owned(), text, count: 1 });
    }

    fn counted(&mut self, kind: EventKind, count: u64) {
        if count > 0 {
            let (subject, text) = (String::new(), String::new());
            self.history.note(Event { at: self.at, kind, subject, text, count });
        }
    }
}

/// Of counters that may have begun anew: a worker's connections to engines are replaced when more engines come.
fn difference(last: &Counted, now: &Counted, connections: u64, view: &View) -> Sample {
    let handshakes: Vec<u64> =
        now.handshakes.iter().zip(&last.handshakes).map(|(now, last)| now.saturating_sub(*last)).collect();
    let of = |result: HandshakeResult| handshakes[result as usize];
    let (full, resumed) = (of(HandshakeResult::Full), of(HandshakeResult::Resumed));
    let signatures = now.signatures.since(&last.signatures);
    Sample {
        at: millis(now.moment),
        span: (now.moment - last.moment).try_into().unwrap_or_default(),
        connections,
        full,
        resumed,
        failed: handshakes.iter().sum::<u64>() - full - resumed,
        unsigned: of(HandshakeResult::NoSignature),
        requests: now.requests.0.saturating_sub(last.requests.0),
        errors: now.requests.1.saturating_sub(last.requests.1),
        signature_p50: signatures.quantile(500),
        signature_p99: signatures.quantile(990),
        failovers: now.counts.failovers.saturating_sub(last.counts.failovers),
        hedges: now.counts.hedges.saturating_sub(last.counts.hedges),
        engines_up: view.signers.iter().filter(|signer| signer.up).count() as u64,
    }
}

/// Whether each server gets requests.
fn states(upstreams: &ServerGroups) -> HashMap<(String, String), bool> {
    if upstreams.states().nth(SERVERS).is_some() {
        return HashMap::new();
    }
    let states = upstreams.states();
    states.map(|(upstream, url, state)| ((upstream.to_owned(), url.to_string()), state.is_up())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(engines: &[(&str, bool, u64)]) -> View {
        let signer = |&(name, up, losses): &(&str, bool, u64)| SignerStatus {
            name: name.to_owned(),
            up,
            state: if up { "connected" } else { "down for 0 s" }.to_owned(),
            losses,
            ..SignerStatus::default()
        };
        View { signers: engines.iter().map(signer).collect(), ..View::default() }
    }

    #[test]
    fn what_becomes_of_engines_is_told_once() {
        let (mut follower, mut history) = (Follower::new(), History::new(10));
        follower.signers = view(&[("0", true, 0), ("1", true, 0)]).signers;
        for (at, engines) in [
            (1, [("0", true, 0), ("1", true, 0)]),
            (2, [("0", false, 1), ("1", true, 1)]),
            (3, [("0", false, 1), ("1", true, 1)]),
            (4, [("0", true, 1), ("1", true, 1)]),
        ] {
            follower.engines(&view(&engines), &mut Events { at, history: &mut history });
        }
        let told: Vec<_> =
            history.events(0).map(|event| (event.at, event.kind, event.subject.as_str())).collect();
        assert_eq!(
            told,
            [(2, EventKind::EngineDown, "0"), (2, EventKind::EngineLost, "1"), (4, EventKind::EngineUp, "0"),]
        );
        assert_eq!(history.events(0).next().unwrap().text, "down for 0 s");
    }

    #[test]
    fn a_sample_is_what_was_counted_in_its_time_and_never_negative() {
        let metrics = Metrics::default();
        let counted = |seconds, failovers| Counted {
            moment: OffsetDateTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds),
            handshakes: metrics.handshakes(),
            requests: metrics.requests.totals(),
            signatures: metrics.timings.signature.spreads(),
            counts: SigningCounts { failovers, ..SigningCounts::default() },
            reloads: metrics.reloads.counts(),
        };
        metrics.handshake(HandshakeResult::Full);
        let before = counted(5, 9);
        metrics.handshake(HandshakeResult::Full);
        metrics.handshake(HandshakeResult::NoSignature);
        metrics.handshake(HandshakeResult::ClientGone);
        metrics.requests.no_site.count(Some(502), 0);
        metrics.timings.signature.observe(std::time::Duration::from_millis(2));
        // Fewer failovers than before: connections to engines were replaced.
        let sample = difference(&before, &counted(7, 3), 4, &view(&[("0", true, 0), ("1", false, 0)]));
        assert_eq!((sample.at, sample.span.as_secs()), (7_000, 2));
        assert_eq!((sample.full, sample.resumed, sample.failed, sample.unsigned), (1, 0, 2, 1));
        assert_eq!((sample.requests, sample.errors), (1, 1));
        assert_eq!((sample.connections, sample.engines_up, sample.failovers), (4, 1, 0));
        let p50 = sample.signature_p50.unwrap().as_micros();
        assert!((1_750..2_250).contains(&p50), "{p50}");
        assert_eq!(difference(&before, &before, 0, &View::default()).signature_p99, None);
    }
}
