use keycore_wire::RefusalCode;

use super::*;

const NOBODY: Option<Role> = None;
const ADMIN: Option<Role> = Some(Role::Admin);
const CRYPTO_USER: Option<Role> = Some(Role::CryptoUser);

/// The specification once more, in another shape: for each action exactly those who may.
const MAY: &[(Action, &[Option<Role>])] = &[
    (Action::Hello, &[NOBODY, ADMIN, CRYPTO_USER]),
    (Action::Ping, &[NOBODY, ADMIN, CRYPTO_USER]),
    (Action::ClusterInfo, &[NOBODY, ADMIN, CRYPTO_USER]),
    (Action::InitializeCluster, &[NOBODY, ADMIN, CRYPTO_USER]),
    (Action::ActivateCluster, &[NOBODY, ADMIN, CRYPTO_USER]),
    (Action::Login, &[NOBODY, ADMIN, CRYPTO_USER]),
    (Action::Resume, &[NOBODY, ADMIN, CRYPTO_USER]),
    (Action::Logout, &[ADMIN, CRYPTO_USER]),
    (Action::UserCreate, &[ADMIN]),
    (Action::UserList, &[ADMIN, CRYPTO_USER]),
    (Action::UserDelete, &[ADMIN]),
    (Action::ChangeOwnPassword, &[ADMIN, CRYPTO_USER]),
    (Action::ChangeOthersPassword, &[ADMIN]),
    (Action::GenerateKey, &[CRYPTO_USER]),
    (Action::ImportKey, &[CRYPTO_USER]),
    (Action::ListKeys, &[CRYPTO_USER]),
    (Action::FindKey, &[CRYPTO_USER]),
    (Action::PublicKey, &[CRYPTO_USER]),
    (Action::DeleteKey, &[CRYPTO_USER]),
    (Action::TlsSign, &[CRYPTO_USER]),
    (Action::Sign, &[CRYPTO_USER]),
    (Action::Random, &[ADMIN, CRYPTO_USER]),
];

fn principal(role: Role) -> Principal {
    Principal { user: UserId([7; 16]), role }
}

#[test]
fn the_table_allows_exactly_what_the_specification_does() {
    assert_eq!(RULES.len(), MAY.len());
    for (action, who) in MAY {
        for role in [NOBODY, ADMIN, CRYPTO_USER] {
            let decision = authorize(*action, role.map(principal)).and_then(Authorized::approve);
            assert_eq!(decision.is_ok(), who.contains(&role), "{action:?} by {role:?}");
        }
    }
}

#[test]
fn every_action_has_one_rule() {
    for (action, _) in MAY {
        assert_eq!(RULES.iter().filter(|rule| rule.action == *action).count(), 1, "{action:?}");
    }
}

#[test]
fn a_refusal_tells_nobody_from_somebody() {
    let code = |actor| authorize(Action::UserCreate, actor).err().unwrap().refusal.code;
    assert_eq!(code(None), RefusalCode::NotLoggedIn);
    assert_eq!(code(Some(principal(Role::CryptoUser))), RefusalCode::PermissionDenied);
}

#[test]
fn a_permission_acts_for_the_user_it_was_given_to() {
    let permission = authorize(Action::Sign, Some(principal(Role::CryptoUser))).unwrap().approve().unwrap();
    assert_eq!(permission.actor().unwrap(), UserId([7; 16]));
    let nobodys = authorize(Action::Ping, None).unwrap().approve().unwrap();
    assert_eq!(nobodys.actor().unwrap_err().refusal.code, RefusalCode::NotLoggedIn);
}
