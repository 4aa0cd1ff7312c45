//! What guessing costs, and logins without a password.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use keycore_engine::{CertificateSha256, Peer};
use keycore_wire::{
    Login, PeerLogin, Random, RefusalCode, Role, UserChangePassword, UserCreate, UserInfo, UserList,
    UserLogout, UserSetPeerUid,
};

use crate::harness::{Client, PASSWORD, Replica, World, name, random_key, secret};

const MINUTE: Duration = Duration::from_mins(1);

/// A connection of a process of `uid`.
fn client_of_uid(replica: &Replica, uid: u32) -> Client {
    client_of(replica, Peer::Local { uid, gid: uid, pid: 1 })
}

/// A connection of a machine.
fn client_at(replica: &Replica, address: &str) -> Client {
    let certificate = CertificateSha256([7; 32]);
    client_of(replica, Peer::Remote { address: address.parse().unwrap(), certificate })
}

fn client_of(replica: &Replica, peer: Peer) -> Client {
    let mut client = replica.stranger();
    client.connection = replica.engine.connect(peer);
    client.call(&keycore_wire::Hello::new("test")).unwrap();
    client
}

fn create(user: &str, password: Option<&str>, peer_uid: Option<u32>) -> UserCreate {
    let password = password.map(secret);
    UserCreate { idempotency_key: random_key(), name: name(user), role: Role::CryptoUser, password, peer_uid }
}

fn peer(user: &str) -> PeerLogin {
    PeerLogin { user: name(user) }
}

#[test]
fn ten_thousand_parallel_guesses_over_all_replicas_check_six() {
    const GUESSES: usize = 10_000;
    let (world, first) = World::active();
    let replicas = [first, world.replica(1), world.replica(2)];
    let checked = || replicas.iter().map(|replica| replica.engine.password_checks()).sum::<u64>();
    let before = checked();
    let (next, told) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for replica in replicas.iter().cycle().take(12) {
            scope.spawn(|| {
                loop {
                    let guess = next.fetch_add(1, Ordering::Relaxed);
                    if guess >= GUESSES {
                        break;
                    }
                    // A peer of its own for each guess: the limit on peers must not be what holds.
                    let mut client = client_of_uid(replica, u32::try_from(guess).unwrap());
                    let login = Login { user: name("web"), password: secret(&format!("guess {guess}")) };
                    match client.refused(&login) {
                        RefusalCode::BadCredentials => told.fetch_add(1, Ordering::Relaxed),
                        RefusalCode::AccountLocked => 0,
                        other => panic!("{other:?}"),
                    };
                }
            });
        }
    });
    assert_eq!((checked() - before, told.into_inner()), (6, 6));
    println!("{GUESSES} guesses over 3 replicas, 6 checked");
}

#[test]
fn a_peer_that_guesses_is_slowed_down_and_others_are_not() {
    let (world, replica) = World::active();
    let mut guesser = client_of_uid(&replica, 1234);
    let guess = |number| Login { user: name(&format!("user-{number}")), password: secret("wrong one") };
    for number in 0..32 {
        assert_eq!(guesser.refused(&guess(number)), RefusalCode::BadCredentials);
    }
    let (refused, inline) = guesser.call_where(&guess(32));
    assert_eq!((refused.unwrap_err().code, inline), (RefusalCode::LoginThrottled, true));
    // Another connection of the same uid is the same peer, a right password nothing better.
    assert_eq!(
        client_of_uid(&replica, 1234).login("web", PASSWORD).unwrap_err().code,
        RefusalCode::LoginThrottled
    );
    client_of_uid(&replica, 1235).login("web", PASSWORD).unwrap();
    world.pass(Duration::from_secs(1));
    assert_eq!(guesser.refused(&guess(33)), RefusalCode::BadCredentials);
    assert_eq!(guesser.refused(&guess(34)), RefusalCode::LoginThrottled);
    world.pass(Duration::from_secs(40));
    guesser.login("web", PASSWORD).unwrap();
}

#[test]
fn remote_guesses_count_against_their_address_or_its_ipv6_network() {
    let (_world, replica) = World::active();
    for (guesser, same, other) in [
        ("192.0.2.7:1000", "[::ffff:192.0.2.7]:2000", "192.0.2.8:1000"),
        ("[2001:db8:0:1::1]:1000", "[2001:db8:0:1:ffff::2]:1000", "[2001:db8:0:2::1]:1000"),
    ] {
        let mut client = client_at(&replica, guesser);
        for number in 0..32 {
            let guess = Login { user: name(&format!("user-{number}")), password: secret("wrong one") };
            assert_eq!(client.refused(&guess), RefusalCode::BadCredentials);
        }
        let throttled = client_at(&replica, same).login("web", PASSWORD).unwrap_err().code;
        assert_eq!(throttled, RefusalCode::LoginThrottled, "{same}");
        client_at(&replica, other).login("web", PASSWORD).unwrap();
    }
    client_of_uid(&replica, 0).login("web", PASSWORD).unwrap();
}

