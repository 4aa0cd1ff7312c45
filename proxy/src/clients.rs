//! What each client may do, by its address: connections at once, new ones and requests in a time.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::abuse::Abuse;
use crate::config::{Limits, Rate};

/// Parts of the table, each with a lock of its own, so that workers seldom meet.
const SHARDS: usize = 16;

/// Clients that one part remembers; those that were seen longest ago are forgotten first. All together some 10 MB.
const CLIENTS_OF_SHARD: usize = 4096;

/// A client whose connections were ended for floods gets few further ones while their [penalties](Abuse::penalty) add up to more
/// than this.
const ABUSE_PATIENCE: Duration = Duration::from_secs(40);

/// They add up to no more than this, so that a client is let in soon after it has stopped, however much it flooded.
const MOST_ABUSE: Duration = Duration::from_secs(50);

/// New connections that it gets meanwhile. Many people may share an address, and one of them floods: none at all would be a cheap
/// way to keep the others out.
const ABUSER_RATE: Rate = Rate::per_second(2);

/// All clients of the process. Nothing is looked up or locked while no limit is configured and nobody has flooded.
pub(crate) struct Clients {
    start: Instant,
    /// Whether anybody ever flooded.
    has_abusers: AtomicBool,
    shards: [Mutex<LruCache<Client, State>>; SHARDS],
}

/// A client: an IPv4 address, or an IPv6 /64, which is what one household or server has (RFC 6177).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Client {
    V4(u32),
    V6(u64),
}

#[derive(Default)]
struct State {
    connections: usize,
    new_connections: Bucket,
    requests: Bucket,
    /// When its floods will be forgotten.
    abuses: Duration,
    /// Connections that it gets while it is an abuser.
    let_through: Bucket,
}

/// What is left of a rate, as the generic cell rate algorithm keeps it: when all that came will have been paid for.
#[derive(Debug, Default)]
struct Bucket {
    paid: Duration,
}

/// A rate for all clients together.
pub(crate) struct SharedBucket {
    rate: Rate,
    start: Instant,
    bucket: Mutex<Bucket>,
}

/// A connection that counts for its client while this lives.
pub(crate) struct Connected {
    clients: Arc<Clients>,
    client: Client,
}

/// Why a client gets no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("limits.connections-per-ip")]
    TooMany,
    #[error("limits.new-connections-per-ip")]
    TooFast,
    #[error("connections that were ended for floods")]
    Abuse,
    /// Not this client's doing: a load balancer is late with its headers.
    #[error("connections that wait for their PROXY headers")]
    NoHeaders,
}

impl Default for Clients {
    fn default() -> Self {
        let shard = || Mutex::new(LruCache::unbounded());
        Self {
            start: Instant::now(),
            has_abusers: AtomicBool::new(false),
            shards: std::array::from_fn(|_| shard()),
        }
    }
}

impl Clients {
    /// Lets a client connect; nothing to hold if connections are not counted.
    pub(crate) fn connect(
        self: &Arc<Self>,
        address: IpAddr,
        limits: &Limits,
    ) -> Result<Option<Connected>, Refused> {
        if self.has_abusers.load(Relaxed) && !limits.is_exempt(address) && !self.lets_through(address) {
            return Err(Refused::Abuse);
        }
        let (most, rate) = (limits.connections_per_ip, limits.new_connections_per_ip);
        if (most == 0 && rate.is_none()) || limits.is_exempt(address) {
            return Ok(None);
        }
        let client = Client::of(address);
        let mut shard = self.shard(client);
        let state = state_of(&mut shard, client);
        if most > 0 && state.connections >= most {
            return Err(Refused::TooMany);
        }
        if let Some(rate) = rate {
            state.new_connections.take(rate, self.start.elapsed()).map_err(|_| Refused::TooFast)?;
        }
        state.connections += 1;
        Ok(Some(Connected { clients: Arc::clone(self), client }))
    }

