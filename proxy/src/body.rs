//! Bodies on their way through: streamed frame by frame, never collected, with a limit on how long they may stall.

mod compressed;
mod gate;
mod request;
mod response;
mod stall;

pub(crate) use gate::Gate;
pub(crate) use request::{Progress, RequestBody};
pub(crate) use response::{ResponseBody, Source};

/// Why a body broke off. Whoever reads it sees the connection or stream end early, never a short body that looks whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("no part of the body came in time")]
    Stalled,
    #[error("the body is longer than body-bytes")]
    TooLarge,
    #[error("the body was not wanted any more")]
    Unwanted,
    #[error("the response can't be compressed: {0}")]
    Compression(std::io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
}
