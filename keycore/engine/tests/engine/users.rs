use std::time::{Duration, Instant};

use keycore_engine::PasswordCost;
use keycore_wire::{
    Attributes, KeyAlgorithm, Login, RefusalCode, Role, UserChangePassword, UserCreate, UserDelete, UserList,
};

use crate::harness::{PASSWORD, World, generate, name, random_key, secret};

fn change(user: Option<&str>, current: Option<&str>, new: &str) -> UserChangePassword {
    UserChangePassword { name: user.map(name), current: current.map(secret), new: secret(new) }
}

#[test]
fn only_admins_manage_users_and_only_crypto_users_keys() {
    let (_world, replica) = World::active();
    let (mut admin, mut web) = (replica.client_of("root"), replica.client_of("web"));
    assert_eq!(web.create_user("eve", Role::Admin).unwrap_err().code, RefusalCode::PermissionDenied);
    assert_eq!(web.refused(&UserDelete { name: name("root") }), RefusalCode::PermissionDenied);
    assert_eq!(web.refused(&change(Some("root"), None, "new password")), RefusalCode::PermissionDenied);
    let key = generate(KeyAlgorithm::P256, Attributes::SIGN, "k");
    assert_eq!(admin.refused(&key), RefusalCode::PermissionDenied);
    assert_eq!(web.call(&UserList { after: None, limit: 10 }).unwrap().users.len(), 2);
}

#[test]
fn users_are_created_once_and_listed_in_pages() {
    let (_world, replica) = World::active();
    let mut admin = replica.client_of("root");
    let create = |user: &str, key| UserCreate {
        idempotency_key: key,
        name: name(user),
        role: Role::CryptoUser,
        password: Some(secret(PASSWORD)),
        peer_uid: None,
    };
    let key = random_key();
    let made = admin.call(&create("alice", key)).unwrap();
    assert_eq!(admin.call(&create("alice", key)).unwrap(), made);
    assert_eq!(admin.refused(&create("bob", key)), RefusalCode::AlreadyExists);
    assert_eq!(admin.refused(&create("alice", random_key())), RefusalCode::AlreadyExists);
    // Once alice has a password of her own, the request that made her says nothing about it, whatever it guesses.
    replica.client_of("alice").call(&change(None, Some(PASSWORD), "a password of her own")).unwrap();
    for guess in ["a password of her own", "another password", PASSWORD] {
        let again = UserCreate { password: Some(secret(guess)), ..create("alice", key) };
        assert_eq!(admin.call(&again).unwrap().id, made.id, "{guess}");
    }
    let short = UserCreate { password: Some(secret("1234567")), ..create("carol", random_key()) };
    assert_eq!(admin.refused(&short), RefusalCode::InvalidPassword);

    let (mut names, mut after) = (Vec::new(), None);
    loop {
        let page = admin.call(&UserList { after, limit: 1 }).unwrap();
        assert_eq!(page.users.len(), 1);
        after = page.users.last().map(|user| user.id);
        names.extend(page.users.into_iter().map(|user| user.name.to_string()));
        if !page.more {
            break;
        }
    }
    names.sort();
    assert_eq!(names, ["alice", "root", "web"]);
}

#[test]
fn the_last_admin_and_owners_of_keys_stay() {
    let (_world, replica) = World::active();
    let mut admin = replica.client_of("root");
    assert_eq!(admin.refused(&UserDelete { name: name("root") }), RefusalCode::LastAdmin);
    assert_eq!(admin.refused(&UserDelete { name: name("nobody") }), RefusalCode::NotFound);
    replica.client_of("web").generate(KeyAlgorithm::P256, Attributes::SIGN, "k");
    assert_eq!(admin.refused(&UserDelete { name: name("web") }), RefusalCode::OwnsKeys);

    admin.create_user("root2", Role::Admin).unwrap();
    admin.call(&UserDelete { name: name("root") }).unwrap();
    assert_eq!(admin.refused(&UserList { after: None, limit: 1 }), RefusalCode::SessionEnded);
    let mut other = replica.client_of("root2");
    assert_eq!(other.refused(&UserDelete { name: name("root2") }), RefusalCode::LastAdmin);
}

