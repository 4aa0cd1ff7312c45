use std::fmt;
use std::time::Duration;

/// What an HTTP/2 connection was ended for: frames that cost the server more than the client, in numbers that no client has
/// a use for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Abuse {
    /// Streams that the client reset before they were answered: "rapid reset", CVE-2023-44487.
    Resets,
    /// Streams that the client made the server reset: "made you reset", CVE-2025-8671.
    StreamErrors,
    /// A request's head in more `CONTINUATION` frames than it may have bytes.
    Continuations,
    /// A request's head that grows far beyond its limit when it is decompressed.
    HeaderList,
    /// `DATA` frames with little or nothing in them.
    SmallData,
    /// `PING`, which wants an answer.
    Pings,
    /// `SETTINGS`, which want an answer.
    Settings,
    /// `WINDOW_UPDATE` beyond what was sent to the client.
    WindowUpdates,
    /// Frames that have no effect here: `PRIORITY`, and those of unknown types.
    IdleFrames,
    /// What the HTTP/2 library has a limit for and no name is known of here.
    Other,
}

impl Abuse {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Self; 10] = [
        Self::Resets,
        Self::StreamErrors,
        Self::Continuations,
        Self::HeaderList,
        Self::SmallData,
        Self::Pings,
        Self::Settings,
        Self::WindowUpdates,
        Self::IdleFrames,
        Self::Other,
    ];

    /// By what the HTTP/2 library writes into the `GOAWAY` that it ends such a connection with.
    pub(crate) fn told_in(debug_data: &[u8]) -> Self {
        match debug_data {
            b"too_many_resets" => Self::Resets,
            b"too_many_internal_resets" => Self::StreamErrors,
            b"too_many_continuations" => Self::Continuations,
            b"header_list_way_too_large" => Self::HeaderList,
            b"too_many_data_frames" => Self::SmallData,
            _ => Self::Other,
        }
    }

    /// How long it is held against the client's address. Any web page can have its visitors' browsers cancel requests, and others
    /// share their addresses, so that takes many connections one after the other.
    pub(crate) fn penalty(self) -> Duration {
        Duration::from_secs(if self == Self::Resets { 2 } else { 10 })
    }

    /// As logs, metrics and the client's `GOAWAY` call it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Resets => "resets",
            Self::StreamErrors => "stream-errors",
            Self::Continuations => "continuations",
            Self::HeaderList => "header-list",
            Self::SmallData => "small-data",
            Self::Pings => "pings",
            Self::Settings => "settings",
            Self::WindowUpdates => "window-updates",
            Self::IdleFrames => "idle-frames",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Abuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}
