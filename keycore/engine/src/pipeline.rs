//! The one way of every request: session → self-tests → authorize → quorum → execute → audit.

mod crypto;
mod derived;
mod record;
mod signing;

use std::cell::RefCell;

use keycore_wire::{
    BackupRestore, Done, Hello, HelloReply, Limits, MAGIC, MAX_RANDOM, MAX_SESSION_TOKEN, Random,
    RandomBytes, RefusalCode, Reply, Request, Resume, SessionGrant, VERSION,
};

use crate::denial::Denial;
use crate::engine::Engine;
use crate::job::{Cost, Finished, Leisure};
use crate::journal::Throttle;
use crate::options::Now;
use crate::pipeline::record::Facts;
pub(crate) use crate::pipeline::record::{known_as, throttled_detail};
use crate::policy::{self, Action, Asker, Permission};
use crate::quorum::Proposal;
use crate::session::{Caller, Session, SessionChange};
use crate::{
    backup, cluster_rotation, expiry, identity, key_changes, key_sharing, keys, lifecycle, login, notary,
    quorum, rotation, second_factor, self_test, session_keys, sessions, unseal, user_keys, users,
    zeroization,
};

/// Where a request is carried out.
pub(crate) enum Place<'a> {
    /// On the event loop: what would take long is deferred. With the connection's count of cheap refusals.
    Loop(&'a mut Throttle, Leisure),
    /// On a worker thread.
    Worker,
}

/// What became of a request.
#[allow(clippy::large_enum_variant, reason = "a box would cost every signature an allocation")]
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
        Err(denial) => {
            engine.self_tests.latch(&denial);
            Err(denial)
        }
    };
    // Audit: without a record there is no answer but a refusal.
    let audited = record::audit(engine, request, caller, now, &mut place, &facts, decided.as_ref().err());
    let audited = match &decided {
        // Told this once, and what unsealed before is gone: the log has that it began, and nothing more is done without it.
        Ok((Reply::NewUnseal(_), _)) => Ok(()),
        _ => audited,
    };
    let (result, session) = match audited.and(decided) {
        Ok((reply, change)) => (Ok(reply), change),
        Err(denial) => {
            (Err(denial.refusal), facts.idled.map_or(SessionChange::Keep, SessionChange::OnlyIdled))
        }
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
    // A cluster that was destroyed has nothing to say.
    engine.check_not_zeroized(request)?;
    // Nor has an engine that can't learn any more what the cluster changes.
    engine.check_not_left_behind(request)?;
    // Nor has one that is sealed, but what it is and that it waits for shares.
    engine.check_not_sealed(request)?;
    // Session: who asks, as of now and not as of the login.
    let actor = facts.know(engine, request, caller, now);
    let action = Action::of(request, facts.name.as_deref());
    let asker = match actor {
        Err(ended) if !policy::survives_its_session(action) => return Err(ended),
        actor => Asker::of(action, actor.ok().flatten()),
    };
    // Self-tests: with cryptography that failed one nothing is done, for anybody.
    engine.self_tests.check(action)?;
    // Authorize.
    let authorized = policy::authorize(action, asker)?;
    if matches!(place, Place::Loop(..)) && authorized.service().is_some() {
        return Ok(Executed::Deferred(always_deferred(action).unwrap_or(Cost::Change)));
    }
    // Quorum.
    let asked = Proposal { engine, request, caller, now, approved: RefCell::new(None) };
    let permission = authorized.approve(&asked)?;
    facts.note = permission.approved_by().unwrap_or_default();
    // Nothing is done that could not be written down.
    if record::is_recorded(request) {
        engine.journal.ready()?;
    }
    // A change is on record before it is made: whatever kills this process, the log knows of it.
    record::announce(engine, request, caller, now, place, facts)?;
    let executed =
        execute(&Context { engine, caller, now, place, asked: &asked }, &permission, action, request, facts);
    if let Some(by) = asked.approved.take() {
        let between = if facts.note.is_empty() { "" } else { "; " };
        facts.note = format!("{}{between}{by}", facts.note);
    }
    executed
}

/// What a request is executed with.
struct Context<'a> {
    engine: &'a Engine,
    caller: &'a Caller,
    now: Now,
    place: &'a Place<'a>,
    /// For the approvals that keys ask for, which are known only when the key is.
    asked: &'a Proposal<'a>,
}