#[test]
fn a_password_change_needs_the_current_one_and_ends_other_sessions() {
    let (_world, replica) = World::active();
    let (mut one, mut two) = (replica.client_of("web"), replica.client_of("web"));
    assert_eq!(one.refused(&change(None, None, "another password")), RefusalCode::BadCredentials);
    assert_eq!(
        one.refused(&change(None, Some("wrong one"), "another password")),
        RefusalCode::BadCredentials
    );
    assert_eq!(one.refused(&change(None, Some(PASSWORD), "short")), RefusalCode::InvalidPassword);
    one.call(&change(None, Some(PASSWORD), "another password")).unwrap();

    one.call(&UserList { after: None, limit: 1 }).unwrap();
    assert_eq!(two.refused(&UserList { after: None, limit: 1 }), RefusalCode::SessionEnded);
    assert_eq!(two.login("web", PASSWORD).unwrap_err().code, RefusalCode::BadCredentials);
    two.login("web", "another password").unwrap();

    // An admin that names itself needs its current password, too.
    let mut admin = replica.client_of("root");
    assert_eq!(admin.refused(&change(Some("root"), None, "another password")), RefusalCode::BadCredentials);
    admin.call(&change(Some("web"), None, PASSWORD)).unwrap();
    replica.client_of("web");
}

#[test]
fn six_wrong_passwords_lock_until_an_admin_sets_a_new_one() {
    let (_world, replica) = World::active();
    let mut client = replica.client();
    for _ in 0..5 {
        assert_eq!(client.login("web", "wrong one").unwrap_err().code, RefusalCode::BadCredentials);
    }
    client.login("web", PASSWORD).unwrap();
    for _ in 0..6 {
        assert_eq!(client.login("web", "wrong one").unwrap_err().code, RefusalCode::BadCredentials);
    }
    assert_eq!(client.login("web", PASSWORD).unwrap_err().code, RefusalCode::AccountLocked);
    // The session that was open goes on: guessing must not stop a proxy.
    client.call(&UserList { after: None, limit: 1 }).unwrap();

    let mut admin = replica.client_of("root");
    let page = admin.call(&UserList { after: None, limit: 10 }).unwrap();
    assert!(page.users.iter().all(|user| user.locked == (user.name.as_str() == "web")));
    admin.call(&change(Some("web"), None, "another password")).unwrap();
    client.login("web", "another password").unwrap();
}

#[test]
fn parallel_guesses_over_all_replicas_share_one_counter() {
    let (world, first) = World::active();
    let second = world.replica(1);
    let refusals: Vec<_> = std::thread::scope(|scope| {
        let guessers: Vec<_> = (0..12)
            .map(|thread| {
                let replica = if thread % 2 == 0 { &first } else { &second };
                scope.spawn(move || {
                    let mut client = replica.client();
                    [(); 2].map(|()| client.login("web", "wrong one").unwrap_err().code)
                })
            })
            .collect();
        guessers.into_iter().flat_map(|guesser| guesser.join().unwrap()).collect()
    });
    let checked = refusals.iter().filter(|code| **code == RefusalCode::BadCredentials).count();
    let locked = refusals.iter().filter(|code| **code == RefusalCode::AccountLocked).count();
    assert_eq!((checked, locked), (6, 18));
    assert_eq!(second.client().login("web", PASSWORD).unwrap_err().code, RefusalCode::AccountLocked);
}

#[test]
fn right_passwords_at_the_same_time_lock_nobody() {
    let (_world, replica) = World::active();
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| replica.client_of("web"));
        }
    });
    replica.client_of("web");
}

#[test]
fn an_unknown_user_is_told_like_a_wrong_password() {
    let (_world, replica) = World::active();
    let mut client = replica.client();
    let mut refusal =
        |user: &str| client.call(&Login { user: name(user), password: secret("wrong one") }).err().unwrap();
    assert_eq!(refusal("nobody"), refusal("web"));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "what a hash costs is real time")]
fn a_locked_account_costs_a_hash() {
    let (world, cheap) = World::active();
    for _ in 0..6 {
        cheap.client().login("web", "wrong one").unwrap_err();
    }
    let dear = world.open_with(world.store(), world.store(), 1, 7, PasswordCost::default()).unwrap();
    let mut client = dear.client();
    let since = Instant::now();
    assert_eq!(client.login("web", PASSWORD).unwrap_err().code, RefusalCode::AccountLocked);
    // 38 MiB are written on the way; without them it takes a tenth of this.
    assert!(since.elapsed() > Duration::from_millis(4), "{:?}", since.elapsed());
}
