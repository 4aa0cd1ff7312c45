use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::units;

/// `[timeouts]`: how long things may take.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Timeouts {
    /// From a connection's acceptance to the end of its TLS handshake.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::Duration")]
    pub handshake: Duration,
    /// One signature, over all engines that are tried for it.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::Duration")]
    pub sign: Duration,
    /// From a request's first byte (the handshake's end, for the first request) to the end of its head.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::Duration")]
    pub header: Duration,
    /// A client's connection without a request.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::Duration")]
    pub idle: Duration,
    /// A request's or response's body without progress.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::Duration")]
    pub stall: Duration,
    /// Connecting to an upstream.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::Duration")]
    pub upstream_connect: Duration,
    /// From a request's end to the head of the upstream's response.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::Duration")]
    pub upstream_response: Duration,
    /// An upstream connection kept without a request.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::Duration")]
    pub upstream_idle: Duration,
    /// From SIGTERM to the end of the last connection.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::Duration")]
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            sign: Duration::from_secs(5),
            header: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            stall: Duration::from_secs(60),
            upstream_connect: Duration::from_secs(5),
            upstream_response: Duration::from_secs(60),
            upstream_idle: Duration::from_secs(30),
            drain: Duration::from_secs(30),
        }
    }
}
