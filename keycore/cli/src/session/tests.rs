use std::os::unix::fs::PermissionsExt;

use keycore_wire::{Role, UnixMillis, UserId};

use super::*;

const CLUSTER: ClusterId = ClusterId([1; 16]);

fn sessions() -> (tempfile::TempDir, Sessions) {
    let base = tempfile::tempdir().unwrap();
    let sessions = Sessions { directory: base.path().join("hsm") };
    (base, sessions)
}

fn user(name: &str) -> UserName {
    name.parse().unwrap()
}

fn grant(lifetime_secs: u32) -> SessionGrant {
    SessionGrant {
        user: UserId([2; 16]),
        role: Role::Admin,
        token: SessionToken(Secret::new(b"\xfftoken".to_vec())),
        expires_at: UnixMillis(0),
        lifetime_secs,
    }
}

#[test]
fn a_session_is_kept_for_its_user_and_cluster() {
    let (_base, sessions) = sessions();
    assert!(sessions.find(CLUSTER, None).unwrap().is_none(), "no directory yet");
    sessions.keep(CLUSTER, &user("alice"), &grant(60)).unwrap();
    let found = sessions.find(CLUSTER, None).unwrap().expect("the only one");
    assert_eq!((found.user.as_str(), found.token.0.expose()), ("alice", &b"\xfftoken"[..]));
    assert!(sessions.find(CLUSTER, Some(&user("bob"))).unwrap().is_none());
    assert!(sessions.find(ClusterId([9; 16]), None).unwrap().is_none());
    found.forget().unwrap();
    assert!(sessions.find(CLUSTER, Some(&user("alice"))).unwrap().is_none());
    found.forget().unwrap();
}

#[test]
fn files_and_directory_are_private() {
    let (_base, sessions) = sessions();
    sessions.keep(CLUSTER, &user("alice"), &grant(60)).unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let path = sessions.path(CLUSTER, &user("alice"));
    assert_eq!((mode(&sessions.directory), mode(&path)), (0o700, 0o600));

    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    assert!(matches!(sessions.find(CLUSTER, None), Err(Failure::Exposed { .. })));
    std::fs::set_permissions(&sessions.directory, PermissionsExt::from_mode(0o755)).unwrap();
    assert!(matches!(sessions.keep(CLUSTER, &user("x"), &grant(60)), Err(Failure::Exposed { .. })));
}

#[test]
fn a_link_is_not_followed() {
    let (base, sessions) = sessions();
    sessions.keep(CLUSTER, &user("alice"), &grant(60)).unwrap();
    let path = sessions.path(CLUSTER, &user("alice"));
    let elsewhere = base.path().join("elsewhere");
    std::fs::rename(&path, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    assert!(sessions.find(CLUSTER, Some(&user("alice"))).is_err());
}

#[test]
fn an_ended_session_is_removed() {
    let (_base, sessions) = sessions();
    sessions.keep(CLUSTER, &user("alice"), &grant(0)).unwrap();
    assert!(sessions.find(CLUSTER, Some(&user("alice"))).unwrap().is_none());
    assert!(!sessions.path(CLUSTER, &user("alice")).exists());
}

#[test]
fn with_several_sessions_the_user_must_be_named() {
    let (_base, sessions) = sessions();
    for name in ["alice", "web"] {
        sessions.keep(CLUSTER, &user(name), &grant(60)).unwrap();
    }
    let Err(failure) = sessions.find(CLUSTER, None) else { panic!("one of two was chosen") };
    assert!(failure.to_string().contains("alice or web"), "{failure}");
}

#[test]
fn a_renewed_token_takes_the_place_of_the_one_that_was_used_but_not_of_a_logout() {
    let (_base, sessions) = sessions();
    sessions.keep(CLUSTER, &user("alice"), &grant(60)).unwrap();
    let session = sessions.find(CLUSTER, None).unwrap().unwrap();
    let renewed = SessionToken(Secret::new(b"renewed".to_vec()));
    session.renew(&renewed).unwrap();
    let found = sessions.find(CLUSTER, None).unwrap().unwrap();
    assert_eq!((found.token.0.expose(), found.expires_at), (&b"renewed"[..], session.expires_at));
    found.forget().unwrap();
    session.renew(&renewed).unwrap();
    assert!(sessions.find(CLUSTER, None).unwrap().is_none());
}

#[test]
fn only_the_token_that_was_resumed_is_replaced_or_forgotten() {
    let (_base, sessions) = sessions();
    sessions.keep(CLUSTER, &user("alice"), &grant(60)).unwrap();
    let [first, second] = [(), ()].map(|()| sessions.find(CLUSTER, None).unwrap().unwrap());
    let token = |text: &str| SessionToken(Secret::new(text.into()));
    first.renew(&token("first")).unwrap();
    second.renew(&token("second")).unwrap();
    second.forget_if_kept().unwrap();
    let found = sessions.find(CLUSTER, None).unwrap().unwrap();
    assert_eq!(found.token.0.expose(), b"first");
    found.forget_if_kept().unwrap();
    assert!(sessions.find(CLUSTER, None).unwrap().is_none());
}

#[test]
fn files_of_other_names_are_no_sessions() {
    let (_base, sessions) = sessions();
    sessions.keep(CLUSTER, &user("alice"), &grant(60)).unwrap();
    let path = sessions.path(CLUSTER, &user("alice"));
    // What earlier versions wrote first, and what this one does, half of it.
    std::fs::copy(&path, sessions.path(CLUSTER, &user("alice.123.new"))).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    std::fs::write(path.with_file_name(format!(".{name}.123.new")), "{").unwrap();
    assert_eq!(sessions.find(CLUSTER, None).unwrap().unwrap().user, user("alice"));
    assert!(sessions.find(CLUSTER, Some(&user("alice.123.new"))).unwrap().is_none());
}

#[test]
fn a_session_is_whole_after_a_renewal_that_failed() {
    let (_base, sessions) = sessions();
    sessions.keep(CLUSTER, &user("alice"), &grant(60)).unwrap();
    let session = sessions.find(CLUSTER, None).unwrap().unwrap();
    let path = sessions.path(CLUSTER, &user("alice"));
    let name = path.file_name().unwrap().to_str().unwrap();
    let temporary = path.with_file_name(format!(".{name}.{}.new", std::process::id()));
    std::fs::create_dir(&temporary).unwrap();
    assert!(session.renew(&SessionToken(Secret::new(b"renewed".to_vec()))).is_err());
    let found = sessions.find(CLUSTER, None).unwrap().unwrap();
    assert_eq!(found.token.0.expose(), session.token.0.expose());
}

#[test]
fn a_command_that_stopped_in_its_turn_keeps_none_from_working() {
    let (_base, sessions) = sessions();
    sessions.keep(CLUSTER, &user("alice"), &grant(60)).unwrap();
    let _stopped = Turn::wait(&sessions.directory);
    let session = sessions.find(CLUSTER, None).unwrap().unwrap();
    session.forget().unwrap();
    assert!(sessions.find(CLUSTER, None).unwrap().is_none());
}
