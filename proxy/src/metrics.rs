mod abuses;
mod acme;
mod certificates;
mod histogram;
mod lookups;
mod passthroughs;
mod refusals;
mod reloads;
mod requests;
mod signing;
mod signing_queue;
mod spans;
mod spread;
mod timings;
mod upstreams;

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::access_log::Counts;
use crate::generation::Expiry;
use crate::handshake::HandshakeError;
use crate::traces::SpanCounts;
use crate::views::View;
use abuses::Abuses;
pub(crate) use acme::AcmeMetrics;
pub(crate) use certificates::{LISTED as LISTED_CERTIFICATES, write_staples};
pub(crate) use lookups::{Lookup, Lookups};
pub(crate) use passthroughs::Passed;
use passthroughs::PassedConnections;
use refusals::Refusals;
pub(crate) use reloads::Counted as CountedGeneration;
use reloads::Reloads;
use requests::Requests;
pub(crate) use requests::SiteRequests;
use signing_queue::SigningQueue;
pub(crate) use signing_queue::Waiting;
pub(crate) use spread::Spreads;
use timings::Timings;
pub(crate) use upstreams::write as write_upstreams;

/// What the process counted since it started. Written by all workers, read by the admin listener.
#[derive(Default)]
pub(crate) struct Metrics {
    accepted: AtomicU64,
    closed: AtomicU64,
    handshakes: [AtomicU64; HandshakeResult::ALL.len()],
    pub(crate) reloads: Reloads,
    pub(crate) requests: Requests,
    pub(crate) timings: Timings,
    pub(crate) refusals: Refusals,
    pub(crate) abuses: Abuses,
    pub(crate) signing_queue: SigningQueue,
    pub(crate) passthroughs: PassedConnections,
    pub(crate) access_log: Arc<Counts>,
    pub(crate) spans: Arc<SpanCounts>,
    pub(crate) acme: Arc<AcmeMetrics>,
    pub(crate) lookups: Arc<Lookups>,
}

/// How a handshake ended, as `hsm_proxy_handshakes_total` labels it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HandshakeResult {
    /// With a signature.
    Full,
    /// With a ticket.
    Resumed,
    /// It took too long.
    TimedOut,
    /// The client hung up.
    ClientGone,
    /// A load balancer did not say whose connection it is.
    ProxyHeader,
    /// The client asked for no site, or an unknown one.
    UnknownSite,
    /// Client and proxy have nothing in common, or the client speaks no TLS.
    NotTls,
    /// The site has no certificate yet.
    NoCertificate,
    /// Too many of the site's handshakes wait for signatures.
    SigningBudget,
    /// No engine signed.
    NoSignature,
    /// No memory.
    NoStack,
}

impl HandshakeResult {
    pub(crate) const ALL: [Self; 11] = [
        Self::Full,
        Self::Resumed,
        Self::TimedOut,
        Self::ClientGone,
        Self::ProxyHeader,
        Self::UnknownSite,
        Self::NotTls,
        Self::NoCertificate,
        Self::SigningBudget,
        Self::NoSignature,
        Self::NoStack,
    ];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
            Self::TimedOut => "timed-out",
            Self::ClientGone => "client-gone",
            Self::ProxyHeader => "proxy-header",
            Self::UnknownSite => "unknown-site",
            Self::NotTls => "tls-error",
            Self::NoCertificate => "no-certificate",
            Self::SigningBudget => "signing-budget",
            Self::NoSignature => "no-signature",
            Self::NoStack => "no-stack",
        }
    }
}

impl From<&HandshakeError> for HandshakeResult {
    fn from(error: &HandshakeError) -> Self {
        match error {
            HandshakeError::TimedOut => Self::TimedOut,
            HandshakeError::Gone(_) => Self::ClientGone,
            HandshakeError::ProxyHeader(_) => Self::ProxyHeader,
            HandshakeError::NoName | HandshakeError::UnknownName => Self::UnknownSite,
            HandshakeError::NoCertificate | HandshakeError::Lookup(_) => Self::NoCertificate,
            HandshakeError::SigningBudget => Self::SigningBudget,
            HandshakeError::NoSignature(_) => Self::NoSignature,
            HandshakeError::Tls(_) => Self::NotTls,
            HandshakeError::NoStack(_) => Self::NoStack,
        }
    }
}

