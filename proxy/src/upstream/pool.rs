use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use super::Settings;
use super::connect::Connection;
use super::group::Server;
use super::resolve::Addresses;
use crate::body::Gate;
use crate::config::UpstreamScheme;
use crate::connection::ClientConnection;
use crate::respond::Failure;

/// At most one line about an upstream in this time, however many requests fail.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(1);

/// One worker's connections to one server.
pub(super) struct Pool {
    server: Arc<Server>,
    addresses: Addresses,
    /// Those of HTTP/2, which requests share.
    shared: RefCell<Vec<Connection>>,
    /// Held while one is made, so that the requests that come meanwhile share it: one for all, or by client if each
    /// has connections of its own.
    making: RefCell<HashMap<*const ClientConnection, Weak<Mutex<()>>>>,
    speaks_http2: Cell<bool>,
    /// Requests that it has, those that wait for a connection included.
    in_flight: Cell<u32>,
    waiting: Cell<usize>,
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
    // Before `in_flight`, whose end may give the connection's room to another client.
    connection: Connection,
    in_flight: InFlight,
    gate: Option<Gate>,
}

impl Pool {
    pub(super) fn new(server: Arc<Server>, settings: &Settings) -> Self {
        let connections = server.options.max_connections.unwrap_or(settings.connections);
        Self {
            addresses: Addresses::new(server.options.resolve_interval),
            shared: RefCell::default(),
            making: RefCell::default(),
            speaks_http2: Cell::new(server.url.scheme() == UpstreamScheme::H2c),
            server,
            in_flight: Cell::new(0),
            waiting: Cell::new(0),
            idle: RefCell::default(),
            room: Arc::new(Semaphore::new(connections)),
            max_idle: settings.idle_connections,
            max_age: settings.idle,
            sweeping: Cell::new(false),
            complained: Cell::new(None),
            silent_failures: Cell::new(0),
        }
    }

    pub(super) fn server(&self) -> &Arc<Server> {
        &self.server
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// Takes one that can take a request of `client` now: of HTTP/2, or else the one of HTTP/1.1 that was used last.
    pub(super) fn take(&self, client: &Rc<ClientConnection>, only_http1: bool) -> Option<Connection> {
        if self.speaks_http2.get() && !only_http1 {
            let mut shared = self.shared.borrow_mut();
            shared.retain(|connection| !connection.is_closed());
            let ready = shared.iter().find(|connection| connection.serves(client) && connection.is_ready());
            if let Some(connection) = ready.and_then(Connection::share) {
                return Some(connection);
            }
        }
        let mut idle = self.idle.borrow_mut();
        for index in (0..idle.len()).rev() {
            let connection = &idle[index].connection;
            if connection.is_closed() {
                idle.remove(index);
            } else if connection.serves(client) && connection.is_ready() {
                return idle.remove(index).map(|idle| idle.connection);
            }
            // Neither: the response is complete, but the upstream still takes the rest of the request.
        }
        None
    }

    /// Makes a connection for `client`, as soon as there is room for it; one of HTTP/2 may be another request's.
    pub(super) async fn open(
        self: &Rc<Self>,
        settings: &Settings,
        client: &Rc<ClientConnection>,
        only_http1: bool,
    ) -> Result<Connection, Failure> {
        if only_http1 || !self.speaks_http2.get() {
            return self.open_own(settings, client, only_http1).await;
        }
        let making = self.making(client);
        let _making = match making.try_lock() {
            Ok(making) => making,
            Err(_) => {
                let _waiting = self.wait()?;
                let making = timeout(settings.connect, making.lock()).await;
                making.map_err(|_| Failure::ConnectTimeout(settings.connect))?
            }
        };
        match self.take(client, false) {
            Some(connection) => Ok(connection),
            None => self.open_own(settings, client, false).await,
        }
    }

    fn making(&self, client: &Rc<ClientConnection>) -> Rc<Mutex<()>> {
        let key = if self.server.options.introduces { Rc::as_ptr(client) } else { std::ptr::null() };
        let mut all = self.making.borrow_mut();
        if let Some(making) = all.get(&key).and_then(Weak::upgrade) {
            return making;
        }
        all.retain(|_, making| making.strong_count() > 0);
        let making = Rc::default();
        all.insert(key, Rc::downgrade(&making));
        making
    }

    /// Another request that waits for a connection, if one more may.
    fn wait(&self) -> Result<Waiting<'_>, Failure> {
        if self.waiting.get() >= self.server.options.max_pending {
            return Err(Failure::TooManyWait);
        }
        Ok(Waiting::begin(&self.waiting))
    }

    async fn open_own(
        self: &Rc<Self>,
        settings: &Settings,
        client: &Rc<ClientConnection>,
        only_http1: bool,
    ) -> Result<Connection, Failure> {
        let no_room = || Failure::NoRoom(settings.connect);
        let room = match self.room_now() {
            Some(room) => room,
            None => {
                let _waiting = self.wait()?;
                timeout(settings.connect, Arc::clone(&self.room).acquire_owned())
                    .await
                    .map_err(|_| no_room())?
                    .map_err(|_| no_room())?
            }
        };
        let (server, addresses) = (&self.server, &self.addresses);
        let connection =
            Connection::open(server, addresses, settings, Some(client), room, only_http1).await?;
        if !only_http1 {
            self.speaks_http2.set(connection.is_http2());
        }
        if let Some(shared) = connection.share().filter(|_| self.max_idle > 0) {
            self.shared.borrow_mut().push(shared);
            self.start_sweeping();
        }
        Ok(connection)
    }

