//! One worker's connections to the upstreams: HTTP/1.1 and HTTP/2, plain or in TLS, kept alive, never shared with another
//! thread.
//!
//! What all workers share is a [`ServerGroup`]: immutable but for the health of its servers, which is a few atomics.

mod balance;
mod budget;
mod checks;
mod connect;
mod executor;
mod framing;
mod group;
mod groups;
mod health;
mod pool;
mod resolve;
mod send;
mod shown;
mod stream;
mod tls;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::Response;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioTimer;

use crate::config::{Limits, Timeouts};
use crate::connection::ClientConnection;
use crate::respond::Failure;
use crate::traces::Traced;

pub(crate) use checks::run as check_health;
pub(crate) use connect::connect_to;
pub use group::ServerGroup;
pub(crate) use groups::ServerGroups;
pub(crate) use health::ServerState;
pub(crate) use pool::Lease;
pub(crate) use resolve::Addresses;
pub(crate) use send::Outgoing;
pub(crate) use shown::asked_server;
pub(crate) use stream::Stream;
pub use tls::TrustError;
pub(crate) use tls::trust_anchors;

use balance::{Chooser, Wish};
use budget::Budget;
use executor::Executor;
use group::Server;
use pool::Pool;
use send::Unanswered;

/// Largest piece that is read from or written to an upstream at once.
const BUFFER: usize = 128 * 1024;

/// Bounds on an upstream's response head. Generous: the upstream is trusted more than clients are.
const MAX_HEADERS: usize = 256;

/// The same for HTTP/2, in bytes.
const MAX_HEADER_BYTES: u32 = 256 * 1024;

/// What an HTTP/2 upstream may send of one response before the client has taken it; the HTTP/1.1 limit is [`BUFFER`].
const STREAM_WINDOW: u32 = 512 * 1024;

/// The same for all responses of one connection together: one slow client must not hold up the others.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// How often an HTTP/2 connection with requests is probed, and how long the answer may take.
const PING: Duration = Duration::from_secs(20);

/// All upstreams of one worker.
pub(crate) struct Upstreams {
    settings: Settings,
    /// Whether some server is told whose its connections are.
    introduces: Cell<bool>,
    pools: RefCell<HashMap<u64, Rc<Pool>>>,
    groups: RefCell<HashMap<*const ServerGroup, Rc<Group>>>,
}

struct Settings {
    http1: http1::Builder,
    http2: http2::Builder<Executor>,
    connect: Duration,
    response: Duration,
    idle: Duration,
    idle_connections: usize,
    connections: usize,
}

impl Settings {
    fn new(limits: &Limits, timeouts: &Timeouts) -> Self {
        let mut http1 = http1::Builder::new();
        http1.max_headers(MAX_HEADERS).max_buf_size(BUFFER);
        let mut http2 = http2::Builder::new(Executor);
        http2
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(BUFFER)
            .max_header_list_size(MAX_HEADER_BYTES)
            .keep_alive_interval(timeouts.upstream_response.min(PING))
            .keep_alive_timeout(PING);
        Self {
            http1,
            http2,
            connect: timeouts.upstream_connect,
            response: timeouts.upstream_response,
            idle: timeouts.upstream_idle,
            idle_connections: limits.upstream_idle_connections,
            connections: limits.upstream_connections,
        }
    }
}

/// What one worker has of a group.
struct Group {
    /// Keeps the address from being another group's.
    shared: Weak<ServerGroup>,
    pools: Vec<Rc<Pool>>,
    chooser: Chooser,
    budget: Budget,
}

/// The head of an upstream's response, its body still to come, and the connection that it comes over.
pub(crate) type Answer = (Response<Incoming>, Lease);

impl Upstreams {
    /// No connection yet.
    pub(crate) fn new(limits: &Limits, timeouts: &Timeouts) -> Self {
        let settings = Settings::new(limits, timeouts);
        Self { settings, introduces: Cell::new(false), pools: RefCell::default(), groups: RefCell::default() }
    }