/// What executing came to.
#[allow(clippy::large_enum_variant, reason = "a box would cost every signature an allocation")]
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
    let &Context { engine, caller, now, place, asked } = context;
    if matches!(action, Action::Login | Action::PeerLogin | Action::LoginChallenge | Action::SignedLogin) {
        engine.guesses.admit(caller.peer, now)?;
    }
    if let (Place::Loop(..), Some(cost)) = (place, always_deferred(action)) {
        return Ok(Executed::Deferred(cost));
    }
    let reply = match request {
        Request::Hello(hello) => hello_reply(engine, hello).map(Reply::Hello),
        Request::Ping(_) => Ok(Reply::Done(Done)),
        Request::ClusterInfo(_) => lifecycle::status(engine, permission).map(Reply::ClusterStatus),
        Request::InitializeCluster(_) => {
            lifecycle::initialize(engine, permission, now).map(Reply::ClusterStatus)
        }
        Request::ActivateCluster(activate) => {
            lifecycle::activate(engine, permission, activate, now).map(Reply::ClusterStatus)
        }

        Request::InitializeBy(by) => {
            unseal::initialize_by(engine, permission, *by, now).map(Reply::NewUnseal)
        }
        Request::UnsealCluster(part) => {
            unseal::unseal(engine, permission, part, caller.peer, now).map(|status| {
                facts.note = unseal::told(&status);
                Reply::ClusterStatus(status)
            })
        }

        Request::ChangeUnseal(change) => {
            let changed = unseal::change(engine, permission, change, now)?;
            facts.note_before_approvals(&unseal::in_words(change.method));
            Ok(Reply::NewUnseal(changed))
        }
        Request::PrepareCustodians(prepare) => {
            let prepared = unseal::prepare(engine, permission, *prepare, now)?;
            facts.note_before_approvals(&unseal::custodians_in_words(prepare.needed, prepare.of));
            Ok(Reply::PreparedCustodians(prepared))
        }
        Request::ConfirmCustodians(shares) => {
            let status = unseal::confirm(engine, permission, shares, now)?;
            facts.note = status.unseal.as_ref().map(|now| unseal::in_words(now.method)).unwrap_or_default();
            Ok(Reply::ClusterStatus(status))
        }
        Request::RotateClusterKey(_) => {
            cluster_rotation::rotate(engine, permission, now).map(Reply::ClusterStatus)
        }
        Request::ClusterCsr(csr) => {
            identity::request(engine, permission, csr).map(Reply::CertificationRequest)
        }
        Request::SetClusterCertificate(set) => {
            identity::set_certificate(engine, permission, set, now).map(Reply::ClusterStatus)
        }

        Request::Login(login) => {
            let session = login::log_in(engine, permission, login, caller.peer, now)?;
            return begin_session(context, session, facts);
        }
        Request::PeerLogin(request) => {
            let session = login::log_in_peer(engine, permission, request, caller.peer, now)?;
            return begin_session(context, session, facts);
        }
        Request::Resume(resume) => return resume_session(context, resume, facts),
        Request::LoginChallenge(login) => {
            second_factor::challenge(engine, permission, login, caller.peer, now).map(Reply::Challenge)
        }
        Request::SignedLogin(login) => {
            let (session, name) = second_factor::log_in(engine, permission, login, caller.peer, now)?;
            facts.name = Some(name.into());
            return begin_session(context, session, facts);
        }
        Request::UserRegisterKey(register) => {
            let session = context.session()?;
            let (info, session) = user_keys::register(engine, permission, register, session, now)?;
            facts.note = user_keys::registered(&info, register.purpose);
            return Ok(Executed::Replied(Reply::UserInfo(info), SessionChange::Renew(session)));
        }
        Request::UserRemoveKey(remove) => user_keys::remove(engine, permission, remove).map(Reply::UserInfo),

        Request::QuorumPropose(propose) => {
            quorum::propose(engine, permission, propose, context.session()?, facts.name.as_deref(), now).map(
                |token| {
                    facts.note = quorum::in_words(&token);
                    Reply::QuorumToken(token)
                },
            )
        }
        Request::QuorumApprove(approve) => quorum::approve(engine, permission, approve, now).map(|token| {
            facts.note = format!("{} approves {}", approve.approver, quorum::in_words(&token));
            Reply::QuorumToken(token)
        }),
        Request::QuorumDelete(delete) => {
            quorum::delete(engine, permission, *delete).map(|()| Reply::Done(Done))
        }
        Request::QuorumList(_) => quorum::list(engine, permission, now).map(Reply::QuorumTokens),
        Request::QuorumPolicy(_) => quorum::rules(engine, permission).map(Reply::QuorumRules),
        Request::QuorumSetValue(set) => quorum::set_value(engine, permission, *set).map(Reply::QuorumRules),
        Request::QuorumSetPolicy(set) => quorum::set_policy(engine, permission, *set).map(Reply::QuorumRules),

        Request::Logout(_) => {
            let session = context.session()?;
            login::revoke(engine, permission, session, now)?;
            return Ok(Executed::Replied(Reply::Done(Done), SessionChange::End(session.id)));
        }

        Request::SessionList(list) => sessions::list(engine, permission, list, now).map(Reply::SessionPage),
        Request::SessionEnd(end) => {
            let (session, name) = sessions::end(engine, permission, *end, now)?;
            facts.note = name.map(|name| format!("of {name}")).unwrap_or_default();
            return Ok(Executed::Replied(Reply::Done(Done), SessionChange::End(session.id)));
        }

        Request::UserCreate(create) => users::create(engine, permission, create, now).map(Reply::UserInfo),
        Request::UserList(list) => users::list(engine, permission, *list).map(Reply::UserPage),
        Request::UserDelete(delete) => users::delete(engine, permission, delete).map(|()| Reply::Done(Done)),
        Request::UserChangePassword(change) if action == Action::ChangeOwnPassword => {
            let session = users::change_own_password(engine, permission, change, context.session()?, now)?;
            return Ok(Executed::Replied(Reply::Done(Done), SessionChange::Renew(session)));
        }
        Request::UserChangePassword(change) => {
            users::change_others_password(engine, permission, change).map(|()| Reply::Done(Done))
        }

        Request::UserSetPeerUid(set) => users::set_peer_uid(engine, permission, set).map(Reply::UserInfo),
        Request::UserLogout(logout) => users::log_out(engine, permission, logout).map(|()| Reply::Done(Done)),

        Request::GenerateKey(generate) => {
            keys::generate(engine, permission, generate, now).map(|made| Reply::KeyInfo(Box::new(made)))
        }
        Request::ImportKey(import) => {
            keys::import(engine, permission, import, now).map(|made| Reply::KeyInfo(Box::new(made)))
        }
        Request::ListKeys(list) => keys::list(engine, permission, *list).map(Reply::KeyPage),
        Request::FindKey(find) => {
            keys::public(engine, permission, &find.key).map(|found| Reply::KeyInfo(Box::new(found.info)))
        }
        Request::PublicKey(public) => {
            keys::public(engine, permission, &public.key).map(|found| Reply::PublicKey(Box::new(found)))
        }
        Request::DeleteKey(delete) => {
            keys::delete(engine, permission, delete.key, asked).map(|deleted| facts.done_to(deleted))
        }

        Request::SetAttribute(set) => match action {
            Action::SetTrusted => key_changes::set_trusted(engine, permission, set),
            _ => key_changes::set_attribute(engine, permission, set, asked),
        }
        .map(|changed| Reply::KeyInfo(Box::new(changed))),
        Request::ShareKey(share) => {
            key_sharing::share(engine, permission, share, asked).map(|key| facts.done_to(key))
        }
        Request::UnshareKey(unshare) => {
            key_sharing::unshare(engine, permission, unshare, asked).map(|key| facts.done_to(key))
        }
        Request::ListShares(list) => {
            key_sharing::list_shares(engine, permission, *list).map(Reply::KeyShares)
        }
        Request::ListSharedKeys(list) => {
            key_sharing::list_shared(engine, permission, *list).map(Reply::KeyPage)
        }

        Request::RotateKey(rotate) => {
            rotation::rotate(engine, permission, rotate, asked).map(|made| Reply::KeyInfo(Box::new(made)))
        }
        Request::ListSessionKeys(_) => session_keys::list(engine, permission).map(Reply::SessionKeyList),
        Request::ZeroizeKeys(zeroize) => expiry::zeroize_user(engine, permission, zeroize).map(|zeroized| {
            facts.note = format!("{} keys {}", zeroized.keys, facts.note).trim_end().to_owned();
            Reply::Zeroized(zeroized)
        }),

        Request::ZeroizeCluster(zeroize) => {
            zeroization::zeroize_cluster(engine, permission, *zeroize).map(|()| Reply::Done(Done))
        }

        Request::TlsSign(sign) => return signing::tls_sign(context, permission, sign, facts),
        Request::TlsSignTimed(timed) => {
            return signing::tls_sign(context, permission, &timed.0, facts).map(Executed::timed);
        }
        Request::Sign(sign) => return signing::sign_message(context, permission, sign, facts),
        Request::SignData(sign) => return crypto::sign(context, permission, sign, facts),
        Request::VerifyData(verify) => return crypto::verify(context, permission, verify, facts),
        Request::Encrypt(encrypt) => return crypto::encrypt(context, permission, encrypt, facts),
        Request::Decrypt(decrypt) => return crypto::decrypt(context, permission, decrypt, facts),
        Request::Digest(digest) => return crypto::digest(context, digest, facts),

        Request::DeriveKey(derive) => {
            derived::derive(context, permission, derive, facts).map(Box::new).map(Reply::KeyInfo)
        }
        Request::WrapKey(wrap) => derived::wrap(context, permission, wrap, facts).map(Reply::WrappedKey),
        Request::UnwrapKey(unwrap) => {
            derived::unwrap(context, permission, unwrap, facts).map(Box::new).map(Reply::KeyInfo)
        }

        Request::Random(random) => random_bytes(engine, *random).map(Reply::RandomBytes),
        Request::SelfTest(_) => {
            Ok(Reply::SelfTestReport(self_test::on_demand(engine, permission, context.caller, now)))
        }
        Request::AuditAnchors(_) => notary::anchors(engine, permission).map(Reply::AuditAnchorList),
        Request::BackupCreate(_) => backup::create(engine, permission, now).map(Reply::BackupInfo),
        Request::BackupList(list) => {
            backup::list(engine, permission, list.after.as_deref(), list.limit).map(Reply::BackupPage)
        }
        Request::BackupVerify(verify) => {
            backup::verify(engine, permission, caller.connection, &verify.identity)
                .map(|()| Reply::Done(Done))
        }
        Request::BackupRestore(restore) => {
            let BackupRestore { identity, rehearse } = restore;
            backup::restore(engine, permission, caller.connection, identity, *rehearse)
                .map(|()| Reply::Done(Done))
        }
        Request::BackupChunk(chunk) => {
            backup::chunk(engine, permission, caller.connection, chunk).map(|()| Reply::Done(Done))
        }
        Request::BackupEnd(_) => {
            backup::end(engine, permission, caller.connection, now).map(Reply::BackupContent)
        }
        Request::BackupEndBy(by) => {
            let (content, made) = backup::end_by(engine, permission, caller.connection, by.method, now)?;
            let (cluster, revision) = (content.cluster, content.revision);
            facts.note = format!("cluster {cluster} at revision {revision}; {}", unseal::in_words(by.method));
            Ok(Reply::NewUnseal(made))
        }
    }?;
    facts.learn(&reply);
    Ok(Executed::Replied(reply, SessionChange::Keep))
}

