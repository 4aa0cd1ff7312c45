use super::ring::{Origin, Ring};
use super::ticketer::Ticketer;
use super::*;

const SESSION: &[u8] = b"a session's secrets";

fn shared(periods: &[u64], now: u64) -> Ring {
    let mut ring = Ring::default();
    for &period in periods {
        ring.insert(period, &TicketSecret::new([u8::try_from(period).unwrap(); 32]));
    }
    ring.advance(now);
    ring
}

fn ticketer(context: u8) -> Ticketer {
    Ticketer::new(TicketKeys::new().unwrap(), [context; 32])
}

#[test]
fn a_ticket_is_good_with_another_proxy_of_the_same_keys() {
    let ticket = ticketer(1).seal(&shared(&[10, 11], 10), SESSION).unwrap();
    assert_eq!(ticketer(1).open(&shared(&[10, 11], 10), &ticket).as_deref(), Some(SESSION));
    // Another, whose clock is behind, and one that has just begun the next period.
    assert_eq!(ticketer(1).open(&shared(&[9, 10], 9), &ticket).as_deref(), Some(SESSION));
    assert_eq!(ticketer(1).open(&shared(&[10, 11, 12], 11), &ticket).as_deref(), Some(SESSION));
    assert_ne!(ticketer(1).seal(&shared(&[10], 10), SESSION).unwrap(), ticket, "no two are the same");
}

#[test]
fn a_ticket_is_good_for_the_next_period_and_no_longer() {
    let mut ring = shared(&[10], 10);
    let ticket = ticketer(1).seal(&ring, SESSION).unwrap();
    for (now, good) in [(11, true), (12, false)] {
        ring.insert(now, &TicketSecret::new([u8::try_from(now).unwrap(); 32]));
        ring.advance(now);
        assert_eq!(ticketer(1).open(&ring, &ticket).is_some(), good, "in period {now}");
    }
}

#[test]
fn a_ticket_of_another_policy_key_or_content_is_none() {
    let ring = shared(&[10], 10);
    let ticket = ticketer(1).seal(&ring, SESSION).unwrap();
    assert_eq!(ticketer(2).open(&ring, &ticket), None, "another policy");
    assert_eq!(ticketer(1).open(&shared(&[11], 11), &ticket), None, "another key");
    for at in 0..ticket.len() {
        let mut changed = ticket.clone();
        changed[at] ^= 1;
        assert_eq!(ticketer(1).open(&ring, &changed), None, "byte {at}");
        assert_eq!(ticketer(1).open(&ring, &ticket[..at]), None, "the first {at} bytes");
    }
}

#[test]
fn what_is_at_hand_goes_on_while_no_engine_gives_a_key() {
    let mut ring = shared(&[10], 10);
    let ticket = ticketer(1).seal(&ring, SESSION).unwrap();
    ring.advance(13);
    assert!(ticketer(1).open(&ring, &ticket).is_some());
    let later = ticketer(1).seal(&ring, SESSION).unwrap();
    ring.insert(13, &TicketSecret::new([13; 32]));
    ring.advance(13);
    assert_eq!(ticketer(1).open(&ring, &later), None, "the old key is gone as soon as there is a new one");
}

#[test]
fn own_keys_change_with_time_and_give_way_to_shared_ones() {
    let mut ring = Ring::default();
    ring.make_own(10).unwrap();
    let own = ticketer(1).seal(&ring, SESSION).unwrap();
    ring.insert(10, &TicketSecret::new([10; 32]));
    ring.advance(10);
    let ticket = ticketer(1).seal(&ring, SESSION).unwrap();
    assert!(ticketer(1).open(&shared(&[10], 10), &ticket).is_some(), "made with the shared key");
    assert!(ticketer(1).open(&ring, &own).is_some(), "what was made before is still good");
    ring.make_own(11).unwrap();
    ring.make_own(12).unwrap();
    assert!(ticketer(1).open(&ring, &own).is_none() && !ring.has(10, Origin::Own));
}

/// Engines that give keys, or don't.
struct Source(fn(u64, bool) -> Result<Option<TicketSecret>, TicketSecretError>);

impl KeySource for Source {
    fn signing_key(
        &self,
        _: &rustls::pki_types::SubjectPublicKeyInfoDer<'_>,
    ) -> Result<Arc<dyn rustls::sign::SigningKey>, crate::keys::KeyError> {
        Err(crate::keys::KeyError::Mismatch)
    }

    fn ticket_secret(&self, period: u64, make: bool) -> crate::keys::Asked<'_, Option<TicketSecret>> {
        Box::pin(std::future::ready((self.0)(period, make)))
    }
}

#[tokio::test]
async fn keys_of_three_periods_are_fetched_and_only_those_to_come_are_made() {
    let keys = TicketKeys::new().unwrap();
    let source = Source(|period, make| Ok((make || period == 9).then(|| TicketSecret::new([7; 32]))));
    assert!(keys.fetch(&source, 10).await);
    assert!((9..=11).all(|period| keys.ring().has(period, Origin::Engines)));
    let source = Source(|_, make| Ok(make.then(|| TicketSecret::new([7; 32]))));
    let keys = TicketKeys::new().unwrap();
    assert!(keys.fetch(&source, 10).await);
    assert!(!keys.ring().has(9, Origin::Engines));
}

#[tokio::test]
async fn whoever_gets_no_keys_has_his_own() {
    for (answer, settled) in [
        (Source(|_, _| Err(TicketSecretError::Refused("no".to_owned()))), true),
        (Source(|_, _| Err(TicketSecretError::NotOffered)), true),
        (Source(|_, _| Err(TicketSecretError::Unreachable("no".to_owned()))), false),
    ] {
        let keys = TicketKeys::new().unwrap();
        assert_eq!(keys.fetch(&answer, period_now()).await, settled);
        let ticketer = keys.ticketer(&TlsPolicy::default());
        let ticket = ticketer.encrypt(SESSION).unwrap();
        assert_eq!(ticketer.decrypt(&ticket).as_deref(), Some(SESSION));
    }
}