    /// Sends a request of `client` to a server of `upstream` and waits for the head of its response. Dropping the future
    /// closes the connection.
    ///
    /// If a server does not answer, the next one is asked, provided that nothing of the request was sent or that it has no
    /// body and is idempotent (RFC 9110, section 9.2.2), and within the group's retries and the worker's budget of them.
    ///
    /// Also returns the `Set-Cookie` that brings the client back to the server, if the group is sticky and the client has
    /// another one.
    ///
    /// Each server that is asked is told the request's place in its trace, if there are traces.
    ///
    /// # Errors
    ///
    /// Those of [`Failure`] that blame the upstream, or the client if its body failed.
    pub(crate) async fn send(
        &self,
        upstream: &Arc<ServerGroup>,
        client: &Rc<ClientConnection>,
        mut outgoing: Outgoing,
        traced: Option<&Rc<Traced>>,
    ) -> Result<(Answer, Option<String>), Failure> {
        let group = self.group(upstream);
        group.budget.earn();
        let headers = outgoing.request.headers();
        let wish = Wish {
            hash: upstream.hash_of(headers, client.remote.ip()),
            stuck_to: upstream.stuck_to(headers),
        };
        let mut tried = Vec::new();
        let mut last = Failure::NoServer;
        while let Some(at) = group.chooser.choose(upstream, wish, &tried, |at| group.pools[at].in_flight()) {
            let pool = &group.pools[at];
            let others = tried.len() < upstream.retries && tried.len() + 1 < group.pools.len();
            match send::send(pool, &self.settings, client, outgoing, others, traced).await {
                Ok(answer) => {
                    pool.server().health.succeeded();
                    let stays = wish.stuck_to == Some(at);
                    let cookie = if stays { None } else { upstream.set_cookie(at) };
                    return Ok((answer, cookie));
                }
                Err(Unanswered { failure, again }) => {
                    note(upstream, pool, &failure);
                    match again {
                        Some(again) if others && group.budget.spend() => outgoing = again,
                        _ => return Err(failure),
                    }
                    tried.push(at);
                    last = failure;
                }
            }
        }
        Err(last)
    }

    /// This client is gone: so are the connections that were its own.
    pub(crate) fn forget(&self, client: &Rc<ClientConnection>) {
        if self.introduces.get() {
            self.pools.borrow().values().for_each(|pool| pool.forget(client));
        }
    }

    fn group(&self, shared: &Arc<ServerGroup>) -> Rc<Group> {
        let mut groups = self.groups.borrow_mut();
        if let Some(group) = groups.get(&Arc::as_ptr(shared)) {
            return Rc::clone(group);
        }
        // A new one: after a reload others may be gone.
        groups.retain(|_, group| group.shared.strong_count() > 0);
        let used: Vec<u64> =
            groups.values().flat_map(|group| &group.pools).map(|pool| pool.server().id).collect();
        let mut pools = self.pools.borrow_mut();
        let servers: Vec<&Arc<Server>> = shared.members.iter().map(|member| &member.server).collect();
        pools.retain(|id, _| used.contains(id) || servers.iter().any(|server| server.id == *id));
        let pool = |server: &&Arc<Server>| {
            let new = || Rc::new(Pool::new(Arc::clone(server), &self.settings));
            Rc::clone(pools.entry(server.id).or_insert_with(new))
        };
        if servers.iter().any(|server| server.options.introduces) {
            self.introduces.set(true);
        }
        let group = Rc::new(Group {
            shared: Arc::downgrade(shared),
            pools: servers.iter().map(pool).collect(),
            chooser: Chooser::new(shared),
            budget: Budget::new(),
        });
        groups.insert(Arc::as_ptr(shared), Rc::clone(&group));
        group
    }
}

/// What a failure means for the server, and for the operator.
fn note(upstream: &ServerGroup, pool: &Pool, failure: &Failure) {
    if failure.is_upstreams() {
        pool.complain(failure);
    }
    if !failure.is_servers_fault() {
        return;
    }
    let ejected = pool.server().health.failed();
    if let Some(time) = ejected.filter(|_| upstream.members.len() > 1) {
        let server = &pool.server().url;
        tracing::warn!(upstream = upstream.name(), %server, ?time, reason = %failure, "ejected");
    }
}
