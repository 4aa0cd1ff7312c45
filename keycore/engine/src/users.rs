//! Users and their passwords.

use aws_lc_rs::rand;
use keycore_store::{RecordId, Revision};
use keycore_wire::{
    Login, MAX_PAGE, RefusalCode, Role, UserChangePassword, UserCreate, UserDelete, UserId, UserInfo,
    UserList, UserName, UserPage,
};

use crate::denial::Denial;
use crate::engine::Engine;
use crate::ledger::{Opened, Transaction};
use crate::options::Now;
use crate::password;
use crate::policy::Permission;
use crate::records::{Content, ONLY, PasswordHash, PublicKeyPart, Revocation, StrayLogins, User};
use crate::seal::{SealingKeys, TagOf};
use crate::session::Session;
use crate::snapshot::{KnownUser, user_record};

/// Wrong passwords in a row that lock an account: CloudHSM's "more than five".
pub(crate) const MAX_ATTEMPTS: u8 = 6;

/// Scope of tags that are unique in the cluster.
const CLUSTER_WIDE: [u8; 16] = [0; 16];

/// Logged-out sessions that one logout cleans up, once their tokens are expired for [`REVOCATION_GRACE`].
const PRUNED_AT_ONCE: usize = 64;

/// Milliseconds that a revocation outlives its token, for replicas whose clocks are behind.
const REVOCATION_GRACE: u64 = 3_600_000;

/// A new user's id.
pub(crate) fn new_id() -> Result<UserId, Denial> {
    let mut id = [0; 16];
    rand::fill(&mut id)?;
    Ok(UserId(id))
}

/// Checks a password and opens a session.
pub(crate) fn login(
    engine: &Engine,
    _permission: &Permission,
    request: &Login,
    now: Now,
) -> Result<Session, Denial> {
    let _turn = engine.login_turn(request.user.as_str());
    let (id, credential) = check_password(engine, &request.user, request.password.expose())?;
    Ok(Session::open(id, credential, now, engine.options.session_lifetime)?)
}