/// What never runs on the event loop, whatever it finds.
fn always_deferred(action: Action) -> Option<Cost> {
    match action {
        Action::ClusterInfo
        | Action::QuorumList
        | Action::QuorumPolicy
        | Action::UserList
        | Action::ListOwnSessions
        | Action::ListOthersSessions
        | Action::ListKeys
        | Action::FindKey
        | Action::PublicKey
        | Action::ListShares
        | Action::ListSharedKeys
        | Action::ListSessionKeys
        | Action::AuditAnchors
        | Action::BackupList
        | Action::BackupVerify
        | Action::BackupRestore => Some(Cost::Lookup),
        Action::InitializeCluster
        | Action::PeerLogin
        | Action::Logout
        | Action::UserSetPeerUid
        | Action::UserRemoveKey
        | Action::SignedLogin
        | Action::QuorumPropose
        | Action::QuorumApprove
        | Action::QuorumDelete
        | Action::QuorumSetValue
        | Action::QuorumSetPolicy
        | Action::UserLogout
        | Action::SessionEnd
        | Action::UserDelete
        | Action::SetAttribute
        | Action::SetTrusted
        | Action::ShareKey
        | Action::UnshareKey
        | Action::DeleteKey => Some(Cost::Change),
        Action::ActivateCluster
        | Action::InitializeBy
        | Action::UnsealCluster
        | Action::ChangeUnseal
        | Action::PrepareCustodians
        | Action::ConfirmCustodians
        | Action::RotateClusterKey
        | Action::ClusterCsr
        | Action::SetClusterCertificate
        | Action::LoginChallenge
        | Action::RegisterApprovalKey
        | Action::RegisterSecondFactor
        | Action::Login
        | Action::UserCreate
        | Action::ChangeOwnPassword
        | Action::ChangeOthersPassword
        | Action::GenerateKey
        | Action::RotateKey
        | Action::ZeroizeKeys
        | Action::ZeroizeCluster
        | Action::SelfTest
        | Action::DeriveKey
        | Action::WrapKey
        | Action::UnwrapKey
        | Action::ImportKey
        | Action::BackupCreate
        | Action::BackupChunk
        | Action::BackupEnd
        | Action::BackupEndBy => Some(Cost::Heavy),
        Action::Hello
        | Action::Ping
        | Action::Resume
        | Action::TlsSign
        | Action::Sign
        | Action::Random
        | Action::SignData
        | Action::VerifyData
        | Action::Encrypt
        | Action::Decrypt
        | Action::Digest => None,
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
        cluster: engine.cluster(),
        state: engine.cluster_state(),
        replica: engine.options.replica,
        limits: Limits { max_frame: engine.options.max_frame, max_in_flight: engine.options.max_in_flight },
    })
}

