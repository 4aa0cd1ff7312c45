//! The one way of every request: session → authorize → quorum → execute → audit.

use std::sync::Arc;

use keycore_audit::{Entry, Subject, User};
use keycore_wire::{
    Done, Hello, HelloReply, KeyId, KeySelector, Limits, MAGIC, MAX_RANDOM, MAX_SESSION_TOKEN,
    MAX_SIGN_MESSAGE, MAX_SITE, MAX_TLS_MESSAGE, Random, RandomBytes, RefusalCode, Reply, Request, Resume,
    SessionGrant, Sign, TlsSign, UserId, UserName, VERSION,
};

use crate::denial::Denial;
use crate::engine::Engine;
use crate::job::{Cost, Finished};
use crate::journal::{self, Throttle};
use crate::key_cache::LoadedKey;
use crate::options::Now;
use crate::policy::{self, Action, Permission, Principal};
use crate::private_key::sha256;
use crate::session::{Caller, Session, SessionChange};
use crate::signable::Signable;
use crate::{keys, lifecycle, users};

/// Where a request is carried out.
pub(crate) enum Place<'a> {
    /// On the event loop: what would take long is deferred. With the connection's count of cheap refusals.
    Loop(&'a mut Throttle),
    /// On a worker thread.
    Worker,
}

/// What became of a request.
pub(crate) enum Served {
    /// It is answered, and the audit log has it.
    Finished(Finished),
    /// Nothing happened yet: it is to be served again on a worker.
    Deferred(Cost),
}

/// Serves one request. Reads as the security argument: nothing below is reached but through here.
pub(crate) fn serve(
    engine: &Engine,
    request: &Request<'_>,
    caller: &Caller,
    now: Now,
    mut place: Place<'_>,
) -> Served {
    let mut facts = Facts::default();
    let decided = decide(engine, request, caller, now, &place, &mut facts);
    let decided = match decided {
        Ok(Executed::Deferred(cost)) => return Served::Deferred(cost),
        Ok(Executed::Replied(reply, change)) => Ok((reply, change)),
        Err(denial) => Err(denial),
    };
    // Audit: without a record there is no answer but a refusal.
    let audited = audit(engine, request, caller, now, &mut place, &facts, decided.as_ref().err());
    let (result, session) = match audited.and(decided) {
        Ok((reply, change)) => (Ok(reply), change),
        Err(denial) => (Err(denial.refusal), SessionChange::Keep),
    };
    Served::Finished(Finished { result, session })
}

fn decide(
    engine: &Engine,
    request: &Request<'_>,
    caller: &Caller,
    now: Now,
    place: &Place<'_>,
    facts: &mut Facts,
) -> Result<Executed, Denial> {
    // Session: who asks, as of now and not as of the login.
    let actor = facts.know(engine, caller, now);
    let action = Action::of(request, facts.name.as_deref());
    let actor = match actor {
        Err(ended) if !policy::is_open_to_nobody(action) => return Err(ended),
        actor => actor.ok().flatten(),
    };
    // Authorize, quorum.
    let permission = policy::authorize(action, actor)?.approve()?;
    // Nothing is done that could not be written down.
    engine.journal.ready()?;
    execute(&Context { engine, caller, now, place }, &permission, action, request, facts)
}

/// What a request is executed with.
struct Context<'a> {
    engine: &'a Engine,
    caller: &'a Caller,
    now: Now,
    place: &'a Place<'a>,
}

/// What executing came to.
enum Executed {
    Replied(Reply, SessionChange),
    Deferred(Cost),
}

