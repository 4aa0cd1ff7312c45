//! One worker's connections to the upstreams: plain HTTP/1.1, kept alive, never shared with another thread.

mod connect;
mod pool;
mod send;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use http::Response;
use hyper::body::Incoming;
use hyper::client::conn::http1;

use crate::config::{Limits, Timeouts, UpstreamUrl};

pub(crate) use pool::Lease;
pub(crate) use send::Outgoing;

use pool::Pool;

/// Largest piece that is read from or written to an upstream at once.
const BUFFER: usize = 128 * 1024;

/// Bounds on an upstream's response head. Generous: the upstream is trusted more than clients are.
const MAX_HEADERS: usize = 256;

/// All upstreams of one worker.
pub(crate) struct Upstreams {
    settings: Rc<Settings>,
    pools: RefCell<HashMap<UpstreamUrl, Rc<Pool>>>,
}

struct Settings {
    http: http1::Builder,
    connect: Duration,
    response: Duration,
    idle: Duration,
    idle_connections: usize,
    connections: usize,
}

/// The head of an upstream's response, its body still to come, and the connection that it comes over.
pub(crate) type Answer = (Response<Incoming>, Lease);

impl Upstreams {
    /// No connection yet.
    pub(crate) fn new(limits: &Limits, timeouts: &Timeouts) -> Self {
        let mut http = http1::Builder::new();
        http.max_headers(MAX_HEADERS).max_buf_size(BUFFER);
        let settings = Settings {
            http,
            connect: timeouts.upstream_connect,
            response: timeouts.upstream_response,
            idle: timeouts.upstream_idle,
            idle_connections: limits.upstream_idle_connections,
            connections: limits.upstream_connections,
        };
        Self { settings: Rc::new(settings), pools: RefCell::default() }
    }

    /// Sends a request to `upstream` and waits for the head of its response.
    ///
    /// Takes the kept connection that was used last, or makes a new one. If a kept one turns out to be dead, the request
    /// goes over a new one once more, provided that nothing of it was sent or that it has no body and is idempotent (RFC
    /// 9110, section 9.2.2). Dropping the future closes the connection.
    ///
    /// # Errors
    ///
    /// Those of [`Failure`](crate::respond::Failure) that blame the upstream, or the client if its body failed.
    pub(crate) async fn send(
        &self,
        upstream: &UpstreamUrl,
        request: Outgoing,
    ) -> Result<Answer, crate::respond::Failure> {
        let pool = self.pool(upstream);
        let sent = send::send(&pool, &self.settings, request).await;
        if let Err(failure) = &sent
            && failure.is_upstreams()
        {
            pool.complain(failure);
        }
        sent
    }

    fn pool(&self, upstream: &UpstreamUrl) -> Rc<Pool> {
        let mut pools = self.pools.borrow_mut();
        if let Some(pool) = pools.get(upstream) {
            return Rc::clone(pool);
        }
        let pool = Rc::new(Pool::new(upstream.clone(), &self.settings));
        pools.insert(upstream.clone(), Rc::clone(&pool));
        pool
    }
}
