use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use tokio::sync::Semaphore;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use super::Settings;
use super::connect::Connection;
use crate::body::{Gate, RequestBody};
use crate::config::UpstreamUrl;
use crate::respond::Failure;

/// At most one line about an upstream in this time, however many requests fail.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(1);

/// The kept connections to one upstream.
pub(super) struct Pool {
    upstream: UpstreamUrl,
    /// The one that was used last is at the back, and is taken first: what is too much grows old at the front.
    idle: RefCell<VecDeque<Idle>>,
    /// Room for connections, used or idle.
    room: Arc<Semaphore>,
    max_idle: usize,
    max_age: Duration,
    sweeping: Cell<bool>,
    complained: Cell<Option<Instant>>,
    silent_failures: Cell<u64>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// An upstream connection while a request uses it. [`Lease::finish`] keeps it for the next one; dropping it closes it.
pub(crate) struct Lease {
    connection: Connection,
    pool: Rc<Pool>,
    gate: Option<Gate>,
}

impl Pool {
    pub(super) fn new(upstream: UpstreamUrl, settings: &Settings) -> Self {
        Self {
            upstream,
            idle: RefCell::default(),
            room: Arc::new(Semaphore::new(settings.connections)),
            max_idle: settings.idle_connections,
            max_age: settings.idle,
            sweeping: Cell::new(false),
            complained: Cell::new(None),
            silent_failures: Cell::new(0),
        }
    }

    pub(super) fn upstream(&self) -> &UpstreamUrl {
        &self.upstream
    }

    /// Takes the connection that was used last, of those that can take a request now.
    pub(super) fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        for index in (0..idle.len()).rev() {
            let sender = &idle[index].connection.sender;
            if sender.is_closed() {
                idle.remove(index);
            } else if sender.is_ready() {
                return idle.remove(index).map(|idle| idle.connection);
            }
            // Neither: the response is complete, but the upstream still takes the rest of the request.
        }
        None
    }

    /// Makes a connection, as soon as there is room for it.
    pub(super) async fn open(&self, settings: &Settings) -> Result<Connection, Failure> {
        let no_room = || Failure::NoRoom(settings.connect);
        let room = match Arc::clone(&self.room).try_acquire_owned() {
            Ok(room) => room,
            Err(_) => timeout(settings.connect, Arc::clone(&self.room).acquire_owned())
                .await
                .map_err(|_| no_room())?
                .map_err(|_| no_room())?,
        };
        Connection::open(&self.upstream, settings, room).await
    }

    fn keep(self: &Rc<Self>, connection: Connection) {
        // If there is no room left, requests may wait for that of this connection.
        let is_full = self.room.available_permits() == 0;
        if self.max_idle == 0 || is_full || connection.sender.is_closed() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= self.max_idle {
            idle.pop_front();
        }
        idle.push_back(Idle { connection, since: Instant::now() });
        if !self.sweeping.replace(true) {
            spawn_local(sweep(Rc::downgrade(self), self.max_age));
        }
    }

    /// Tells the operator that the upstream fails, not more than once a second.
    pub(super) fn complain(&self, failure: &Failure) {
        let now = Instant::now();
        if self.complained.get().is_some_and(|last| now < last + COMPLAINT_INTERVAL) {
            self.silent_failures.set(self.silent_failures.get() + 1);
            return;
        }
        self.complained.set(Some(now));
        let more = self.silent_failures.replace(0);
        warn!(upstream = %self.upstream, reason = %failure, more_before = more, "request failed");
    }
}

/// Closes what was not used for `max_age`, and ends when nothing is left.
async fn sweep(pool: Weak<Pool>, max_age: Duration) {
    loop {
        sleep(max_age / 2 + Duration::from_millis(1)).await;
        let Some(pool) = pool.upgrade() else { return };
        let now = Instant::now();
        let mut idle = pool.idle.borrow_mut();
        idle.retain(|idle| !idle.connection.sender.is_closed() && now < idle.since + max_age);
        if idle.is_empty() {
            pool.sweeping.set(false);
            return;
        }
    }
}

impl Lease {
    pub(super) fn new(connection: Connection, pool: Rc<Pool>, gate: Option<Gate>) -> Self {
        Self { connection, pool, gate }
    }

    pub(super) fn sender(&mut self) -> &mut SendRequest<RequestBody> {
        &mut self.connection.sender
    }

    /// The upstream at the other end.
    pub(crate) fn upstream(&self) -> &UpstreamUrl {
        self.pool.upstream()
    }

    /// The response has been read to its end: the connection is free for another request.
    pub(crate) fn finish(self) {
        if let Some(gate) = &self.gate {
            gate.finished();
        }
        self.pool.keep(self.connection);
    }
}
