//! What happened lately, in bounded memory.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;

/// Events that are kept.
const EVENTS: usize = 200;

/// The last samples and events.
pub(super) struct History {
    most: usize,
    samples: VecDeque<Sample>,
    events: VecDeque<Event>,
}

/// What happened since the sample before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sample {
    /// Its end, in milliseconds of Unix time.
    pub(super) at: u64,
    /// How long it is.
    pub(super) span: Duration,
    /// Client connections at its end.
    pub(super) connections: u64,
    /// Handshakes with a signature.
    pub(super) full: u64,
    pub(super) resumed: u64,
    /// Handshakes that ended in any other way.
    pub(super) failed: u64,
    /// Those of them that no engine signed.
    pub(super) unsigned: u64,
    pub(super) requests: u64,
    /// Requests answered with 5xx.
    pub(super) errors: u64,
    /// Of the time from asking for a signature to having it.
    pub(super) signature_p50: Option<Duration>,
    pub(super) signature_p99: Option<Duration>,
    pub(super) failovers: u64,
    pub(super) hedges: u64,
    /// Engines that all workers ask, at its end.
    pub(super) engines_up: u64,
}

/// Something that the page marks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Event {
    /// Of the sample that it is in.
    pub(super) at: u64,
    pub(super) kind: EventKind,
    /// Whom it happened to: an engine's or a server's name, or nobody's.
    pub(super) subject: String,
    /// In words; may be empty.
    pub(super) text: String,
    /// How often in this sample.
    pub(super) count: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum EventKind {
    EngineDown,
    EngineUp,
    /// Its connections were lost, and made again at once.
    EngineLost,
    /// Signatures were asked for elsewhere.
    Failover,
    /// Handshakes failed for want of a signature.
    NoSignature,
    UpstreamDown,
    UpstreamUp,
    Reload,
    ReloadFailed,
}

impl Sample {
    /// What the numbers of [`Sample::row`] are.
    pub(super) const FIELDS: [&str; 14] = [
        "at",
        "span-ms",
        "connections",
        "full",
        "resumed",
        "failed",
        "unsigned",
        "requests",
        "errors",
        "signature-p50-us",
        "signature-p99-us",
        "failovers",
        "hedges",
        "engines-up",
    ];

    pub(super) fn row(&self) -> [Option<u64>; Self::FIELDS.len()] {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        [
            Some(self.at),
            Some(micros(self.span) / 1000),
            Some(self.connections),
            Some(self.full),
            Some(self.resumed),
            Some(self.failed),
            Some(self.unsigned),
            Some(self.requests),
            Some(self.errors),
            self.signature_p50.map(micros),
            self.signature_p99.map(micros),
            Some(self.failovers),
            Some(self.hedges),
            Some(self.engines_up),
        ]
    }
}

impl History {
    /// Keeps so many samples.
    pub(super) fn new(most: usize) -> Self {
        Self { most, samples: VecDeque::new(), events: VecDeque::new() }
    }

    pub(super) fn add(&mut self, sample: Sample) {
        if self.samples.len() >= self.most {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
        if let Some(oldest) = self.samples.front().map(|sample| sample.at) {
            self.events.retain(|event| event.at >= oldest);
        }
    }

    pub(super) fn note(&mut self, event: Event) {
        if self.events.len() >= EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// Those after a moment, the oldest first.
    pub(super) fn samples(&self, since: u64) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| sample.at > since)
    }

    /// Those after a moment, the oldest first.
    pub(super) fn events(&self, since: u64) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(move |event| event.at > since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_is_bounded_and_events_go_with_their_samples() {
        let mut history = History::new(3);
        let kind = EventKind::Reload;
        for at in 1..=5 {
            history.note(Event { at, kind, subject: String::new(), text: String::new(), count: 1 });
            history.add(Sample { at, ..Sample::default() });
        }
        assert_eq!(history.samples(0).map(|sample| sample.at).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(history.events(0).map(|event| event.at).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(history.samples(4).count(), 1);
        for _ in 0..2 * EVENTS {
            history.note(Event { at: 6, kind, subject: String::new(), text: String::new(), count: 1 });
        }
        assert_eq!(history.events(0).count(), EVENTS);
    }
}