impl Metrics {
    pub(crate) fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn closed(&self) {
        self.closed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn handshake(&self, result: HandshakeResult) {
        self.handshakes[result as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many handshakes ended so, in the order of [`HandshakeResult::ALL`].
    pub(crate) fn handshakes(&self) -> [u64; HandshakeResult::ALL.len()] {
        std::array::from_fn(|result| self.handshakes[result].load(Ordering::Relaxed))
    }

    /// Client connections now.
    pub(crate) fn connections(&self) -> u64 {
        let closed = self.closed.load(Ordering::Relaxed);
        self.accepted.load(Ordering::Relaxed).saturating_sub(closed)
    }

    /// The text format of Prometheus, version 0.0.4.
    pub(crate) fn render(&self, view: &View, expiries: &[Expiry]) -> String {
        let mut text = String::with_capacity(2048);
        // Writing to a `String` does not fail.
        let _ = self.write(view, expiries, &mut text);
        text
    }

    fn write(&self, view: &View, expiries: &[Expiry], out: &mut String) -> std::fmt::Result {
        writeln!(out, "# HELP hsm_proxy_handshakes_total TLS handshakes by result.")?;
        writeln!(out, "# TYPE hsm_proxy_handshakes_total counter")?;
        for (result, count) in HandshakeResult::ALL.into_iter().zip(&self.handshakes) {
            let count = count.load(Ordering::Relaxed);
            writeln!(out, "hsm_proxy_handshakes_total{{result=\"{}\"}} {count}", result.label())?;
        }
        writeln!(out, "# HELP hsm_proxy_connections Client connections now.")?;
        writeln!(out, "# TYPE hsm_proxy_connections gauge\nhsm_proxy_connections {}", self.connections())?;
        writeln!(out, "# HELP hsm_proxy_connections_total Client connections accepted.")?;
        writeln!(out, "# TYPE hsm_proxy_connections_total counter")?;
        writeln!(out, "hsm_proxy_connections_total {}", self.accepted.load(Ordering::Relaxed))?;
        self.requests.write(out)?;
        writeln!(out, "# HELP hsm_proxy_access_log_lines_total Lines of the access log.")?;
        writeln!(out, "# TYPE hsm_proxy_access_log_lines_total counter")?;
        for (result, count) in [("written", &self.access_log.written), ("dropped", &self.access_log.dropped)]
        {
            let count = count.load(Ordering::Relaxed);
            writeln!(out, "hsm_proxy_access_log_lines_total{{result=\"{result}\"}} {count}")?;
        }
        self.spans.write(out)?;
        self.reloads.write(out)?;
        certificates::write(expiries, out)?;
        self.lookups.write(out)?;
        self.acme.write(out)?;
        self.timings.write(out)?;
        self.signing_queue.write(out)?;
        self.refusals.write(out)?;
        self.passthroughs.write(out)?;
        self.abuses.write(out)?;
        signing::write(&view.signers, &view.counts, out)
    }
}

/// A label's value; the same escapes serve for a JSON string without control characters.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push(' '),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SignerStatus;

    #[test]
    fn counters_are_rendered_with_their_labels() {
        let metrics = Metrics::default();
        metrics.accepted();
        metrics.handshake(HandshakeResult::Full);
        metrics.handshake(HandshakeResult::NoStack);
        let engine = SignerStatus {
            name: "/run/\"e\".sock".to_owned(),
            up: true,
            state: "connected".to_owned(),
            answers: 7,
            silences: 2,
            timed_answers: 4,
            answer_time: std::time::Duration::from_millis(6),
            ..SignerStatus::default()
        };
        let view = View { signers: vec![engine], ..View::default() };
        let text = metrics.render(&view, &[]);
        assert!(text.contains("hsm_proxy_handshakes_total{result=\"full\"} 1\n"), "{text}");
        assert!(text.contains("hsm_proxy_handshakes_total{result=\"no-stack\"} 1\n"), "{text}");
        assert!(text.contains("hsm_proxy_handshakes_total{result=\"resumed\"} 0\n"), "{text}");
        assert!(text.contains("hsm_proxy_connections 1\n"), "{text}");
        let of_engine = "{engine=\"/run/\\\"e\\\".sock\"}";
        for (name, value) in
            [("answers", "7"), ("silences", "2"), ("timed_answers", "4"), ("answer_seconds", "0.006")]
        {
            let line = format!("hsm_proxy_engine_{name}_total{of_engine} {value}\n");
            assert!(text.contains(&line), "{line}{text}");
        }
        assert!(text.contains("hsm_proxy_engine_up{engine=\"/run/\\\"e\\\".sock\"} 1\n"), "{text}");
    }
}