    /// A connection of this client was ended for a flood.
    pub(crate) fn abused(&self, address: IpAddr, abuse: Abuse, limits: &Limits) {
        if limits.is_exempt(address) {
            return;
        }
        self.has_abusers.store(true, Relaxed);
        let client = Client::of(address);
        let now = self.start.elapsed();
        let mut shard = self.shard(client);
        let abuses = &mut state_of(&mut shard, client).abuses;
        *abuses = ((*abuses).max(now) + abuse.penalty()).min(now + MOST_ABUSE);
    }

    /// Whether a client may connect as far as its floods go: always if there were few, else [now and then](ABUSER_RATE).
    fn lets_through(&self, address: IpAddr) -> bool {
        let client = Client::of(address);
        let now = self.start.elapsed();
        let mut shard = self.shard(client);
        let Some(state) = shard.peek_mut(&client) else { return true };
        let is_abuser = state.abuses > now + ABUSE_PATIENCE;
        !is_abuser || state.let_through.take(ABUSER_RATE, now).is_ok()
    }

    /// Lets a client make a request, or says after which time it may.
    pub(crate) fn request(&self, address: IpAddr, limits: &Limits) -> Result<(), Duration> {
        let Some(rate) = limits.requests_per_ip.filter(|_| !limits.is_exempt(address)) else { return Ok(()) };
        let client = Client::of(address);
        state_of(&mut self.shard(client), client).requests.take(rate, self.start.elapsed())
    }

