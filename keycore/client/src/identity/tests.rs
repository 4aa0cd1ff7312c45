use crate::identity::FirstLogin;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keycore_wire::{Refusal, RefusalCode, Role, Secret, SessionGrant, SessionToken, UnixMillis, UserId};

use super::{Credential, Identity, IdentityError};

const MINUTE: Duration = Duration::from_secs(60);

fn write(path: &Path, content: &[u8], mode: u32) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn from_file(path: &Path) -> Result<Arc<Identity>, IdentityError> {
    Identity::from_file("web".parse().unwrap(), path)
}

fn with_password() -> Arc<Identity> {
    Identity::with_password("web".parse().unwrap(), Secret::new(b"password".to_vec()))
}

fn grant(token: &[u8], lifetime_secs: u32) -> SessionGrant {
    SessionGrant {
        user: UserId([0; 16]),
        role: Role::CryptoUser,
        token: SessionToken(Secret::new(token.to_vec())),
        expires_at: UnixMillis(0),
        lifetime_secs,
    }
}

fn password(credential: &Credential) -> &[u8] {
    let Credential::Login { login: FirstLogin::Password(login), .. } = credential else {
        panic!("no password is offered")
    };
    login.password.expose()
}

fn token(credential: &Credential) -> &[u8] {
    let Credential::Resume { resume, .. } = credential else { panic!("no token is offered") };
    resume.token.0.expose()
}

#[test]
fn a_process_logs_in_as_itself_whenever_its_token_is_lost() {
    let identity = Identity::of_this_process("web".parse().unwrap());
    let now = Instant::now();
    for token in [&b"first"[..], b"second"] {
        let credential = identity.credential(now);
        let Credential::Login { login: FirstLogin::Peer(login), permit } = credential else {
            panic!("no login by uid is offered")
        };
        assert_eq!(login.user.as_str(), "web");
        assert!(matches!(identity.credential(now), Credential::Wait));
        let serial = identity.granted(grant(token, 3600), now).serial;
        drop(permit);
        assert!(matches!(identity.credential(now), Credential::Resume { .. }));
        identity.token_refused(serial, &Refusal::new(RefusalCode::SessionEnded, ""), now);
    }
}

#[test]
fn one_newline_at_the_end_is_not_part_of_the_password() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    for (content, expected) in
        [("secret", "secret"), ("secret\n", "secret"), ("two lines\n\n", "two lines\n")]
    {
        write(&path, content.as_bytes(), 0o600);
        let identity = from_file(&path).unwrap();
        assert_eq!(password(&identity.credential(Instant::now())), expected.as_bytes());
    }
}

#[test]
fn files_that_others_may_read_and_things_that_are_no_password_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    for mode in [0o604, 0o602, 0o620, 0o644, 0o666, 0o601] {
        write(&path, b"secret", mode);
        assert!(
            matches!(from_file(&path), Err(IdentityError::TooOpen { mode: found, .. }) if found == mode),
            "{mode:o}"
        );
    }
    for content in [&b""[..], b"\n", &[b'x'; 1025]] {
        write(&path, content, 0o600);
        assert!(matches!(from_file(&path), Err(IdentityError::NotAPassword { .. })));
    }
    assert!(matches!(from_file(dir.path()), Err(IdentityError::NotAPassword { .. })));
    assert!(matches!(from_file(&dir.path().join("absent")), Err(IdentityError::Unreadable { .. })));
}

#[test]
fn one_connection_uses_the_password_while_others_wait_for_its_token() {
    let now = Instant::now();
    let identity = with_password();
    let first = identity.credential(now);
    assert_eq!(password(&first), b"password");
    assert!(matches!(identity.credential(now), Credential::Wait));
    identity.granted(grant(b"token", 100), now);
    drop(first);
    assert_eq!(token(&identity.credential(now)), b"token");
    let late = now + Duration::from_secs(95);
    let renewal = identity.credential(late);
    assert_eq!(password(&renewal), b"password", "nine tenths of its time are over");
    assert_eq!(token(&identity.credential(late)), b"token", "others go on with it meanwhile");
    drop(renewal);
    assert_eq!(password(&identity.credential(now + Duration::from_secs(101))), b"password");
}

#[test]
fn a_permit_that_is_dropped_lets_the_next_one_try() {
    let identity = with_password();
    drop(identity.credential(Instant::now()));
    assert_eq!(password(&identity.credential(Instant::now())), b"password");
}

#[test]
fn a_late_refusal_of_an_old_token_does_not_cost_the_new_one() {
    let now = Instant::now();
    let identity = with_password();
    let old = identity.granted(grant(b"old", 100), now).serial;
    let refusal = Refusal::new(RefusalCode::SessionEnded, "");
    identity.token_refused(old, &refusal, now);
    assert!(identity.token().is_none());
    identity.granted(grant(b"new", 100), now);
    identity.token_refused(old, &refusal, now);
    assert_eq!(identity.token().unwrap().0.expose(), b"new");
}

#[test]
fn pauses_after_wrong_passwords_grow_and_end_with_a_new_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    write(&path, b"wrong", 0o600);
    let identity = from_file(&path).unwrap();
    let refusal = Refusal::new(RefusalCode::BadCredentials, "");
    let mut now = Instant::now();
    for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(password(&identity.credential(now)), b"wrong");
        identity.password_refused(&refusal, now);
        now += MINUTE * pause;
        assert!(
            matches!(identity.credential(now - Duration::from_secs(1)), Credential::Refused(_)),
            "{pause}"
        );
    }
    identity.password_refused(&refusal, now);
    write(&path, b"another", 0o600);
    assert_eq!(password(&identity.credential(now)), b"another");
    fs::remove_file(&path).unwrap();
    assert_eq!(password(&identity.credential(now)), b"another", "what was read once is kept");
}

#[test]
fn a_token_alone_ends_with_its_session() {
    let now = Instant::now();
    let identity = Identity::with_token(SessionToken(Secret::new(b"token".to_vec())));
    let Credential::Resume { serial, .. } = identity.credential(now) else { panic!() };
    identity.token_refused(serial, &Refusal::new(RefusalCode::SessionEnded, "log in again"), now);
    let Credential::Refused(refusal) = identity.credential(now + MINUTE * 99) else { panic!() };
    assert_eq!(refusal.to_string(), "log in again");
}

#[test]
fn debug_shows_no_secret() {
    let shown = format!("{:?}", with_password());
    assert!(shown.contains("web") && !shown.contains("password\""), "{shown}");
}

#[test]
fn identities_are_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Identity>();
}
