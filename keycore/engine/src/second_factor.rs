//! The second factor of a login: a challenge that the user's registered key signs.
//!
//! ```text
//! hsm login challenge v1
//! cluster: …
//! user: NAME
//! id: user's id
//! credential: which of the user's credentials the password belonged to
//! expires: milliseconds since 1970
//! nonce: 16 bytes
//! mac: HMAC-SHA256 of the lines above, with the cluster's key of tokens
//! ```
//!
//! Nothing is stored when a challenge is given, so any replica takes the answer; a nonce that was used is stored like a
//! session that was logged out, so that none takes it twice.

use aws_lc_rs::rand;
use data_encoding::HEXLOWER;
use keycore_audit::Peer;
use keycore_store::RecordId;
use keycore_wire::{Challenge, LoginChallenge, RefusalCode, SignedLogin, UnixMillis, UserId, UserName};

use crate::denial::Denial;
use crate::engine::Engine;
use crate::login::{self, Checked};
use crate::options::Now;
use crate::policy::Permission;
use crate::records::{Revocation, User};
use crate::session::Session;
use crate::snapshot::user_record;

/// Milliseconds that a challenge is good for.
const LIFETIME: u64 = 300_000;

/// Longest challenge that is looked at, in bytes.
const LONGEST: usize = 512;

const HEAD: &str = "hsm login challenge v1";

/// Checks the password, and gives a challenge.
pub(crate) fn challenge(
    engine: &Engine,
    _permission: &Permission,
    request: &LoginChallenge,
    peer: Option<Peer>,
    now: Now,
) -> Result<Challenge, Denial> {
    let _turn = engine.login_turn(request.user.as_str());
    let checked = login::check_password(engine, &request.user, request.password.expose(), now);
    if checked.is_err() {
        engine.guesses.count(peer, now);
    }
    let Checked { id, credential, second_factor } = checked?;
    if !second_factor {
        return Err(Denial::new(RefusalCode::NotFound, "this user has no second factor"));
    }
    let mut nonce = [0; 16];
    rand::fill(&mut nonce)?;
    let keys = engine.sealing()?;
    let mut text = format!(
        "{HEAD}\ncluster: {}\nuser: {}\nid: {id}\ncredential: {credential}\nexpires: {}\nnonce: {}\n",
        keys.cluster(),
        request.user,
        now.wall.0.saturating_add(LIFETIME),
        HEXLOWER.encode(&nonce)
    );
    let mac = keys.sign_token(text.as_bytes());
    text.push_str(&format!("mac: {}\n", HEXLOWER.encode(mac.as_ref())));
    Ok(Challenge { text })
}

/// Takes the signed challenge, once.
pub(crate) fn log_in(
    engine: &Engine,
    _permission: &Permission,
    request: &SignedLogin,
    peer: Option<Peer>,
    now: Now,
) -> Result<(Session, UserName), Denial> {
    let opened = open(engine, &request.challenge, now).and_then(|challenge| {
        let user = engine.transact(|records| records.load::<User>(user_record(challenge.user)))?;
        let user = user.filter(|user| user.content.credential == challenge.credential);
        let user =
            user.ok_or_else(|| Denial::session_ended("the credentials were changed meanwhile"))?.content;
        let key = user.second_factor.as_ref();
        let key = key.ok_or_else(|| Denial::session_ended("the second factor was taken away"))?;
        key.verify(request.challenge.as_bytes(), &request.signature)?;
        Ok((challenge, user.name))
    });
    if opened.is_err() {
        engine.guesses.count(peer, now);
    }
    let (challenge, name) = opened?;
    let nonce = RecordId(challenge.nonce);
    engine.transact(|records| {
        if records.load::<Revocation>(nonce)?.is_some() {
            return Err(Denial::session_ended("the challenge was used already"));
        }
        records.put(nonce, None, &Revocation { expires_at: challenge.expires_at }, Vec::new(), None)
    })?;
    let session = Session::open(challenge.user, challenge.credential, now, engine.options.session_lifetime)?;
    Ok((session, name))
}

/// A challenge of this cluster that is still good.
struct Opened {
    user: UserId,
    credential: u64,
    expires_at: UnixMillis,
    nonce: [u8; 16],
}

fn open(engine: &Engine, challenge: &str, now: Now) -> Result<Opened, Denial> {
    let not_ours = || Denial::session_ended("not a challenge of this cluster");
    if challenge.len() > LONGEST {
        return Err(not_ours());
    }
    let at = challenge.find("mac: ").ok_or_else(not_ours)?;
    let (text, mac) = challenge.split_at(at);
    let mac = mac.strip_prefix("mac: ").and_then(|mac| mac.strip_suffix('\n')).ok_or_else(not_ours)?;
    let mac = HEXLOWER.decode(mac.as_bytes()).map_err(|_| not_ours())?;
    engine.sealing()?.verify_token(text.as_bytes(), &mac).map_err(|_| not_ours())?;
    let field = |name: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).ok_or_else(not_ours)
    };
    let expires_at: u64 = field("expires")?.parse().map_err(|_| not_ours())?;
    if !text.starts_with(HEAD) || now.wall.0 >= expires_at {
        return Err(Denial::session_ended("the challenge is too old"));
    }
    let nonce = HEXLOWER.decode(field("nonce")?.as_bytes()).map_err(|_| not_ours())?;
    Ok(Opened {
        user: field("id")?.parse().map_err(|_| not_ours())?,
        credential: field("credential")?.parse().map_err(|_| not_ours())?,
        expires_at: UnixMillis(expires_at),
        nonce: nonce.try_into().map_err(|_| not_ours())?,
    })
}
