use std::io;
use std::time::Duration;

use keycore_wire::Refusal;

use crate::identity::IdentityError;
use crate::session::ProtocolError;

/// Why a connection ended, or was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("can't connect: {0}")]
    Connect(io::Error),
    #[error("the connection broke: {0}")]
    Io(io::Error),
    #[error("the engine closed the connection")]
    Closed,
    #[error("broken engine: {0}")]
    Protocol(#[from] ProtocolError),
    #[error("no answer to {what} within {} ms", .after.as_millis())]
    Silent { what: &'static str, after: Duration },
    #[error("login refused: {0}")]
    Login(Refusal),
    #[error("{0}")]
    Identity(IdentityError),
    #[error("the engine's limits leave no room for a login")]
    NoRoom,
}
