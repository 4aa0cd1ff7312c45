use std::time::Duration;

use keycore_audit::Outcome;
use keycore_wire::{
    ActivateCluster, InitializeCluster, Login, Logout, PeerLogin, Ping, Random, Refusal, RefusalCode, Resume,
    Role, Secret, SessionEnd, SessionHandle, SessionInfo, SessionList, SessionPeer, SessionToken, SessionsOf,
    UserChangePassword, UserDelete, UserLogout, UserSetPeerUid,
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

fn list(client: &mut Client, of: SessionsOf) -> Result<Vec<SessionInfo>, Refusal> {
    client.call(&SessionList { of, after: None, limit: 64 }).map(|page| page.sessions)
}

fn own(client: &mut Client) -> SessionInfo {
    let own = list(client, SessionsOf::Own).unwrap();
    own.into_iter().find(|session| session.current).unwrap()
}

#[test]
fn a_list_has_each_session_once_and_ends_with_its_connections() {
    let (world, replica) = World::active();
    let begun = replica.now().wall;
    let mut web = replica.client();
    let grant = web.login("web", PASSWORD).unwrap();
    let mut again = replica.client();
    again.call(&resume(&grant.token)).unwrap();
    let _other = replica.client_of("web");
    world.pass(HOUR);
    again.call(&Random { length: 1 }).unwrap();
    let used = replica.now().wall;
    world.pass(HOUR);
    web.call(&Ping).unwrap();

    let mut root = replica.client_of("root");
    let listed = list(&mut root, SessionsOf::User(name("web"))).unwrap();
    assert_eq!(listed.len(), 2);
    assert!(listed.is_sorted_by_key(|session| session.handle));
    let session = listed.iter().find(|session| session.connections == 2).unwrap();
    assert_eq!((&session.user, session.role), (&name("web"), Role::CryptoUser));
    assert_eq!((session.issued_at, session.expires_at), (begun, grant.expires_at));
    assert_eq!((session.last_used_at, session.current), (used, false), "a ping is no use");
    assert_eq!(session.peers, [SessionPeer::Process { uid: 1000, gid: 1000, pid: 4242 }]);

    // What a connection asks for and where it is logged in to is up to date.
    assert_eq!(own(&mut again).handle, session.handle);
    again.login("web", PASSWORD).unwrap();
    assert_ne!(own(&mut again).handle, session.handle);
    let handle = session.handle;
    let web_is_listed = |root: &mut Client| {
        list(root, SessionsOf::All).unwrap().into_iter().find(|session| session.handle == handle)
    };
    assert_eq!(web_is_listed(&mut root).unwrap().connections, 1);
    let Client { replica, connection, .. } = web;
    replica.engine.disconnect(connection, replica.now());
    assert_eq!(web_is_listed(&mut root), None);
    // It is good all the same.
    replica.client().call(&resume(&grant.token)).unwrap();
}

#[test]
fn a_list_is_paged_and_others_sessions_are_an_admins_to_see() {
    let (_world, replica) = World::active();
    let (mut root, mut web) = (replica.client_of("root"), replica.client_of("web"));
    let _more: Vec<_> = (0..3).map(|_| replica.client_of("web")).collect();
    let all = list(&mut root, SessionsOf::All).unwrap();
    assert_eq!(all.len(), 5);
    let (mut pages, mut after) = (Vec::new(), None);
    for more in [true, true, false] {
        let page = root.call(&SessionList { of: SessionsOf::All, after, limit: 2 }).unwrap();
        assert_eq!(page.more, more);
        after = page.sessions.last().map(|session| session.handle);
        pages.extend(page.sessions);
    }
    assert_eq!(pages, all.clone());

    let own = list(&mut web, SessionsOf::Own).unwrap();
    assert_eq!(own.len(), 4);
    assert!(own.iter().all(|session| session.user == name("web")));
    assert_eq!(list(&mut web, SessionsOf::User(name("web"))).unwrap().len(), 4);
    for of in [SessionsOf::All, SessionsOf::User(name("root"))] {
        assert_eq!(list(&mut web, of).unwrap_err().code, RefusalCode::PermissionDenied);
    }
    let nobody = list(&mut root, SessionsOf::User(name("nobody"))).unwrap_err();
    assert_eq!(nobody.code, RefusalCode::NotFound);
}

#[test]
fn what_ended_is_not_listed_though_its_connection_is_open() {
    let (world, replica) = World::active();
    let mut root = replica.client_of("root");
    let of_web = |root: &mut Client| list(root, SessionsOf::User(name("web"))).unwrap().len();
    let (mut web, other) = (replica.client_of("web"), replica.client_of("web"));
    assert_eq!(of_web(&mut root), 2);
    // Who sets his own password goes on with it, and alone.
    let new = UserChangePassword { name: None, current: Some(secret(PASSWORD)), new: secret("another one") };
    web.call(&new).unwrap();
    assert_eq!((of_web(&mut root), own(&mut web).connections), (1, 1));
    root.call(&UserLogout { name: name("web") }).unwrap();
    assert_eq!(of_web(&mut root), 0);
    assert!(!works(&mut web));
    drop(other);
    world.pass(13 * HOUR);
    assert_eq!(list(&mut replica.client_of("root"), SessionsOf::All).unwrap().len(), 1);
}

#[test]
fn one_session_is_ended_everywhere_and_the_user_s_others_go_on() {
    let (world, first) = World::active();
    let second = world.replica(1);
    let mut stolen = first.client();
    let token = stolen.login("web", PASSWORD).unwrap().token;
    let mut there = second.client();
    there.call(&resume(&token)).unwrap();
    let mut kept = first.client_of("web");
    let session = own(&mut stolen).handle;

    first.client_of("root").call(&SessionEnd { session }).unwrap();
    assert!(!works(&mut stolen));
    second.follow();
    assert!(!works(&mut there));
    assert_eq!(second.client().refused(&resume(&token)), RefusalCode::SessionEnded);
    assert!(works(&mut kept));
    let expected = format!("session {session}");
    let records = first.audit.map(&first.engine, |entry| {
        (entry.operation == "SessionEnd").then(|| (entry.outcome, entry.detail.to_owned()))
    });
    let records: Vec<_> = records.into_iter().flatten().collect();
    let done = format!("{expected}; of web");
    assert_eq!(records, [(Outcome::Begun, expected), (Outcome::Done, done)]);
    // Once is enough.
    assert_eq!(first.client_of("root").refused(&SessionEnd { session }), RefusalCode::NotFound);
}

#[test]
fn one_ends_ones_own_sessions_and_no_others() {
    let (_world, replica) = World::active();
    let (mut root, mut web) = (replica.client_of("root"), replica.client_of("web"));
    let (mut other, of_root) = (replica.client_of("web"), own(&mut root).handle);
    assert_eq!(web.refused(&SessionEnd { session: of_root }), RefusalCode::NotFound);
    assert_eq!(web.refused(&SessionEnd { session: SessionHandle([7; 16]) }), RefusalCode::NotFound);
    assert!(works(&mut root));
    web.call(&SessionEnd { session: own(&mut other).handle }).unwrap();
    assert!(!works(&mut other));
    // The one that asks is logged out.
    let session = own(&mut web).handle;
    web.call(&SessionEnd { session }).unwrap();
    assert_eq!(web.refused(&Random { length: 1 }), RefusalCode::NotLoggedIn);
}

#[test]
fn a_user_has_so_many_sessions_at_a_replica_and_none_makes_room_for_another() {
    let (world, first) = World::active();
    let set = UserSetPeerUid { name: name("web"), peer_uid: Some(1000) };
    first.client_of("root").call(&set).unwrap();
    let replica = world.limited(1, |options| options.max_user_sessions = 2);
    let (mut proxy, mut other) = (replica.client(), replica.client_of("web"));
    let token = proxy.login("web", PASSWORD).unwrap().token;

    let mut thief = replica.client();
    assert_eq!(thief.login("web", PASSWORD).unwrap_err().code, RefusalCode::TooManySessions);
    assert_eq!(thief.refused(&PeerLogin { user: name("web") }), RefusalCode::TooManySessions);
    assert_eq!(thief.refused(&Random { length: 1 }), RefusalCode::NotLoggedIn);
    assert!(works(&mut proxy) && works(&mut other));
    // A session is counted once, whatever connections it has; one that is new here counts as a login does.
    let mut again = replica.client();
    again.call(&resume(&token)).unwrap();
    let elsewhere = first.client().login("web", PASSWORD).unwrap().token;
    assert_eq!(replica.client().refused(&resume(&elsewhere)), RefusalCode::TooManySessions);
    // Others are not concerned, a new login on the same connection is no further session, and what ended makes room.
    replica.client_of("root");
    other.login("web", PASSWORD).unwrap();
    other.call(&Logout).unwrap();
    replica.client().call(&resume(&elsewhere)).unwrap();
    // Nor does a refused login, or one whose connection is gone, keep a place.
    let _third = replica.client_of("web");
    assert_eq!(list(&mut proxy, SessionsOf::Own).unwrap().len(), 2);
}

const IDLE: Duration = Duration::from_mins(30);

/// A replica on which logins end that are not used for half an hour.
fn impatient(world: &World, number: u16) -> crate::harness::Replica {
    world.limited(number, |options| options.session_idle = IDLE)
}

#[test]
fn a_session_that_is_not_used_ends_and_one_that_is_goes_on() {
    let (world, _) = World::active();
    let replica = impatient(&world, 1);
    let (mut used, mut idle) = (replica.client_of("web"), replica.client_of("web"));
    let a_moment_less = IDLE - Duration::from_millis(1);
    for _ in 0..5 {
        world.pass(a_moment_less);
        assert!(works(&mut used));
        // That the connection lives says nothing of its user.
        idle.call(&Ping).unwrap();
        let listed = used.call(&SessionList { of: SessionsOf::Own, after: None, limit: 9 }).unwrap();
        let idles = listed.sessions.iter().filter(|session| !session.current).count();
        assert_eq!(idles, usize::from(replica.now().mono < Duration::from_secs(1000) + IDLE));
    }
    assert!(!works(&mut idle));
    // It does not come back by being asked again.
    assert!(!works(&mut idle));
    idle.login("web", PASSWORD).unwrap();
    assert!(works(&mut idle));
    let told = replica.audit.map(&replica.engine, |entry| entry.detail.to_owned());
    assert!(told.iter().any(|detail| detail.contains("not used for longer than session-idle")), "{told:?}");
}

#[test]
fn a_token_lasts_as_long_as_it_is_renewed_on_whichever_replica() {
    let (world, _) = World::active();
    let (first, second) = (impatient(&world, 1), impatient(&world, 2));
    let grant = first.client().login("web", PASSWORD).unwrap();
    let mut token = SessionToken(grant.token.0.duplicate());
    for replica in [&second, &first, &second, &first] {
        world.pass(IDLE - Duration::from_millis(1));
        let renewed = replica.client().call(&resume(&token)).unwrap();
        assert_ne!(renewed.token.0.expose(), token.0.expose());
        assert_eq!(renewed.expires_at, grant.expires_at, "never longer than its lifetime");
        token = renewed.token;
    }
    // Those before it were used for the last time when they were given.
    for replica in [&first, &second] {
        let mut client = replica.client();
        let (refused, _) = client.call_where(&resume(&grant.token));
        assert_eq!(refused.unwrap_err().code, RefusalCode::SessionEnded);
    }
    world.pass(IDLE);
    assert_eq!(second.client().refused(&resume(&token)), RefusalCode::SessionEnded);
    // Where nothing ends by that, it is as good as ever, and stays what it is.
    let patient = world.replica(3);
    let same = patient.client().call(&resume(&token)).unwrap().token;
    assert_eq!(same.0.expose(), token.0.expose());
}

#[test]
fn no_idle_time_outlasts_the_lifetime() {
    let (world, _) = World::active();
    let replica = impatient(&world, 1);
    let mut client = replica.client();
    let grant = client.login("web", PASSWORD).unwrap();
    let mut token = grant.token;
    for _ in 0..47 {
        world.pass(IDLE / 2);
        token = client.call(&resume(&token)).unwrap().token;
    }
    world.pass(IDLE / 2);
    assert_eq!(client.refused(&resume(&token)), RefusalCode::SessionEnded);
}

#[test]
fn a_session_that_only_idled_can_be_logged_out_and_its_renewed_copy_ends_with_it() {
    let (world, _) = World::active();
    let (first, second) = (impatient(&world, 1), impatient(&world, 2));
    let owners = first.client().login("web", PASSWORD).unwrap().token;
    let mut thief = second.client();
    world.pass(IDLE / 2);
    let copy = thief.call(&resume(&owners)).unwrap().token;
    world.pass(IDLE / 2);

    let mut owner = first.client();
    assert_eq!(owner.refused(&resume(&owners)), RefusalCode::SessionEnded);
    // Nothing else can be done with it, and it takes nobody's place.
    assert!(!works(&mut owner));
    let own = SessionList { of: SessionsOf::Own, after: None, limit: 9 };
    assert_eq!(owner.refused(&own), RefusalCode::SessionEnded);
    let new = UserChangePassword { name: None, current: Some(secret(PASSWORD)), new: secret("another one") };
    assert_eq!(owner.refused(&new), RefusalCode::SessionEnded);
    assert_eq!(owner.refused(&SessionEnd { session: SessionHandle([7; 16]) }), RefusalCode::SessionEnded);
    let mut root = first.client_of("root");
    assert_eq!(root.refused(&resume(&owners)), RefusalCode::SessionEnded);
    assert!(works(&mut root), "the session that was there stays");
    assert!(works(&mut thief));

    owner.call(&Logout).unwrap();
    assert_eq!(owner.refused(&Logout), RefusalCode::NotLoggedIn);
    second.follow();
    assert!(!works(&mut thief));
    for replica in [&first, &second] {
        let mut client = replica.client();
        assert_eq!(client.refused(&resume(&copy)), RefusalCode::SessionEnded);
        assert_eq!(client.refused(&Logout), RefusalCode::NotLoggedIn, "what was logged out is no session");
    }
}

#[test]
fn a_connection_that_only_idled_can_be_logged_out() {
    let (world, _) = World::active();
    let replica = impatient(&world, 1);
    let mut client = replica.client();
    let token = client.login("web", PASSWORD).unwrap().token;
    world.pass(IDLE / 2);
    let copy = replica.client().call(&resume(&token)).unwrap().token;
    world.pass(IDLE / 2);
    assert!(!works(&mut client));
    client.call(&Logout).unwrap();
    assert_eq!(replica.client().refused(&resume(&copy)), RefusalCode::SessionEnded);
}

#[test]
fn a_revocation_lasts_as_long_as_the_token_whatever_the_lifetime_where_it_was_revoked() {
    let (world, _) = World::active();
    let long = world.limited(1, |options| options.session_lifetime = 30 * 24 * HOUR);
    let short = world.limited(2, |options| options.session_lifetime = HOUR);
    let others = |token: &SessionToken| {
        world.pass(3 * HOUR);
        // Each logout forgets revocations that are needless.
        short.client_of("root").call(&Logout).unwrap();
        long.follow();
        for replica in [&long, &short, &world.replica(3)] {
            assert_eq!(replica.client().refused(&resume(token)), RefusalCode::SessionEnded);
        }
    };

    let issued = long.client().login("web", PASSWORD).unwrap().token;
    let mut client = short.client();
    let resumed = client.call(&resume(&issued)).unwrap();
    assert_eq!(resumed.lifetime_secs, 3600, "no longer here than sessions last here");
    client.call(&Logout).unwrap();
    others(&issued);

    // By the token that the short one gave out, and by an admin.
    let issued = long.client().login("web", PASSWORD).unwrap().token;
    let given = short.client().call(&resume(&issued)).unwrap().token;
    let mut client = short.client();
    client.call(&resume(&given)).unwrap();
    let session = own(&mut client).handle;
    short.client_of("root").call(&SessionEnd { session }).unwrap();
    others(&issued);
}

#[test]
fn a_token_is_of_version_1_until_it_is_renewed_for_a_later_use() {
    let (world, patient) = World::active();
    let second = impatient(&world, 1);
    let shown = |token: &SessionToken| (token.0.expose()[0], token.0.expose().len());
    for replica in [&patient, &second] {
        let token = replica.client().login("web", PASSWORD).unwrap().token;
        assert_eq!(shown(&token), (1, 89), "what replicas know that have no session-idle");
        let same = patient.client().call(&resume(&token)).unwrap().token;
        assert_eq!(same.0.expose(), token.0.expose());
        world.pass(IDLE / 2);
        let renewed = second.client().call(&resume(&token)).unwrap().token;
        assert_eq!(shown(&renewed), (2, 97));
        world.pass(IDLE / 2);
        // It was used when it was issued.
        assert_eq!(second.client().refused(&resume(&token)), RefusalCode::SessionEnded);
        second.client().call(&resume(&renewed)).unwrap();
    }
}
