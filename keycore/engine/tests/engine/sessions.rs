use std::time::Duration;

use keycore_wire::{
    ActivateCluster, InitializeCluster, Login, Logout, Random, RefusalCode, Resume, Role, Secret,
    SessionToken, UserDelete,
};

use crate::harness::{Client, PASSWORD, World, name, secret};

const HOUR: Duration = Duration::from_hours(1);

fn resume(token: &SessionToken) -> Resume {
    Resume { token: SessionToken(token.0.duplicate()) }
}

fn works(client: &mut Client) -> bool {
    match client.call(&Random { length: 1 }) {
        Ok(_) => true,
        Err(refusal) => {
            assert_eq!(refusal.code, RefusalCode::SessionEnded);
            false
        }
    }
}

#[test]
fn a_token_is_good_on_every_replica() {
    let (world, first) = World::active();
    let second = world.replica(1);
    let grant = first.client().login("web", PASSWORD).unwrap();
    let mut client = second.client();
    let (resumed, inline) = client.call_where(&resume(&grant.token));
    let resumed = resumed.unwrap();
    assert!(inline, "resuming must not take a worker");
    assert_eq!((resumed.user, resumed.role, resumed.expires_at), (grant.user, grant.role, grant.expires_at));
    assert!(works(&mut client));
}

#[test]
fn a_token_of_a_moment_ago_is_good_before_the_replica_follows() {
    let world = World::new();
    let (first, second) = (world.replica(0), world.replica(1));
    let mut client = first.client();
    client.call(&InitializeCluster).unwrap();
    client.call(&ActivateCluster { admin: name("root"), password: secret(PASSWORD) }).unwrap();
    let grant = client.login("root", PASSWORD).unwrap();
    let mut there = second.client();
    there.call(&resume(&grant.token)).unwrap();
    assert!(works(&mut there));
    // And a logged-out one is none.
    client.call(&Logout).unwrap();
    second.follow();
    assert_eq!(second.client().refused(&resume(&grant.token)), RefusalCode::SessionEnded);
}

#[test]
fn resuming_never_makes_a_session_longer() {
    let (world, replica) = World::active();
    let mut client = replica.client();
    let grant = client.login("web", PASSWORD).unwrap();
    world.pass(11 * HOUR);
    let resumed = client.call(&resume(&grant.token)).unwrap();
    assert_eq!((resumed.expires_at, resumed.lifetime_secs), (grant.expires_at, 3600));
    world.pass(HOUR - Duration::from_millis(1));
    assert!(works(&mut client));
    world.pass(Duration::from_millis(1));
    assert!(!works(&mut client));
    assert_eq!(client.refused(&resume(&resumed.token)), RefusalCode::SessionEnded);
}

#[test]
fn a_changed_token_is_none() {
    let (_world, replica) = World::active();
    let mut client = replica.client();
    let token = client.login("web", PASSWORD).unwrap().token;
    let bytes = token.0.expose();
    for at in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1;
        let changed = SessionToken(Secret::new(changed));
        assert_eq!(replica.client().refused(&resume(&changed)), RefusalCode::SessionEnded, "byte {at}");
    }
    for length in [0, 1, bytes.len() - 1] {
        let cut = SessionToken(Secret::new(bytes[..length].to_vec()));
        assert_eq!(replica.client().refused(&resume(&cut)), RefusalCode::SessionEnded);
    }
    let long = SessionToken(Secret::new(vec![1; 257]));
    assert_eq!(replica.client().refused(&resume(&long)), RefusalCode::Malformed);
}

#[test]
fn logout_ends_the_session_everywhere() {
    let (world, first) = World::active();
    let second = world.replica(1);
    let mut here = first.client();
    let token = here.login("web", PASSWORD).unwrap().token;
    let mut there = second.client();
    there.call(&resume(&token)).unwrap();

    here.call(&Logout).unwrap();
    assert_eq!(here.refused(&Random { length: 1 }), RefusalCode::NotLoggedIn);
    assert_eq!(first.client().refused(&resume(&token)), RefusalCode::SessionEnded);
    assert!(second.follow());
    assert!(!works(&mut there));
    assert_eq!(second.client().refused(&resume(&token)), RefusalCode::SessionEnded);
    // A replica that starts later knows, too.
    assert_eq!(world.replica(2).client().refused(&resume(&token)), RefusalCode::SessionEnded);
    assert!(works(&mut first.client_of("web")));
}

#[test]
fn a_deleted_user_is_out_after_one_follow() {
    let (world, first) = World::active();
    let second = world.replica(1);
    first.client_of("root").create_user("guest", Role::CryptoUser).unwrap();
    second.follow();
    let mut guest = second.client_of("guest");
    first.follow();
    first.client_of("root").call(&UserDelete { name: name("guest") }).unwrap();
    second.follow();
    assert!(!works(&mut guest));
    // A new user of the old name inherits nothing.
    first.client_of("root").create_user("guest", Role::CryptoUser).unwrap();
    second.follow();
    assert!(!works(&mut guest));
}

#[test]
fn needless_revocations_are_forgotten() {
    let (world, replica) = World::active();
    let kind = keycore_store::Kind(3);
    for _ in 0..3 {
        replica.client_of("web").call(&Logout).unwrap();
    }
    assert_eq!(world.store().count(kind, None).unwrap(), 3);
    world.pass(14 * HOUR);
    replica.client_of("web").call(&Logout).unwrap();
    assert_eq!(world.store().count(kind, None).unwrap(), 1);
}

#[test]
fn a_stranger_queues_nothing_long() {
    let (_world, replica) = World::active();
    let mut client = replica.client();
    let login = |length| Login { user: name("web"), password: Secret::new(vec![b'a'; length]) };
    assert_eq!(client.refused(&login(900)), RefusalCode::BadCredentials);
    let (refused, inline) = client.call_where(&login(100_000));
    assert_eq!((refused.unwrap_err().code, inline), (RefusalCode::Malformed, true));
    client.login("web", PASSWORD).unwrap();
}