/// A token is good on every replica at once: if it does not fit what this one knows, what siblings changed is brought in
/// before it is refused.
fn resume_session(context: &Context<'_>, resume: &Resume, facts: &mut Facts) -> Result<Executed, Denial> {
    let &Context { engine, now, place, .. } = context;
    if resume.token.0.expose().len() > MAX_SESSION_TOKEN {
        return Err(Denial::malformed(format!("a session token has at most {MAX_SESSION_TOKEN} bytes")));
    }
    let keys = match (engine.sealing(), place) {
        (Ok(keys), _) => keys,
        (Err(_), Place::Loop(..)) => return Ok(Executed::Deferred(Cost::Lookup)),
        (Err(uninitialized), Place::Worker) => return Err(uninitialized),
    };
    let limits = engine.options.session_limits();
    let session = match (Session::resume(&resume.token, keys, now, limits), place) {
        (Ok(session), _) => session,
        // It may be of a generation of the cluster key that this replica has not heard of.
        (Err(_), Place::Loop(..)) => return Ok(Executed::Deferred(Cost::Lookup)),
        (Err(_), Place::Worker) => {
            let _followed = engine.follow(now);
            Session::resume(&resume.token, keys, now, limits)?
        }
    };
    let good = session.check(&engine.snapshot(), now).is_ok();
    match place {
        Place::Loop(..) if !good => Ok(Executed::Deferred(Cost::Lookup)),
        Place::Worker if !good => {
            // If the store can't be read, this replica answers by what it knows.
            let _followed = engine.follow(now);
            begin_session(context, session, facts)
        }
        _ => begin_session(context, session, facts),
    }
}