    fn shard(&self, client: Client) -> MutexGuard<'_, LruCache<Client, State>> {
        let bits = match client {
            Client::V4(bits) => u64::from(bits),
            Client::V6(bits) => bits,
        };
        // Fibonacci hashing: neighbours are spread.
        let shard = (bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60) as usize;
        // Numbers only: a panic leaves nothing half done.
        self.shards[shard % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn state_of(shard: &mut LruCache<Client, State>, client: Client) -> &mut State {
    if shard.len() >= CLIENTS_OF_SHARD && !shard.contains(&client) {
        shard.pop_lru();
    }
    shard.get_or_insert_mut(client, State::default)
}

impl Client {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

impl Bucket {
    /// Takes one at `now`, a time since whenever; or says how long it takes until there is one.
    fn take(&mut self, rate: Rate, now: Duration) -> Result<(), Duration> {
        let paid = self.paid.max(now) + rate.period();
        match paid.checked_sub(now + rate.burst()) {
            Some(early) if !early.is_zero() => Err(early),
            _ => {
                self.paid = paid;
                Ok(())
            }
        }
    }
}

impl SharedBucket {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, start: Instant::now(), bucket: Mutex::default() }
    }

    /// Whether it is of this rate.
    pub(crate) fn is_at(&self, rate: Rate) -> bool {
        self.rate == rate
    }

    /// Takes one, or says how long it takes until there is one.
    pub(crate) fn take(&self) -> Result<(), Duration> {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.take(self.rate, self.start.elapsed())
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        // It may have been forgotten meanwhile, and have come again.
        if let Some(state) = self.clients.shard(self.client).peek_mut(&self.client) {
            state.connections = state.connections.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn connections_are_counted_by_address_and_by_ipv6_network() {
        let clients = Arc::new(Clients::default());
        let limits = Limits {
            connections_per_ip: 2,
            exempt: vec!["198.51.100.0/24".parse().unwrap()],
            ..Limits::default()
        };
        let connect = |address: &str| clients.connect(ip(address), &limits);
        let mut held = vec![connect("192.0.2.1").unwrap(), connect("::ffff:192.0.2.1").unwrap()];
        assert_eq!(connect("192.0.2.1").err(), Some(Refused::TooMany));
        assert!(connect("192.0.2.2").is_ok(), "another");
        held.pop();
        held.push(connect("192.0.2.1").unwrap());
        assert!(connect("192.0.2.1").is_err());

        let _six = [connect("2001:db8::1").unwrap(), connect("2001:db8::ffff:2").unwrap()];
        assert!(connect("2001:db8::3").is_err(), "one /64");
        assert!(connect("2001:db8:0:1::3").is_ok(), "the next one");
        let exempt: Vec<_> = (0..10).map(|_| connect("198.51.100.7").unwrap()).collect();
        assert!(exempt.iter().all(Option::is_none));
        assert!(clients.connect(ip("192.0.2.1"), &Limits::default()).unwrap().is_none(), "no limit");
    }

    #[test]
    fn a_rate_lets_a_burst_pass_and_then_one_in_each_period() {
        let rate: Rate = "10/s".parse().unwrap();
        let mut bucket = Bucket::default();
        let mut at = |millis| bucket.take(rate, Duration::from_millis(millis));
        assert_eq!((0..20).filter(|_| at(5000).is_ok()).count(), 10);
        assert_eq!(at(5000), Err(Duration::from_millis(100)));
        assert_eq!(at(5099), Err(Duration::from_millis(1)));
        assert_eq!((at(5100), at(5100)), (Ok(()), Err(Duration::from_millis(100))));
        assert_eq!((0..20).filter(|_| at(90_000).is_ok()).count(), 10, "a silence pays for no more");
    }

    #[test]
    fn who_floods_again_and_again_gets_few_connections_for_a_while() {
        let clients = Arc::new(Clients::default());
        let limits = Limits { exempt: vec!["198.51.100.0/24".parse().unwrap()], ..Limits::default() };
        let connect = |address: &str| clients.connect(ip(address), &limits).err();
        let abused = |address: &str, abuse| clients.abused(ip(address), abuse, &limits);
        for _ in 0..4 {
            abused("192.0.2.1", Abuse::Pings);
            assert_eq!(connect("192.0.2.1"), None, "once in a while happens");
        }
        for _ in 0..100 {
            abused("192.0.2.1", Abuse::Pings);
            abused("198.51.100.7", Abuse::Pings);
        }
        // Two pass at once, and one more each half second that this loop takes.
        let begun = Instant::now();
        let passed = (0..100).filter(|_| connect("192.0.2.1").is_none()).count() as u128;
        assert!((2..=3 + begun.elapsed().as_millis() / 500).contains(&passed), "{passed}");
        assert_eq!(connect("192.0.2.1"), Some(Refused::Abuse));
        let client = Client::of(ip("192.0.2.1"));
        clients.shard(client).peek_mut(&client).unwrap().let_through.paid -= Duration::from_millis(500);
        assert_eq!(connect("192.0.2.1"), None, "half a second later");
        assert_eq!((connect("192.0.2.2"), connect("198.51.100.7")), (None, None));
        // Ten seconds later one is forgotten, however many they were.
        clients.shard(client).peek_mut(&client).unwrap().abuses -= Abuse::Pings.penalty();
        assert!((0..10).all(|_| connect("192.0.2.1").is_none()));
    }

    #[test]
    fn cancelled_requests_are_held_against_a_client_when_they_end_many_connections() {
        let clients = Arc::new(Clients::default());
        let limits = Limits::default();
        let connect = || clients.connect(ip("192.0.2.1"), &limits).err();
        for _ in 0..20 {
            clients.abused(ip("192.0.2.1"), Abuse::Resets, &limits);
            assert!((0..10).all(|_| connect().is_none()), "a page that cancels much, read again and again");
        }
        for _ in 0..5 {
            clients.abused(ip("192.0.2.1"), Abuse::Resets, &limits);
        }
        assert_eq!((0..10).find_map(|_| connect()), Some(Refused::Abuse));
    }

    #[test]
    fn requests_of_one_client_are_not_anothers_and_the_table_is_bounded() {
        let clients = Clients::default();
        let limits = Limits { requests_per_ip: Some("2/h".parse().unwrap()), ..Limits::default() };
        let request = |bits: u32| clients.request(IpAddr::V4(bits.into()), &limits);
        assert_eq!((request(1), request(1), request(2)), (Ok(()), Ok(()), Ok(())));
        assert!(request(1).unwrap_err() > Duration::from_secs(1700));
        for other in 0..200_000 {
            assert!(request(1_000_000 + other).is_ok());
        }
        for shard in &clients.shards {
            let length = shard.lock().unwrap().len();
            assert!(length > CLIENTS_OF_SHARD / 2 && length <= CLIENTS_OF_SHARD, "{length}");
        }
    }
}
