//! The PROXY protocol (HAProxy's `doc/proxy-protocol.txt`): who a client is, told by whoever passed its connection on.

mod read;
mod write;

use std::io;
use std::net::SocketAddr;

pub(crate) use read::read;
pub(crate) use write::{header_of, own_header};

/// The ends of a client's connection, as they were before somebody passed it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) client: SocketAddr,
    pub(crate) server: SocketAddr,
}

/// A connection without a header, where there has to be one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeaderError {
    /// It ended, or broke.
    #[error(transparent)]
    Gone(#[from] io::Error),
    /// It begins with something else.
    #[error("the connection does not begin with a PROXY header: does the load balancer send one?")]
    Missing,
    /// More than a header has.
    #[error("the PROXY header is longer than {0} bytes")]
    TooLong(usize),
    /// It breaks the protocol's version 1.
    #[error("bad PROXY header: {0}")]
    BadText(#[from] ppp::v1::BinaryParseError),
    /// It breaks the protocol's version 2.
    #[error("bad PROXY header: {0}")]
    BadBinary(#[from] ppp::v2::ParseError),
}
