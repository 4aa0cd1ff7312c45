//! Users and their passwords.

use aws_lc_rs::rand;
use keycore_store::Revision;
use keycore_wire::{
    MAX_PAGE, RefusalCode, Role, Secret, UserChangePassword, UserCreate, UserDelete, UserId, UserInfo,
    UserList, UserLogout, UserName, UserPage, UserSetPeerUid,
};

use crate::denial::Denial;
use crate::engine::Engine;
use crate::ledger::{Opened, Transaction};
use crate::login::{self, Checked};
use crate::options::Now;
use crate::password;
use crate::policy::Permission;
use crate::quorum::{
    self,
    reach::{self, Loss},
};
use crate::records::{Content, PasswordHash, PublicKeyPart, User};
use crate::seal::{SealingKeys, TagOf};
use crate::session::Session;
use crate::snapshot::{KnownUser, user_record};

/// Scope of tags that are unique in the cluster.
const CLUSTER_WIDE: [u8; 16] = [0; 16];

/// A new user's id.
pub(crate) fn new_id() -> Result<UserId, Denial> {
    let mut id = [0; 16];
    rand::fill(&mut id)?;
    Ok(UserId(id))
}

/// Makes a user.
pub(crate) fn create(
    engine: &Engine,
    permission: &Permission,
    request: &UserCreate,
    now: Now,
) -> Result<UserInfo, Denial> {
    let actor = permission.actor()?;
    let made_by = (actor, request.idempotency_key);
    if let Some(made) = engine.transact(|records| find_made(records, made_by))? {
        return repeat_create(request, &made);
    }
    let password = request.password.as_ref().map(Secret::expose);
    let new = User {
        password: password.map(|new| password::hash(new, engine.options.password_cost)).transpose()?,
        peer_uid: request.peer_uid,
        made_by: Some(made_by),
        ..User::new(request.name.clone(), request.role, now)
    };
    check_credential(&new)?;
    let id = new_id()?;
    let earlier = engine.transact_as(permission, |records| {
        if let Some(made) = find_made(records, made_by)? {
            return Ok(Some(made));
        }
        acting(records, actor)?;
        let tag = name_tag(records.keys(), &new.name);
        if records.is_taken(User::KIND, &tag)? {
            return Err(Denial::new(RefusalCode::AlreadyExists, "a user has this name already"));
        }
        check_peer_uid(records, new.peer_uid)?;
        if records.count::<User>(None)? >= engine.options.max_users {
            return Err(Denial::new(
                RefusalCode::LimitReached,
                "the cluster has as many users as it may have",
            ));
        }
        put(records, id, None, &new)?;
        Ok(None)
    })?;
    match earlier {
        Some(made) => repeat_create(request, &made),
        None => Ok(KnownUser::from(&new).info(id)),
    }
}

/// A page of users.
pub(crate) fn list(engine: &Engine, _permission: &Permission, request: UserList) -> Result<UserPage, Denial> {
    let limit = usize::from(request.limit.clamp(1, MAX_PAGE));
    let mut found =
        engine.transact(|records| records.scan::<User>(None, request.after.map(user_record), limit + 1))?;
    let more = found.len() > limit;
    found.truncate(limit);
    let users = found.iter().map(|user| KnownUser::from(&user.content).info(UserId(user.id.0))).collect();
    Ok(UserPage { users, more })
}

/// Deletes a user, unless it owns keys or is the last admin.
pub(crate) fn delete(engine: &Engine, permission: &Permission, request: &UserDelete) -> Result<(), Denial> {
    let actor = permission.actor()?;
    engine.transact_as(permission, |records| {
        acting(records, actor)?;
        let user = find(records, &request.name)?.ok_or_else(Denial::no_user)?;
        let keys = records.keys().group_tag(TagOf::KeyOwner, &user.id.0);
        if records.count::<PublicKeyPart>(Some(&keys))? > 0 {
            return Err(Denial::new(RefusalCode::OwnsKeys, "the user still owns keys; delete them first"));
        }
        if user.content.role == Role::Admin && admins(records)?.len() < 2 {
            return Err(Denial::new(RefusalCode::LastAdmin, "the last admin can't be deleted"));
        }
        let id = UserId(user.id.0);
        match user.content.role {
            Role::Admin => quorum::check_reachable_without(records, id)?,
            Role::CryptoUser => reach::check_keys_of(records, id, Loss::User(id))?,
            Role::ApplianceUser => {}
        }
        records.delete::<User>(user.id, user.version);
        Ok(())
    })
}