fn execute(
    context: &Context<'_>,
    permission: &Permission,
    action: Action,
    request: &Request<'_>,
    facts: &mut Facts,
) -> Result<Executed, Denial> {
    let &Context { engine, now, place, .. } = context;
    if let (Place::Loop(_), Some(cost)) = (place, always_deferred(action)) {
        return Ok(Executed::Deferred(cost));
    }
    let reply = match request {
        Request::Hello(hello) => hello_reply(engine, hello).map(Reply::Hello),
        Request::Ping(_) => Ok(Reply::Done(Done)),
        Request::ClusterInfo(_) => lifecycle::status(engine, permission).map(Reply::ClusterStatus),
        Request::InitializeCluster(_) => lifecycle::initialize(engine, permission).map(Reply::ClusterStatus),
        Request::ActivateCluster(activate) => {
            lifecycle::activate(engine, permission, activate, now).map(Reply::ClusterStatus)
        }

        Request::Login(login) => {
            let session = users::login(engine, permission, login, now)?;
            return begin_session(context, session, facts);
        }
        Request::Resume(resume) => return begin_session(context, resumed(engine, resume, now)?, facts),
        Request::Logout(_) => {
            let session = context.session()?;
            users::logout(engine, permission, session, now)?;
            return Ok(Executed::Replied(Reply::Done(Done), SessionChange::End(session.id)));
        }

        Request::UserCreate(create) => users::create(engine, permission, create, now).map(Reply::UserInfo),
        Request::UserList(list) => users::list(engine, permission, *list).map(Reply::UserPage),
        Request::UserDelete(delete) => users::delete(engine, permission, delete).map(|()| Reply::Done(Done)),
        Request::UserChangePassword(change) if action == Action::ChangeOwnPassword => {
            let session = users::change_own_password(engine, permission, change, context.session()?)?;
            return Ok(Executed::Replied(Reply::Done(Done), SessionChange::Begin(session)));
        }
        Request::UserChangePassword(change) => {
            users::change_others_password(engine, permission, change).map(|()| Reply::Done(Done))
        }

        Request::GenerateKey(generate) => {
            keys::generate(engine, permission, generate, now).map(Reply::KeyInfo)
        }
        Request::ImportKey(import) => keys::import(engine, permission, import, now).map(Reply::KeyInfo),
        Request::ListKeys(list) => keys::list(engine, permission, *list).map(Reply::KeyPage),
        Request::FindKey(find) => {
            keys::public(engine, permission, &find.key).map(|found| Reply::KeyInfo(found.info))
        }
        Request::PublicKey(public) => keys::public(engine, permission, &public.key).map(Reply::PublicKey),
        Request::DeleteKey(delete) => keys::delete(engine, permission, delete.key).map(|deleted| {
            facts.label = Some(deleted.label.into());
            Reply::Done(Done)
        }),

        Request::TlsSign(sign) => return tls_sign(context, permission, sign, facts),
        Request::Sign(sign) => return sign_message(context, permission, sign, facts),
        Request::Random(random) => random_bytes(*random).map(Reply::RandomBytes),
    }?;
    facts.learn(&reply);
    Ok(Executed::Replied(reply, SessionChange::Keep))
}

/// What never runs on the event loop, whatever it finds.
fn always_deferred(action: Action) -> Option<Cost> {
    match action {
        Action::ClusterInfo | Action::UserList | Action::ListKeys | Action::FindKey | Action::PublicKey => {
            Some(Cost::Lookup)
        }
        Action::InitializeCluster | Action::Logout | Action::UserDelete | Action::DeleteKey => {
            Some(Cost::Change)
        }
        Action::ActivateCluster
        | Action::Login
        | Action::UserCreate
        | Action::ChangeOwnPassword
        | Action::ChangeOthersPassword
        | Action::GenerateKey
        | Action::ImportKey => Some(Cost::Heavy),
        Action::Hello | Action::Ping | Action::Resume | Action::TlsSign | Action::Sign | Action::Random => {
            None
        }
    }
}

fn hello_reply(engine: &Engine, hello: &Hello<'_>) -> Result<HelloReply, Denial> {
    if hello.magic != MAGIC {
        return Err(Denial::new(
            RefusalCode::HelloExpected,
            "this is the engine of an HSM; it wants a hello",
        ));
    }
    if !(hello.min_version..=hello.max_version).contains(&VERSION) {
        let detail = format!(
            "this engine speaks version {VERSION}, the client {} to {}",
            hello.min_version, hello.max_version
        );
        return Err(Denial::new(RefusalCode::UnsupportedVersion, detail));
    }
    Ok(HelloReply {
        version: VERSION,
        cluster: engine.sealing.get().map(crate::seal::SealingKeys::cluster),
        state: engine.cluster_state(),
        replica: engine.options.replica,
        limits: Limits { max_frame: engine.options.max_frame, max_in_flight: engine.options.max_in_flight },
    })
}

fn resumed(engine: &Engine, resume: &Resume, now: Now) -> Result<Session, Denial> {
    if resume.token.0.expose().len() > MAX_SESSION_TOKEN {
        return Err(Denial::malformed(format!("a session token has at most {MAX_SESSION_TOKEN} bytes")));
    }
    Session::resume(&resume.token, engine.sealing()?.tokens(), now)
}