/// Ends a session on every replica, and forgets those that ended by themselves.
pub(crate) fn logout(
    engine: &Engine,
    _permission: &Permission,
    session: &Session,
    now: Now,
) -> Result<(), Denial> {
    let needless: Vec<_> = engine
        .snapshot()
        .revoked
        .iter()
        .filter(|(_, revoked)| revoked.expires_at.0.saturating_add(REVOCATION_GRACE) < now.wall.0)
        .map(|(id, revoked)| (RecordId(*id), revoked.version))
        .take(PRUNED_AT_ONCE)
        .collect();
    let id = RecordId(session.id);
    engine.transact(|records| {
        for &(old, version) in &needless {
            // A sibling may have been faster.
            if records.load::<Revocation>(old)?.is_some_and(|found| found.version == version) {
                records.delete::<Revocation>(old, version);
            }
        }
        if records.load::<Revocation>(id)?.is_none() {
            records.put(id, None, &Revocation { expires_at: session.expires_at }, Vec::new(), None)?;
        }
        Ok(())
    })
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
    let new = User {
        name: request.name.clone(),
        role: request.role,
        password: password::hash(request.password.expose(), engine.options.password_cost)?,
        credential: 1,
        attempts: 0,
        created_at: now.wall,
        made_by: Some(made_by),
    };
    let id = new_id()?;
    let earlier = engine.transact(|records| {
        if let Some(made) = find_made(records, made_by)? {
            return Ok(Some(made));
        }
        acting(records, actor)?;
        let tag = name_tag(records.keys(), &new.name);
        if records.is_taken(User::KIND, &tag)? {
            return Err(Denial::new(RefusalCode::AlreadyExists, "a user has this name already"));
        }
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
    engine.transact(|records| {
        acting(records, actor)?;
        let user = find(records, &request.name)?.ok_or_else(Denial::no_user)?;
        let keys = records.keys().group_tag(TagOf::KeyOwner, &user.id.0);
        if records.count::<PublicKeyPart>(Some(&keys))? > 0 {
            return Err(Denial::new(RefusalCode::OwnsKeys, "the user still owns keys; delete them first"));
        }
        if user.content.role == Role::Admin && admins(records)? < 2 {
            return Err(Denial::new(RefusalCode::LastAdmin, "the last admin can't be deleted"));
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
    let (id, credential) = check_password(engine, &name, current.expose())?;
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
    engine.transact(|records| {
        acting(records, actor)?;
        let user = find(records, name)?.ok_or_else(Denial::no_user)?;
        set_password(records, user, &mut new, engine, request.new.expose()).map(|_| ())
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

/// Counts the attempt in the store, then checks the password, then forgets the attempts if it was right. Whatever the
/// number of replicas and of guesses at the same time, no more than [`MAX_ATTEMPTS`] wrong ones are ever checked.
///
/// A name that nobody has costs as much: a write and a hash. A locked account costs the hash, too, so that asking for it
/// fills no disk with audit records.
fn check_password(engine: &Engine, name: &UserName, password: &[u8]) -> Result<(UserId, u64), Denial> {
    let counted = engine.transact(|records| {
        let Some(mut user) = find(records, name)? else {
            let stray = records.load::<StrayLogins>(ONLY)?;
            let count = stray.as_ref().map_or(0, |stray| stray.content.count) + 1;
            records.put(ONLY, stray.map(|stray| stray.version), &StrayLogins { count }, Vec::new(), None)?;
            return Ok(None);
        };
        if user.content.attempts >= MAX_ATTEMPTS {
            return Err(Denial::new(
                RefusalCode::AccountLocked,
                "too many wrong passwords; an admin unlocks the account by setting a new password",
            ));
        }
        user.content.attempts += 1;
        put(records, UserId(user.id.0), Some(user.version), &user.content)?;
        Ok(Some(user))
    });
    if !matches!(counted, Ok(Some(_))) {
        password::spend(engine.options.password_cost, password)?;
    }
    let Some(user) = counted? else { return Err(Denial::bad_credentials("no such user")) };
    if !password::is_right(&user.content.password, password)? {
        return Err(Denial::bad_credentials(match user.content.attempts {
            MAX_ATTEMPTS.. => "wrong password; the account is locked now",
            _ => "wrong password",
        }));
    }
    let credential = user.content.credential;
    engine.transact(|records| {
        let now = records.load::<User>(user.id)?;
        let Some(mut now) = now.filter(|now| now.content.credential == credential) else {
            return Err(Denial::bad_credentials("the user was deleted or the password changed meanwhile"));
        };
        now.content.attempts = 0;
        put(records, UserId(now.id.0), Some(now.version), &now.content)
    })?;
    Ok((UserId(user.id.0), credential))
}

/// Will set a password; returns the number that sessions under it carry.
fn set_password(
    records: &mut Transaction<'_>,
    mut user: Opened<User>,
    prepared: &mut Option<PasswordHash>,
    engine: &Engine,
    new: &[u8],
) -> Result<u64, Denial> {
    user.content.password = match prepared.take() {
        Some(hash) => hash,
        None => password::hash(new, engine.options.password_cost)?,
    };
    user.content.credential += 1;
    user.content.attempts = 0;
    put(records, UserId(user.id.0), Some(user.version), &user.content)?;
    Ok(user.content.credential)
}

fn find_made(
    records: &mut Transaction<'_>,
    (creator, request): (UserId, keycore_wire::IdempotencyKey),
) -> Result<Option<Opened<User>>, Denial> {
    let tag = records.keys().index_tag(TagOf::UserRequest, &creator.0, &request.0);
    records.find(&tag, |user: &User| user.made_by == Some((creator, request)))
}

fn find(records: &mut Transaction<'_>, name: &UserName) -> Result<Option<Opened<User>>, Denial> {
    let tag = name_tag(records.keys(), name);
    records.find(&tag, |user: &User| user.name == *name)
}

/// The request was carried out before: the same again, or another one under its name.
fn repeat_create(request: &UserCreate, made: &Opened<User>) -> Result<UserInfo, Denial> {
    let user = &made.content;
    if user.name == request.name
        && user.role == request.role
        && password::is_right(&user.password, request.password.expose())?
    {
        Ok(KnownUser::from(user).info(UserId(made.id.0)))
    } else {
        Err(Denial::new(RefusalCode::AlreadyExists, "this idempotency key made another user"))
    }
}

fn admins(records: &mut Transaction<'_>) -> Result<usize, Denial> {
    let (mut count, mut after) = (0, None);
    loop {
        let page = records.scan::<User>(None, after, usize::from(MAX_PAGE))?;
        count += page.iter().filter(|user| user.content.role == Role::Admin).count();
        match page.last() {
            Some(last) if page.len() == usize::from(MAX_PAGE) => after = Some(last.id),
            _ => return Ok(count),
        }
    }
}

fn name_tag(keys: &SealingKeys, name: &UserName) -> keycore_store::IndexTag {
    keys.index_tag(TagOf::UserName, &CLUSTER_WIDE, name.as_str().as_bytes())
}
