//! The driver for tools: blocking, one connection at a time.

use std::sync::Arc;
use std::time::Duration;

use keycore_wire::{HelloReply, Operation};

use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::identity::Identity;

/// One connection to one engine, moved to the next engine when it is lost.
pub struct Client {
    endpoint: Endpoint,
    hello: HelloReply,
}

impl Client {
    /// Connects to the first of `endpoints` that answers a hello; all of it takes at most `timeout`, and so will each
    /// call.
    pub fn connect(_endpoints: &[Endpoint], _timeout: Duration) -> Result<Self, Error> {
        Err(Error::NoEngine { engines: Vec::new() })
    }

    /// What the engine in use said of itself.
    pub fn hello(&self) -> &HelloReply {
        &self.hello
    }

    /// The engine in use.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Logs in, here and on every engine that the client moves to later.
    pub fn login(&mut self, _identity: &Arc<Identity>) -> Result<(), Error> {
        Err(Error::DeadlineExceeded)
    }

    /// Asks, and waits for the reply.
    pub fn call<T: Operation>(&mut self, _operation: &T) -> Result<T::Reply, Error> {
        Err(Error::DeadlineExceeded)
    }
}
