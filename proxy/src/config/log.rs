use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

/// `[log]`: a line for each request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct LogSettings {
    /// The file of the access log, or `stdout`; there is none if absent. It is opened anew after it was renamed, and on SIGUSR1.
    pub access: Option<PathBuf>,
    /// How a request is written down.
    pub format: LogFormat,
    /// Whether queries are written, too, which often carry secrets.
    pub query: bool,
}

/// A format of access logs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// A JSON object on each line.
    #[default]
    Json,
    /// NCSA's Common Log Format.
    Common,
    /// The same with `Referer` and `User-Agent`.
    Combined,
}
