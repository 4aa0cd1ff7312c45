use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use http::uri::Authority;
use tokio::time::Instant;

use crate::respond::Failure;

/// The addresses of one upstream's name, as one worker knows them. How long DNS would have them kept does not show
/// through the system's resolver, so the configuration says how long they are.
pub(crate) struct Addresses {
    interval: Duration,
    known: RefCell<Option<Known>>,
    next: Cell<usize>,
}

struct Known {
    addresses: Rc<[SocketAddr]>,
    since: Instant,
}

impl Addresses {
    pub(crate) fn new(interval: Duration) -> Self {
        Self { interval, known: RefCell::new(None), next: Cell::new(0) }
    }

    /// All of them, from another one each time, so that each gets connections. If the name can't be looked up any more,
    /// those from before.
    pub(super) async fn find(&self, authority: &Authority, port: u16) -> Result<Vec<SocketAddr>, Failure> {
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let known = self.fresh();
        let addresses = match known {
            Some(addresses) => addresses,
            None => match lookup(host, port).await {
                Ok(found) => self.learn(found),
                Err(error) => self.stale().ok_or(Failure::NoAddress(error))?,
            },
        };
        let first = self.next.replace(self.next.get().wrapping_add(1)) % addresses.len();
        let (before, after) = addresses.split_at(first);
        Ok(after.iter().chain(before).copied().collect())
    }

    /// Whether a connection to this address is still one to the name.
    pub(super) fn still_has(&self, address: &SocketAddr) -> bool {
        self.known.borrow().as_ref().is_none_or(|known| known.addresses.contains(address))
    }

    fn fresh(&self) -> Option<Rc<[SocketAddr]>> {
        let known = self.known.borrow();
        let fresh = known.as_ref().filter(|known| known.since.elapsed() < self.interval)?;
        Some(Rc::clone(&fresh.addresses))
    }

    fn stale(&self) -> Option<Rc<[SocketAddr]>> {
        let mut known = self.known.borrow_mut();
        let known = known.as_mut()?;
        // So that a resolver that is gone is not asked for each connection.
        known.since = Instant::now();
        Some(Rc::clone(&known.addresses))
    }

    fn learn(&self, found: Vec<SocketAddr>) -> Rc<[SocketAddr]> {
        let addresses: Rc<[SocketAddr]> = found.into();
        self.known.replace(Some(Known { addresses: Rc::clone(&addresses), since: Instant::now() }));
        addresses
    }
}

async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let mut addresses: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(addresses) }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn all_addresses_are_used_and_old_ones_are_kept_while_there_is_no_answer() {
        let known = Addresses::new(Duration::from_secs(10));
        // RFC 6761: it never has an address.
        let name: Authority = "upstream.invalid".parse().unwrap();
        assert!(matches!(known.find(&name, 80).await, Err(Failure::NoAddress(_))));
        known.learn(addresses(&["10.0.0.1:80", "10.0.0.2:80"]));
        let (first, second) = (known.find(&name, 80).await.unwrap(), known.find(&name, 80).await.unwrap());
        assert!(first.len() == 2 && second.len() == 2 && first[0] == second[1] && first[1] == second[0]);
        advance(Duration::from_secs(11)).await;
        assert!(known.fresh().is_none());
        assert_eq!(known.find(&name, 80).await.unwrap().len(), 2, "there is no answer");
        assert!(known.fresh().is_some(), "and it is not asked for at once again");
        known.learn(addresses(&["10.0.0.2:80"]));
        assert!(known.still_has(&first[0]) != known.still_has(&first[1]));
    }
}
