use keycore_wire::RefusalCode;

use super::*;

const USER: UserId = UserId([7; 16]);

fn asker(role: Role) -> Asker {
    Asker::User(Principal { user: USER, role, session: None })
}

#[test]
fn a_refusal_tells_nobody_from_somebody() {
    let code = |asker| authorize(Action::UserCreate, asker).err().unwrap().refusal.code;
    assert_eq!(code(Asker::Nobody), RefusalCode::NotLoggedIn);
    assert_eq!(code(Asker::PreOfficer), RefusalCode::NotLoggedIn);
    assert_eq!(code(asker(Role::CryptoUser)), RefusalCode::PermissionDenied);
}

#[test]
fn a_permission_acts_for_the_user_it_was_given_to() {
    let permission = |asker| Permission { asker, approval: None };
    assert_eq!(permission(asker(Role::CryptoUser)).actor().unwrap(), USER);
    for nobody in [Asker::Nobody, Asker::PreOfficer] {
        assert_eq!(permission(nobody).actor().unwrap_err().refusal.code, RefusalCode::NotLoggedIn);
    }
}

#[test]
fn only_an_activation_makes_nobody_the_pre_officer() {
    assert_eq!(Asker::of(Action::ActivateCluster, None), Asker::PreOfficer);
    assert_eq!(Asker::of(Action::UserCreate, None), Asker::Nobody);
    let admin = Principal { user: USER, role: Role::Admin, session: None };
    assert_eq!(Asker::of(Action::ActivateCluster, Some(admin)), Asker::User(admin));
}