/// Sets one's own password. Returns the session that this connection goes on with; all others have ended.
pub(crate) fn change_own_password(
    engine: &Engine,
    permission: &Permission,
    request: &UserChangePassword,
    session: &Session,
    now: Now,
) -> Result<Session, Denial> {
    let actor = permission.actor()?;
    let Some(current) = &request.current else {
        return Err(Denial::bad_credentials("no current password was given"));
    };
    let name = {
        let snapshot = engine.snapshot();
        let user = snapshot.users.get(&actor).ok_or_else(|| Denial::session_ended("the user was deleted"))?;
        (*user.name).clone()
    };
    let new = password::hash(request.new.expose(), engine.options.password_cost)?;
    let _turn = engine.login_turn(name.as_str());
    let Checked { id, credential, .. } = login::check_password(engine, &name, current.expose(), now)?;
    if id != actor {
        return Err(Denial::session_ended("the user was deleted"));
    }
    let mut new = Some(new);
    let credential = engine.transact(|records| {
        let user = records.load::<User>(user_record(id))?.ok_or_else(Denial::no_user)?;
        if user.content.credential != credential {
            return Err(Denial::bad_credentials("the password was changed meanwhile"));
        }
        set_password(records, user, &mut new, engine, request.new.expose())
    })?;
    Ok((*session).with_credential(credential))
}

/// Sets another user's password, which also unlocks the account.
pub(crate) fn change_others_password(
    engine: &Engine,
    permission: &Permission,
    request: &UserChangePassword,
) -> Result<(), Denial> {
    let actor = permission.actor()?;
    let name = request.name.as_ref().ok_or_else(Denial::no_user)?;
    let mut new = Some(password::hash(request.new.expose(), engine.options.password_cost)?);
    engine.transact_as(permission, |records| {
        acting(records, actor)?;
        let user = find(records, name)?.ok_or_else(Denial::no_user)?;
        set_password(records, user, &mut new, engine, request.new.expose()).map(|_| ())
    })
}

/// Sets or takes away the uid whose processes are this user. Sessions end: they may be of the uid that was.
pub(crate) fn set_peer_uid(
    engine: &Engine,
    permission: &Permission,
    request: &UserSetPeerUid,
) -> Result<UserInfo, Denial> {
    let actor = permission.actor()?;
    engine.transact_as(permission, |records| {
        acting(records, actor)?;
        let mut user = find(records, &request.name)?.ok_or_else(Denial::no_user)?;
        if request.peer_uid != user.content.peer_uid {
            check_peer_uid(records, request.peer_uid)?;
        }
        user.content.peer_uid = request.peer_uid;
        user.content.credential += 1;
        check_credential(&user.content)?;
        put(records, UserId(user.id.0), Some(user.version), &user.content)?;
        Ok(KnownUser::from(&user.content).info(UserId(user.id.0)))
    })
}

/// Ends all sessions of a user, on every replica.
pub(crate) fn log_out(engine: &Engine, permission: &Permission, request: &UserLogout) -> Result<(), Denial> {
    let actor = permission.actor()?;
    engine.transact(|records| {
        acting(records, actor)?;
        let mut user = find(records, &request.name)?.ok_or_else(Denial::no_user)?;
        user.content.credential += 1;
        put(records, UserId(user.id.0), Some(user.version), &user.content)
    })
}

/// Will write a user with all its tags.
pub(crate) fn put(
    records: &mut Transaction<'_>,
    id: UserId,
    expect: Option<Revision>,
    user: &User,
) -> Result<(), Denial> {
    let mut index = vec![name_tag(records.keys(), &user.name)];
    index.extend(user.peer_uid.map(|uid| peer_uid_tag(records.keys(), uid)));
    if let Some((creator, request)) = user.made_by {
        index.push(records.keys().index_tag(TagOf::UserRequest, &creator.0, &request.0));
    }
    records.put(user_record(id), expect, user, index, None)
}