/// Logs the connection in, if the session is good on this replica.
fn begin_session(context: &Context<'_>, session: Session, facts: &mut Facts) -> Result<Executed, Denial> {
    let &Context { engine, caller, now, .. } = context;
    let (principal, seat) = {
        let snapshot = engine.snapshot();
        let checked = session.check(&snapshot, now);
        if checked.is_err() && session.check_used_or_not(&snapshot, now).is_ok() {
            facts.idled = Some(session);
        }
        let (principal, name) = checked?;
        facts.user = Some(session.user);
        facts.name = Some(name);
        let most = engine.options.max_user_sessions;
        (
            principal,
            engine.sessions.enter(session, caller, &snapshot, now, engine.options.session_limits(), most)?,
        )
    };
    let grant = SessionGrant {
        user: session.user,
        role: principal.role,
        token: session.token(engine.sealing()?)?,
        expires_at: session.expires_at,
        lifetime_secs: session.seconds_left(now),
    };
    Ok(Executed::Replied(Reply::SessionGrant(grant), SessionChange::Begin(session, seat)))
}

fn random_bytes(engine: &Engine, request: Random) -> Result<RandomBytes, Denial> {
    if request.length == 0 || request.length > MAX_RANDOM {
        return Err(Denial::malformed(format!("1 to {MAX_RANDOM} random bytes can be had at once")));
    }
    let mut bytes = vec![0; usize::from(request.length)];
    aws_lc_rs::rand::fill(&mut bytes)?;
    engine.self_tests.watch(&bytes)?;
    Ok(RandomBytes { bytes })
}

impl Context<'_> {
    fn session(&self) -> Result<&Session, Denial> {
        self.caller.session.as_ref().ok_or_else(Denial::not_logged_in)
    }
}
