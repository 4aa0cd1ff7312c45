//! Client of the HSM engines.
//!
//! * [`Pool`]: for servers. One per worker thread, inside a tokio `LocalSet`: one warm, logged-in connection to each
//!   engine, least outstanding first, failover, hedging, one deadline per call.
//! * [`blocking::Client`]: for tools. One connection at a time, moves to the next engine when it is lost.
//! * [`Identity`]: who logs in. All connections of a process share its session token, so that a password is hashed
//!   once and not once for each connection.
//!
//! Both drivers share a sans-I/O session (`session.rs`), which knows the protocol and none of the sockets.
//!
//! An operation that may be repeated ([`Repeat::Safe`](keycore_wire::Repeat)) is sent again when its connection is
//! lost. One that may not is answered with [`Error::OutcomeUnknown`], and the caller looks before it asks again.

#![deny(missing_docs)]

pub mod blocking;
mod endpoint;
mod error;
#[cfg(test)]
mod fake_engine;
mod fault;
mod identity;
mod operation;
mod pool;
mod session;
mod stream;
mod tls;

pub use endpoint::{AddressError, Endpoint, EngineAddress, TcpEndpoint};
pub use error::{EngineFailure, Error};
pub use identity::{Identity, IdentityError, read_password, read_password_file};
pub use pool::{EngineCounters, EngineState, EngineStatus, Hedging, Pool, PoolCounters, PoolOptions};
pub use tls::{TlsError, TlsFiles};