/// The acting user must still exist when the change is made, not only when it was asked for.
pub(crate) fn acting(records: &mut Transaction<'_>, actor: UserId) -> Result<(), Denial> {
    match records.load::<User>(user_record(actor))? {
        Some(_) => Ok(()),
        None => Err(Denial::session_ended("the user was deleted")),
    }
}

/// Will set a password; returns the number that sessions under it carry.
fn set_password(
    records: &mut Transaction<'_>,
    mut user: Opened<User>,
    prepared: &mut Option<PasswordHash>,
    engine: &Engine,
    new: &[u8],
) -> Result<u64, Denial> {
    user.content.password = Some(match prepared.take() {
        Some(hash) => hash,
        None => password::hash(new, engine.options.password_cost)?,
    });
    user.content.credential += 1;
    user.content.attempts = 0;
    put(records, UserId(user.id.0), Some(user.version), &user.content)?;
    Ok(user.content.credential)
}

/// Whether this request made its user before.
pub(crate) fn was_made(
    records: &mut Transaction<'_>,
    creator: UserId,
    request: &UserCreate,
) -> Result<bool, Denial> {
    Ok(find_made(records, (creator, request.idempotency_key))?.is_some())
}

fn find_made(
    records: &mut Transaction<'_>,
    (creator, request): (UserId, keycore_wire::IdempotencyKey),
) -> Result<Option<Opened<User>>, Denial> {
    let tag = records.keys().index_tag(TagOf::UserRequest, &creator.0, &request.0);
    records.find(&tag, |user: &User| user.made_by == Some((creator, request)))
}

/// There has to be a way in.
fn check_credential(user: &User) -> Result<(), Denial> {
    if user.password.is_none() && user.peer_uid.is_none() {
        return Err(Denial::new(RefusalCode::NoCredential, "a user needs a password or a peer uid"));
    }
    Ok(())
}

/// A process is one user at most.
fn check_peer_uid(records: &mut Transaction<'_>, uid: Option<u32>) -> Result<(), Denial> {
    let Some(uid) = uid else { return Ok(()) };
    let tag = peer_uid_tag(records.keys(), uid);
    if records.is_taken(User::KIND, &tag)? {
        return Err(Denial::new(RefusalCode::AlreadyExists, "another user has this peer uid"));
    }
    Ok(())
}

fn peer_uid_tag(keys: &SealingKeys, uid: u32) -> keycore_store::IndexTag {
    keys.index_tag(TagOf::UserPeerUid, &CLUSTER_WIDE, &uid.to_be_bytes())
}

pub(crate) fn find(records: &mut Transaction<'_>, name: &UserName) -> Result<Option<Opened<User>>, Denial> {
    let tag = name_tag(records.keys(), name);
    records.find(&tag, |user: &User| user.name == *name)
}

/// The request was carried out before: the same again, or another one under its name.
fn repeat_create(request: &UserCreate, made: &Opened<User>) -> Result<UserInfo, Denial> {
    let user = &made.content;
    // The password of the request is compared with the one that this request set, and no other: otherwise whoever made a
    // user could guess at the password that the user has chosen since, as often as he likes.
    let is_first = user.credential == User::FIRST_CREDENTIAL;
    let same_password = match (&user.password, &request.password) {
        _ if !is_first => true,
        (Some(stored), Some(password)) => password::is_right(stored, password.expose())?,
        (None, None) => true,
        _ => false,
    };
    if same_password
        && (&user.name, user.role, user.peer_uid) == (&request.name, request.role, request.peer_uid)
    {
        Ok(KnownUser::from(user).info(UserId(made.id.0)))
    } else {
        Err(Denial::new(RefusalCode::AlreadyExists, "this idempotency key made another user"))
    }
}

/// All admins.
pub(crate) fn admins(records: &mut Transaction<'_>) -> Result<Vec<Opened<User>>, Denial> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = records.scan::<User>(None, after, usize::from(MAX_PAGE))?;
        let full = page.len() == usize::from(MAX_PAGE);
        after = page.last().map(|last| last.id);
        found.extend(page.into_iter().filter(|user| user.content.role == Role::Admin));
        if !full {
            return Ok(found);
        }
    }
}

fn name_tag(keys: &SealingKeys, name: &UserName) -> keycore_store::IndexTag {
    keys.index_tag(TagOf::UserName, &CLUSTER_WIDE, name.as_str().as_bytes())
}