    /// Room for a connection, without waiting. What other clients keep is of no use to this one, so it gives way.
    fn room_now(&self) -> Option<OwnedSemaphorePermit> {
        let room = || Arc::clone(&self.room).try_acquire_owned().ok();
        room().or_else(|| {
            if self.server.options.introduces && self.evict() {
                return room();
            }
            None
        })
    }

    /// Closes a connection that nobody uses, the one that was used longest ago of its version of HTTP; whether there was one.
    fn evict(&self) -> bool {
        self.idle.borrow_mut().pop_front().is_some() || self.evict_shared()
    }

    fn evict_shared(&self) -> bool {
        let mut shared = self.shared.borrow_mut();
        let unused = shared.iter().enumerate().filter(|(_, connection)| connection.streams() == 0);
        let Some((longest, _)) = unused.min_by_key(|(_, connection)| connection.used()) else { return false };
        shared.swap_remove(longest);
        true
    }

    /// Lets who waits for room have that of a connection of HTTP/2 that serves another client alone, and has no request left.
    fn request_ended(&self) {
        let is_waited_for = self.waiting.get() > 0 && self.room.available_permits() == 0;
        if self.server.options.introduces && is_waited_for {
            self.evict_shared();
        }
    }

    /// Closes what was kept for a client that is gone.
    pub(super) fn forget(&self, client: &Rc<ClientConnection>) {
        if self.server.options.introduces {
            self.idle.borrow_mut().retain(|idle| !idle.connection.serves(client));
            self.shared.borrow_mut().retain(|shared| !shared.serves(client));
        }
    }

    fn keep(self: &Rc<Self>, connection: Connection) {
        // If there is no room left, requests may wait for that of this connection.
        let is_full = self.room.available_permits() == 0;
        let moved = connection.address().is_some_and(|address| !self.addresses.still_has(&address));
        if connection.is_http2() {
            if moved {
                // No further request; those that are on it go on.
                self.shared.borrow_mut().retain(|shared| shared.address() != connection.address());
            }
            return;
        }
        if self.max_idle == 0 || is_full || moved || connection.is_closed() || connection.is_widowed() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= self.max_idle {
            idle.pop_front();
        }
        idle.push_back(Idle { connection, since: Instant::now() });
        self.start_sweeping();
    }

    fn start_sweeping(self: &Rc<Self>) {
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
        warn!(upstream = %self.server.url, reason = %failure, more_before = more, "request failed");
    }
}

/// A request that waits for a connection, counted while it does.
struct Waiting<'a>(&'a Cell<usize>);

impl<'a> Waiting<'a> {
    fn begin(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A request that a server has, counted until its response has ended.
pub(super) struct InFlight(Rc<Pool>);

impl InFlight {
    pub(super) fn begin(pool: &Rc<Pool>) -> Self {
        pool.in_flight.set(pool.in_flight.get() + 1);
        Self(Rc::clone(pool))
    }

    pub(super) fn pool(&self) -> &Rc<Pool> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get() - 1);
        self.0.request_ended();
    }
}

/// Closes what was not used for `max_age`, and ends when nothing is left.
async fn sweep(pool: Weak<Pool>, max_age: Duration) {
    loop {
        sleep(max_age / 2 + Duration::from_millis(1)).await;
        let Some(pool) = pool.upgrade() else { return };
        let now = Instant::now();
        let mut idle = pool.idle.borrow_mut();
        idle.retain(|idle| !idle.connection.is_closed() && now < idle.since + max_age);
        let mut shared = pool.shared.borrow_mut();
        let lives = |connection: &Connection| {
            connection.streams() > 0 || (now < connection.used() + max_age && !connection.is_widowed())
        };
        shared.retain(|connection| !connection.is_closed() && lives(connection));
        if idle.is_empty() && shared.is_empty() {
            pool.sweeping.set(false);
            return;
        }
    }
}

impl Lease {
    pub(super) fn new(connection: Connection, in_flight: InFlight, gate: Option<Gate>) -> Self {
        Self { connection, in_flight, gate }
    }

    /// Closes the connection; the request goes on over another one.
    pub(super) fn give_up(self) -> InFlight {
        self.in_flight
    }

    pub(super) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// The upstream at the other end.
    pub(crate) fn upstream(&self) -> &crate::config::UpstreamUrl {
        &self.in_flight.pool().server.url
    }

    /// The response has been read to its end: the connection is free for another request.
    pub(crate) fn finish(self) {
        if let Some(gate) = &self.gate {
            gate.finished();
        }
        self.connection.rests();
        self.in_flight.pool().keep(self.connection);
    }
}