#[test]
fn a_remote_client_has_no_uid_to_log_in_by() {
    let (_world, replica) = World::active();
    replica.client_of("root").call(&create("proxy", None, Some(0))).unwrap();
    client_of_uid(&replica, 0).call(&peer("proxy")).unwrap();
    let mut remote = client_at(&replica, "127.0.0.1:1000");
    assert_eq!(remote.refused(&peer("proxy")), RefusalCode::BadCredentials);
    assert_eq!(remote.refused(&peer("web")), RefusalCode::BadCredentials);
}

#[test]
fn an_admins_account_opens_again_by_itself_and_a_crypto_users_does_not() {
    let (world, replica) = World::active();
    let mut client = replica.client();
    for user in ["root", "web"] {
        for _ in 0..6 {
            assert_eq!(client.login(user, "wrong one").unwrap_err().code, RefusalCode::BadCredentials);
        }
        assert_eq!(client.login(user, PASSWORD).unwrap_err().code, RefusalCode::AccountLocked);
    }
    // One attempt after each pause, and each wrong one doubles it: minutes since the last wrong one, and what comes of it.
    for (pause, wrong) in [(15, true), (30, true), (60, true), (120, false)] {
        world.pass(pause * MINUTE - Duration::from_millis(1));
        assert_eq!(client.login("root", PASSWORD).unwrap_err().code, RefusalCode::AccountLocked, "{pause}");
        world.pass(Duration::from_millis(1));
        if wrong {
            assert_eq!(client.login("root", "wrong one").unwrap_err().code, RefusalCode::BadCredentials);
        } else {
            client.login("root", PASSWORD).unwrap();
        }
    }
    world.pass(Duration::from_hours(1000));
    assert_eq!(client.login("web", PASSWORD).unwrap_err().code, RefusalCode::AccountLocked);
}

#[test]
fn a_local_user_logs_in_by_its_uid_alone() {
    let (world, replica) = World::active();
    let mut admin = replica.client_of("root");
    let info: UserInfo = admin.call(&create("proxy", None, Some(990))).unwrap();
    assert_eq!((info.password, info.peer_uid), (false, Some(990)));
    assert_eq!(admin.refused(&create("second", None, Some(990))), RefusalCode::AlreadyExists);
    assert_eq!(admin.refused(&create("none", None, None)), RefusalCode::NoCredential);

    let mut proxy = client_of_uid(&replica, 990);
    let grant = proxy.call(&peer("proxy")).unwrap();
    assert_eq!((grant.user, grant.role), (info.id, Role::CryptoUser));
    proxy.call(&Random { length: 1 }).unwrap();
    // Its token is as good as any other, on every replica.
    client_of_uid(&world.replica(1), 990).call(&peer("proxy")).unwrap();

    assert_eq!(client_of_uid(&replica, 991).refused(&peer("proxy")), RefusalCode::BadCredentials);
    assert_eq!(client_of_uid(&replica, 0).refused(&peer("proxy")), RefusalCode::BadCredentials);
    assert_eq!(client_of_uid(&replica, 990).refused(&peer("web")), RefusalCode::BadCredentials);
    let mut client = replica.client();
    assert_eq!(client.login("proxy", PASSWORD).unwrap_err().code, RefusalCode::BadCredentials);

    // Taken away, its sessions end; a user keeps one way in at least.
    let set = |peer_uid| UserSetPeerUid { name: name("proxy"), peer_uid };
    assert_eq!(admin.refused(&set(None)), RefusalCode::NoCredential);
    let password = UserChangePassword { name: Some(name("proxy")), current: None, new: secret(PASSWORD) };
    admin.call(&password).unwrap();
    assert_eq!(admin.call(&set(None)).unwrap().peer_uid, None);
    assert_eq!(proxy.refused(&Random { length: 1 }), RefusalCode::SessionEnded);
    assert_eq!(client_of_uid(&replica, 990).refused(&peer("proxy")), RefusalCode::BadCredentials);
    // Free again.
    admin.call(&create("second", None, Some(990))).unwrap();
}

#[test]
fn an_admin_logs_a_user_out_on_every_replica() {
    let (world, first) = World::active();
    let second = world.replica(1);
    let (mut here, mut there) = (first.client_of("web"), second.client_of("web"));
    first.follow();
    first.client_of("root").call(&UserLogout { name: name("web") }).unwrap();
    assert_eq!(here.refused(&Random { length: 1 }), RefusalCode::SessionEnded);
    second.follow();
    assert_eq!(there.refused(&Random { length: 1 }), RefusalCode::SessionEnded);
    there.login("web", PASSWORD).unwrap();
    let web = first.client_of("web").refused(&UserLogout { name: name("root") });
    assert_eq!(web, RefusalCode::PermissionDenied);
    assert_eq!(first.client_of("web").call(&UserList { after: None, limit: 9 }).unwrap().users.len(), 2);
}