/// Logs the connection in, if the session is good on this replica.
fn begin_session(context: &Context<'_>, session: Session, facts: &mut Facts) -> Result<Executed, Denial> {
    let &Context { engine, now, .. } = context;
    let (principal, name) = session.check(&engine.snapshot(), now)?;
    facts.user = Some(session.user);
    facts.name = Some(name);
    let grant = SessionGrant {
        user: session.user,
        role: principal.role,
        token: session.token(engine.sealing()?.tokens()),
        expires_at: session.expires_at,
        lifetime_secs: session.seconds_left(now),
    };
    Ok(Executed::Replied(Reply::SessionGrant(grant), SessionChange::Begin(session)))
}

fn tls_sign(
    context: &Context<'_>,
    permission: &Permission,
    request: &TlsSign<'_>,
    facts: &mut Facts,
) -> Result<Executed, Denial> {
    if request.message.len() > MAX_TLS_MESSAGE || request.site.len() > MAX_SITE {
        return Err(Denial::malformed(format!(
            "a handshake has at most {MAX_TLS_MESSAGE} bytes, a site's name {MAX_SITE}"
        )));
    }
    let cached = context.engine.cached_by_spki(permission.actor()?, request.key);
    let Some(key) = context.key(cached, permission, &KeySelector::SpkiSha256(request.key))? else {
        return Ok(Executed::Deferred(Cost::Lookup));
    };
    facts.key = Some(key.info.id);
    let signable = Signable::handshake(&key, request.scheme, request.message)?;
    context.sign(permission, &key, &signable)
}

fn sign_message(
    context: &Context<'_>,
    permission: &Permission,
    request: &Sign<'_>,
    facts: &mut Facts,
) -> Result<Executed, Denial> {
    if request.message.len() > MAX_SIGN_MESSAGE {
        return Err(Denial::malformed(format!("a message to sign has at most {MAX_SIGN_MESSAGE} bytes")));
    }
    let cached = context.engine.cached_by_id(permission.actor()?, request.key);
    let Some(key) = context.key(cached, permission, &KeySelector::Id(request.key))? else {
        return Ok(Executed::Deferred(Cost::Lookup));
    };
    facts.key = Some(key.info.id);
    let signable = Signable::message(&key, request.scheme, request.message)?;
    context.sign(permission, &key, &signable)
}

fn random_bytes(request: Random) -> Result<RandomBytes, Denial> {
    if request.length == 0 || request.length > MAX_RANDOM {
        return Err(Denial::malformed(format!("1 to {MAX_RANDOM} random bytes can be had at once")));
    }
    let mut bytes = vec![0; usize::from(request.length)];
    aws_lc_rs::rand::fill(&mut bytes)?;
    Ok(RandomBytes { bytes })
}

impl Context<'_> {
    fn session(&self) -> Result<&Session, Denial> {
        self.caller.session.as_ref().ok_or_else(Denial::not_logged_in)
    }

    /// The key from the cache, or on a worker from the store; none if it takes a worker.
    fn key(
        &self,
        cached: Option<Arc<LoadedKey>>,
        permission: &Permission,
        selector: &KeySelector,
    ) -> Result<Option<Arc<LoadedKey>>, Denial> {
        match (cached, self.place) {
            (Some(key), _) => Ok(Some(key)),
            (None, Place::Loop(_)) => Ok(None),
            (None, Place::Worker) => keys::load(self.engine, permission, selector).map(Some),
        }
    }

    fn sign(
        &self,
        permission: &Permission,
        key: &LoadedKey,
        signable: &Signable<'_>,
    ) -> Result<Executed, Denial> {
        if matches!(self.place, Place::Loop(_)) && key.is_slow() {
            return Ok(Executed::Deferred(Cost::Signature));
        }
        let signature = key.sign(permission, signable)?;
        Ok(Executed::Replied(Reply::Signature(signature), SessionChange::Keep))
    }
}

/// What becomes known of a request on its way, for its record.
#[derive(Default)]
struct Facts {
    user: Option<UserId>,
    name: Option<Arc<UserName>>,
    key: Option<KeyId>,
    label: Option<String>,
}

impl Facts {
    /// Finds out who asks: somebody, nobody, or somebody whose session ended.
    fn know(&mut self, engine: &Engine, caller: &Caller, now: Now) -> Result<Option<Principal>, Denial> {
        let Some(session) = &caller.session else { return Ok(None) };
        self.user = Some(session.user);
        let (principal, name) = session.check(&engine.snapshot(), now)?;
        self.name = Some(name);
        Ok(Some(principal))
    }

    fn learn(&mut self, reply: &Reply) {
        let info = match reply {
            Reply::KeyInfo(info) => info,
            Reply::PublicKey(public) => &public.info,
            _ => return,
        };
        self.key = Some(info.id);
        self.label = Some(info.label.clone().into());
    }
}

