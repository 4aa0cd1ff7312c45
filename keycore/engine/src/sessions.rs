//! Listing the sessions that are connected here, and ending one of them everywhere.

use std::sync::Arc;

use keycore_wire::{
    MAX_SESSION_PAGE, RefusalCode, SessionEnd, SessionList, SessionPage, SessionsOf, UserId, UserName,
};

use crate::denial::Denial;
use crate::engine::Engine;
use crate::login;
use crate::options::Now;
use crate::policy::Permission;
use crate::session::Session;

/// One page of sessions. That others' need an admin, the table said already.
pub(crate) fn list(
    engine: &Engine,
    permission: &Permission,
    request: &SessionList,
    now: Now,
) -> Result<SessionPage, Denial> {
    let actor = permission.actor()?;
    let snapshot = engine.snapshot();
    let of: Option<UserId> = match &request.of {
        SessionsOf::Own => Some(actor),
        SessionsOf::All => None,
        SessionsOf::User(name) => {
            let user = snapshot.users.iter().find(|(_, user)| *user.name == *name);
            Some(*user.ok_or_else(Denial::no_user)?.0)
        }
    };
    let mut sessions =
        engine.sessions.list(of, &snapshot, now, engine.options.session_limits(), permission.session());
    drop(snapshot);
    sessions.retain(|session| request.after.is_none_or(|after| session.handle > after));
    let limit = usize::from(request.limit.min(MAX_SESSION_PAGE));
    let more = sessions.len() > limit;
    sessions.truncate(limit);
    Ok(SessionPage { sessions, more })
}

/// Ends a session on every replica, as its logout would. Returns it, and whose it was.
pub(crate) fn end(
    engine: &Engine,
    permission: &Permission,
    request: SessionEnd,
    now: Now,
) -> Result<(Session, Option<Arc<UserName>>), Denial> {
    let among = if permission.require_admin().is_ok() { None } else { Some(permission.actor()?) };
    let (session, name) = {
        let snapshot = engine.snapshot();
        let session = engine
            .sessions
            .find(request.session, among, &snapshot, now, engine.options.session_limits())
            .ok_or_else(|| {
                Denial::new(RefusalCode::NotFound, "no such session with a connection to this engine")
                    .because(format!("no session {} of this user's to end here", request.session))
            })?;
        (session, snapshot.users.get(&session.user).map(|user| Arc::clone(&user.name)))
    };
    login::revoke(engine, permission, &session, now)?;
    Ok((session, name))
}
