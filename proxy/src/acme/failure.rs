use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use time::OffsetDateTime;

use crate::chain::ChainError;
use crate::upstream::TrustError;

/// Why an order came to nothing, split by whose affair it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    // The engines.
    #[error(transparent)]
    Engine(#[from] keycore_client::Error),
    #[error(transparent)]
    Encoding(#[from] hsm_certs::Error),
    #[error("the key labelled {0} is not of the type that it should be: delete it, or name another")]
    WrongKey(String),
    // This machine.
    #[error("acme.ca: {0}")]
    Trust(#[from] TrustError),
    #[error("{}: {source}", .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("acme.eab-key-file: {0}")]
    MacKey(String),
    #[error("an attempt was interrupted")]
    Interrupted,
    // The authority.
    #[error("{host} can't be reached: {reason}", reason = plain(&source.to_string()))]
    Unreachable { host: String, source: io::Error },
    #[error("{host} did not answer within {after:?}")]
    Silent { host: String, after: Duration },
    #[error(
        "the authority's address {}:{port} is not asked: it is not at the host and port of acme.directory",
        plain(host)
    )]
    Elsewhere { host: String, port: u16 },
    #[error("the order was not done within {0:?}")]
    TooSlow(Duration),
    #[error("the authority says: {problem}")]
    Refused { problem: Problem, retry_after: Option<Duration> },
    #[error("the authority could not see that {name} is ours: {problem}", name = plain(name))]
    NotProven { name: String, problem: Problem },
    #[error("the authority offers no {kind} challenge for {name}", name = plain(name))]
    NoSuchChallenge { name: String, kind: &'static str },
    #[error("the authority's answer does not hold together: {0}")]
    Malformed(&'static str),
    #[error("the authority's certificate: {0}")]
    Chain(#[from] ChainError),
    #[error("the authority's certificate is of another key")]
    OtherKey,
    #[error("the authority's certificate is not for {0}")]
    OtherName(String),
    #[error("the authority's certificate is not valid now, but from {from} to {until}")]
    NotNow { from: OffsetDateTime, until: OffsetDateTime },
    #[error("the authority wants something proven that was not ordered: {}", plain(.0))]
    NotOrdered(String),
}

impl Failure {
    /// How long the authority wants to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether another order might go better than this one: the authority has judged it.
    pub(super) fn spoils_the_order(&self) -> bool {
        match self {
            Self::Refused { problem, .. } => !problem.is("rateLimited") && !problem.is("serverInternal"),
            Self::NotProven { .. }
            | Self::NoSuchChallenge { .. }
            | Self::Malformed(_)
            | Self::Elsewhere { .. }
            | Self::Chain(_)
            | Self::OtherKey
            | Self::OtherName(_)
            | Self::NotNow { .. }
            | Self::NotOrdered(_) => true,
            _ => false,
        }
    }

    /// Whether it is a refusal of this kind.
    pub(super) fn is(&self, kind: &str) -> bool {
        matches!(self, Self::Refused { problem, .. } if problem.is(kind))
    }
}

/// What an authority has against a request (RFC 8555, section 6.7; RFC 9457).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Problem {
    #[serde(rename = "type")]
    kind: String,
    detail: String,
    subproblems: Vec<Subproblem>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Subproblem {
    detail: String,
}

/// Before the names of ACME's problems.
const NAMESPACE: &str = "urn:ietf:params:acme:error:";

/// Longest text of an authority that gets into the log, in characters.
const LONGEST: usize = 300;

/// What comes from elsewhere, cut and without characters that begin lines or turn text around.
fn plain(text: &str) -> String {
    let odd = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if odd(c) { ' ' } else { c }).take(LONGEST).collect()
}

impl Problem {
    /// Whether it is of this kind, named without the namespace.
    pub(super) fn is(&self, kind: &str) -> bool {
        self.kind.strip_prefix(NAMESPACE) == Some(kind)
    }

    /// For an answer that explains nothing.
    pub(super) fn of_status(status: http::StatusCode) -> Self {
        Self { kind: String::new(), detail: format!("status {status}"), subproblems: Vec::new() }
    }
}

impl fmt::Display for Problem {
    /// One line: what comes from elsewhere is cut, and has no control characters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&plain(if self.detail.is_empty() { "no reason" } else { &self.detail }))?;
        for subproblem in self.subproblems.iter().take(3).filter(|subproblem| !subproblem.detail.is_empty()) {
            write!(f, "; {}", plain(&subproblem.detail))?;
        }
        let kind = self.kind.strip_prefix(NAMESPACE).unwrap_or(&self.kind);
        if kind.is_empty() { Ok(()) } else { write!(f, " ({})", plain(kind)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_authority_forge_no_lines() {
        let name = format!("a\nERROR {}", "x".repeat(10_000));
        let line = Failure::NotOrdered(name.clone()).to_string();
        assert!(!line.contains('\n') && line.len() < 400, "{line}");
        let line = Failure::NotProven { name, problem: Problem::default() }.to_string();
        assert!(!line.contains('\n') && line.len() < 400, "{line}");
    }

    #[test]
    fn a_problem_is_one_short_line() {
        let text = serde_json::json!({
            "type": "urn:ietf:params:acme:error:rateLimited",
            "detail": format!("too\nmany {}", "x".repeat(10_000)),
            "subproblems": [{ "detail": "for a.example" }, {}, { "detail": "b" }],
            "unknown": 1,
        });
        let problem: Problem = serde_json::from_value(text).unwrap();
        assert!(problem.is("rateLimited") && !problem.is("badNonce"));
        let line = problem.to_string();
        assert!(line.starts_with("too many x") && line.len() < 400, "{line}");
        assert!(line.ends_with("; for a.example; b (rateLimited)"), "{line}");
        assert_eq!(serde_json::from_str::<Problem>("{}").unwrap().to_string(), "no reason");
    }
}
