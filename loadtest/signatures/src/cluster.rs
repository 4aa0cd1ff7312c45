//! The cluster of a benchmark: one admin, one crypto user, its keys.

use std::fs;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keycore_client::blocking::Client;
use keycore_client::{Endpoint, Identity};
use keycore_wire::{
    ActivateCluster, Attributes, GenerateKey, IdempotencyKey, InitializeCluster, KeyAlgorithm, KeyInfo,
    KeyTemplate, ListKeys, MAX_PAGE, Role, Secret, SessionToken, SpkiSha256, UserCreate,
};

use crate::pipeline::Pipeline;
use crate::{Algorithm, Engine, Outcome};

const ADMIN: &str = "admin";
pub(crate) const USER: &str = "web";

/// Nothing here is secret: the cluster lives in a temporary directory for as long as the benchmark.
const PASSWORD: &str = "the benchmark's password";

/// Longer than an RSA key takes to be made.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Makes what [`label`] names.
pub(crate) fn provision(engine: &Engine) -> Outcome<()> {
    let mut client = connect(engine)?;
    client.call(&InitializeCluster)?;
    client.call(&ActivateCluster { admin: ADMIN.parse()?, password: password() })?;
    client.login(&identity(ADMIN)?)?;
    let name = USER.parse()?;
    let idempotency_key = fresh()?;
    client.call(&UserCreate {
        idempotency_key,
        name,
        role: Role::CryptoUser,
        password: Some(password()),
        peer_uid: None,
    })?;
    client.login(&identity(USER)?)?;
    generate(&mut client, KeyAlgorithm::P256, label(Algorithm::P256))?;
    generate(&mut client, KeyAlgorithm::Rsa2048, label(Algorithm::Rsa2048))?;
    Ok(())
}

/// The key for signatures of an algorithm.
pub(crate) fn label(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::P256 => "p256",
        Algorithm::Rsa2048 => "rsa2048",
        Algorithm::Rsa4096 => "rsa4096",
    }
}

/// Generates keys, one after the other: each is a commit of its own, as in service.
pub(crate) fn fill(engine: &Engine, numbers: Range<u64>) -> Outcome<()> {
    let mut client = client(engine)?;
    for number in numbers {
        generate(&mut client, KeyAlgorithm::P256, &numbered(number))?;
    }
    Ok(())
}

/// Connects as soon as the engine accepts, and takes a signature.
pub(crate) fn first(engine: &Engine, number: u64) -> Outcome<()> {
    let end = Instant::now() + TIMEOUT;
    loop {
        let signed = Pipeline::open(engine)
            .and_then(|mut pipeline| pipeline.select(&numbered(number), Algorithm::P256));
        match signed {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > end => return Err(error),
            Err(_not_yet) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// One signature with each key.
pub(crate) fn touch(engine: &Engine, keys: u64) -> Outcome<()> {
    let mut pipeline = Pipeline::open(engine)?;
    (0..keys).try_for_each(|number| pipeline.select(&numbered(number), Algorithm::P256))
}

/// A connection of the crypto user.
pub(crate) fn client(engine: &Engine) -> Outcome<Client> {
    let mut client = connect(engine)?;
    client.login(&identity(USER)?)?;
    Ok(client)
}

/// A connection of the admin.
pub(crate) fn admin(engine: &Engine) -> Outcome<Client> {
    let mut client = connect(engine)?;
    client.login(&identity(ADMIN)?)?;
    Ok(client)
}

/// The public keys of all P-256 keys of the crypto user, in no order.
pub(crate) fn all_keys(engine: &Engine) -> Outcome<Vec<SpkiSha256>> {
    let mut client = client(engine)?;
    let (mut keys, mut after) = (Vec::new(), None);
    loop {
        let page = client.call(&ListKeys { after, limit: MAX_PAGE })?;
        after = page.keys.last().map(|key| key.id);
        let p256 = page.keys.iter().filter(|key| key.algorithm == KeyAlgorithm::P256);
        keys.extend(p256.filter_map(|key| key.spki_sha256));
        if !page.more {
            return Ok(keys);
        }
    }
}

/// A session of the crypto user: the one of the runs before, if there is one.
pub(crate) fn token(engine: &Engine) -> Outcome<SessionToken> {
    if let Ok(kept) = fs::read(&engine.token) {
        return Ok(SessionToken(Secret::new(kept)));
    }
    let identity = identity(&engine.user)?;
    connect(engine)?.login(&identity)?;
    let token = identity.token().ok_or("the login gave no token")?;
    fs::write(&engine.token, token.0.expose())?;
    Ok(token)
}

fn numbered(number: u64) -> String {
    format!("key-{number:07}")
}

/// A key for TLS servers, with a commit of its own.
pub(crate) fn generate(client: &mut Client, algorithm: KeyAlgorithm, label: &str) -> Outcome<KeyInfo> {
    let (idempotency_key, template) = (fresh()?, KeyTemplate::new(label.parse()?, Attributes::TLS_SERVER));
    Ok(client.call(&GenerateKey { idempotency_key, algorithm, template })?)
}

fn connect(engine: &Engine) -> Outcome<Client> {
    Ok(Client::connect(&[Endpoint::Unix(engine.socket.clone())], TIMEOUT)?)
}

fn identity(user: &str) -> Outcome<Arc<Identity>> {
    Ok(Identity::with_password(user.parse()?, password()))
}

fn password() -> Secret {
    Secret::new(PASSWORD.as_bytes().to_vec())
}

fn fresh() -> Outcome<IdempotencyKey> {
    let mut key = [0; 16];
    aws_lc_rs::rand::fill(&mut key)?;
    Ok(IdempotencyKey(key))
}