/// Writes the record of a request. Management is on the disk when this returns.
fn audit(
    engine: &Engine,
    request: &Request<'_>,
    caller: &Caller,
    now: Now,
    place: &mut Place<'_>,
    facts: &Facts,
    denial: Option<&Denial>,
) -> Result<(), Denial> {
    let refusal = denial.map(|denial| &denial.refusal);
    let mut detail = denial.map_or("", |denial| match &*denial.reason {
        "" => &denial.refusal.detail,
        reason => reason,
    });
    let throttled;
    match (refusal, &mut *place) {
        (None, _) if matches!(request, Request::Hello(_) | Request::Ping(_) | Request::ClusterInfo(_)) => {
            return Ok(());
        }
        (Some(refusal), Place::Loop(throttle)) if Throttle::applies_to(refusal.code) => {
            let Some(unrecorded) = throttle.count(now) else { return Ok(()) };
            throttled = throttled_detail(detail, unrecorded);
            detail = &throttled;
        }
        _ => {}
    }
    let entry = Entry {
        user: user_of(request, facts),
        subject: subject_of(request, facts),
        ..journal::entry(request.name(), caller, now, refusal, detail)
    };
    if matches!(place, Place::Worker) && is_management(request) {
        engine.journal.append_and_sync(&entry)
    } else {
        engine.journal.append(&entry)
    }
}

/// The detail of a record that stands for several refusals.
pub(crate) fn throttled_detail(detail: &str, unrecorded: u64) -> String {
    match unrecorded {
        0 => detail.to_owned(),
        _ => format!("{detail} (and {unrecorded} refused before it, since the last record)"),
    }
}

fn is_management(request: &Request<'_>) -> bool {
    matches!(
        request,
        Request::InitializeCluster(_)
            | Request::ActivateCluster(_)
            | Request::Login(_)
            | Request::Logout(_)
            | Request::UserCreate(_)
            | Request::UserDelete(_)
            | Request::UserChangePassword(_)
            | Request::GenerateKey(_)
            | Request::ImportKey(_)
            | Request::DeleteKey(_)
    )
}

fn user_of<'a>(request: &'a Request<'_>, facts: &'a Facts) -> Option<User<'a>> {
    match (request, &facts.name) {
        (Request::Login(login), _) => Some(User { id: facts.user, name: login.user.as_str() }),
        (_, Some(name)) => Some(User { id: facts.user, name: name.as_str() }),
        // The user of a session that ended may have no name any more.
        (_, None) => facts.user.map(|id| User { id: Some(id), name: "" }),
    }
}

fn subject_of<'a>(request: &'a Request<'_>, facts: &'a Facts) -> Subject<'a> {
    let key = |label: &'a str| Subject::Key { id: facts.key, label: facts.label.as_deref().unwrap_or(label) };
    match request {
        Request::ActivateCluster(activate) => Subject::User(activate.admin.as_str()),
        Request::Login(login) => Subject::User(login.user.as_str()),
        Request::UserCreate(create) => Subject::User(create.name.as_str()),
        Request::UserDelete(delete) => Subject::User(delete.name.as_str()),
        Request::UserChangePassword(change) => {
            let own = facts.name.as_deref();
            change.name.as_ref().or(own).map_or(Subject::None, |name| Subject::User(name.as_str()))
        }
        Request::GenerateKey(generate) => key(generate.label.as_str()),
        Request::ImportKey(import) => key(import.label.as_str()),
        Request::FindKey(find) => selected(&find.key, facts),
        Request::PublicKey(public) => selected(&public.key, facts),
        Request::DeleteKey(delete) => {
            Subject::Key { id: Some(delete.key), label: facts.label.as_deref().unwrap_or("") }
        }
        Request::TlsSign(sign) => Subject::Signature {
            key: facts.key,
            spki: Some(sign.key),
            site: sign.site,
            scheme: Some(sign.scheme),
            message_sha256: sha256(sign.message),
        },
        Request::Sign(sign) => Subject::Signature {
            key: Some(sign.key),
            spki: None,
            site: "",
            scheme: Some(sign.scheme),
            message_sha256: sha256(sign.message),
        },
        _ => Subject::None,
    }
}

fn selected<'a>(selector: &'a KeySelector, facts: &'a Facts) -> Subject<'a> {
    let (id, label) = match selector {
        KeySelector::Id(id) => (Some(*id), ""),
        KeySelector::Label(label) => (None, label.as_str()),
        KeySelector::SpkiSha256(_) => (None, ""),
    };
    Subject::Key { id: facts.key.or(id), label: facts.label.as_deref().unwrap_or(label) }
}
