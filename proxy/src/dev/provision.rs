//! Makes what is missing: the cluster, its users, the CA, the key of `localhost` and its certificate.

use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

use hsm_certs::{CaProfile, Days, Issuer, RemoteKey, ServerNames, ServerProfile, Validity};
use keycore_client::blocking::Client;
use keycore_client::{Endpoint, Error, Identity};
use keycore_wire::{
    ActivateCluster, Attributes, ClusterState, FindKey, GenerateKey, IdempotencyKey, InitializeCluster,
    KeyAlgorithm, KeyInfo, KeyLabel, KeySelector, KeyTemplate, RefusalCode, Role, Secret, UserCreate,
    UserName,
};
use time::OffsetDateTime;

use super::engines::Engines;
use super::error::DevError;
use super::state::StateDir;

/// The crypto user that the proxy is.
pub(super) const WEB_USER: &str = "web";

/// The crypto user that owns the CA's key. Not the proxy's: a thief of the proxy must find no CA.
const CA_USER: &str = "ca";
const ADMIN: &str = "admin";

const CA_LABEL: &str = "dev-ca";
const SITE_LABEL: &str = "localhost";

const TIMEOUT: Duration = Duration::from_secs(20);
const DAYS: u32 = 397;
/// A certificate with less time left is made anew at the start.
const RENEW_BEFORE: time::Duration = time::Duration::days(7);

/// What serves `localhost` now.
pub(super) struct Provisioned {
    /// Whether this run made the cluster.
    pub(super) is_new: bool,
    /// The site's key.
    pub(super) key: KeyInfo,
}

/// Makes what is missing.
pub(super) fn provision(state: &StateDir, engines: &Engines) -> Result<Provisioned, DevError> {
    let endpoints: Vec<Endpoint> =
        engines.sockets().iter().map(|socket| Endpoint::Unix(socket.clone())).collect();
    let is_new = make_cluster(state, &endpoints)?;
    let ca_key = make_key(&log_in(state, &endpoints, CA_USER)?, CA_LABEL, Attributes::SIGN)?;
    let site_key = make_key(&log_in(state, &endpoints, WEB_USER)?, SITE_LABEL, Attributes::TLS_SERVER)?;
    certify(state, &endpoints, &ca_key, &site_key)?;
    Ok(Provisioned { is_new, key: site_key })
}

fn make_cluster(state: &StateDir, endpoints: &[Endpoint]) -> Result<bool, DevError> {
    let mut client = connect(endpoints)?;
    let mut cluster = client.hello().state;
    let is_new = cluster != ClusterState::Active;
    if cluster == ClusterState::Uninitialized {
        cluster =
            client.call(&InitializeCluster).map_err(DevError::engine("initializing the cluster"))?.state;
    }
    if cluster == ClusterState::Initialized {
        let password = password(state, ADMIN)?;
        client
            .call(&ActivateCluster { admin: user_name(ADMIN)?, password })
            .map_err(DevError::engine("activating the cluster"))?;
    }
    let mut admin = log_in(state, endpoints, ADMIN)?.into_inner();
    for user in [CA_USER, WEB_USER] {
        let create = UserCreate {
            idempotency_key: IdempotencyKey(random()?),
            name: user_name(user)?,
            role: Role::CryptoUser,
            password: Some(password(state, user)?),
            peer_uid: None,
        };
        match admin.call(&create) {
            Ok(_) => {}
            Err(Error::Refused(refusal)) if refusal.code == RefusalCode::AlreadyExists => {}
            Err(error) => return Err(DevError::engine("creating the crypto users")(error)),
        }
    }
    Ok(is_new)
}

fn make_key(client: &RefCell<Client>, label: &str, usage: Attributes) -> Result<KeyInfo, DevError> {
    let label: KeyLabel = label.parse().map_err(DevError::proxy)?;
    let mut client = client.borrow_mut();
    match client.call(&FindKey { key: KeySelector::Label(label.clone()) }) {
        Ok(key) => return Ok(key),
        Err(Error::Refused(refusal)) if refusal.code == RefusalCode::NotFound => {}
        Err(error) => return Err(DevError::engine("looking for the key")(error)),
    }
    let generate = GenerateKey {
        idempotency_key: IdempotencyKey(random()?),
        algorithm: KeyAlgorithm::P256,
        template: KeyTemplate::new(label, usage),
    };
    client.call(&generate).map_err(DevError::engine("generating the key"))
}

/// Makes the certificates that are missing, about to expire, or not of these keys.
fn certify(
    state: &StateDir,
    endpoints: &[Endpoint],
    ca_key: &KeyInfo,
    site_key: &KeyInfo,
) -> Result<(), DevError> {
    let now = OffsetDateTime::now_utc();
    let validity = Validity::starting(now, Days::new(DAYS).map_err(DevError::proxy)?);
    let ca_client = log_in(state, endpoints, CA_USER)?;
    let ca_remote = RemoteKey::load(&ca_client, KeySelector::Id(ca_key.id))?;
    let mut renew_site = false;
    if !is_good(&state.ca(), ca_key, now) {
        let name = "hsm-proxy dev CA".parse().map_err(DevError::proxy)?;
        let ca = hsm_certs::root_ca(&ca_remote, &CaProfile::new(name, validity))?;
        state.write(&state.ca(), ca.chain_pem().as_bytes(), 0o644)?;
        renew_site = true;
    }
    if renew_site || !is_good(&state.certificate(), site_key, now) {
        let site_client = log_in(state, endpoints, WEB_USER)?;
        let site_remote = RemoteKey::load(&site_client, KeySelector::Id(site_key.id))?;
        let names = ["localhost", "127.0.0.1", "::1"].map(str::parse);
        let names = names.into_iter().collect::<Result<Vec<_>, _>>().map_err(DevError::proxy)?;
        let profile = ServerProfile::new(ServerNames::new(names).map_err(DevError::proxy)?, validity);
        let ca_pem = std::fs::read(state.ca()).map_err(|source| DevError::io(&state.ca(), source))?;
        let chain = Issuer::new(&ca_pem, &ca_remote)?.issue(&site_remote.subject(), &profile)?;
        state.write(&state.certificate(), chain.chain_pem().as_bytes(), 0o644)?;
    }
    Ok(())
}

/// Whether the first certificate of a file is of this key and lasts a while.
fn is_good(path: &Path, key: &KeyInfo, now: OffsetDateTime) -> bool {
    let Ok(certificate) = crate::chain::Chain::load(path) else { return false };
    Some(certificate.spki_sha256()) == key.spki_sha256 && certificate.not_after() > now + RENEW_BEFORE
}

fn connect(endpoints: &[Endpoint]) -> Result<Client, DevError> {
    Client::connect(endpoints, TIMEOUT).map_err(DevError::engine("connecting to the engines"))
}

fn log_in(state: &StateDir, endpoints: &[Endpoint], user: &str) -> Result<RefCell<Client>, DevError> {
    let identity = Identity::with_password(user_name(user)?, password(state, user)?);
    let mut client = connect(endpoints)?;
    client.login(&identity).map_err(DevError::engine("logging in"))?;
    Ok(RefCell::new(client))
}

fn password(state: &StateDir, user: &str) -> Result<Secret, DevError> {
    let text = state.secret(&state.password_file(user))?;
    Ok(Secret::new(text.as_bytes().to_vec()))
}

fn user_name(name: &str) -> Result<UserName, DevError> {
    name.parse().map_err(DevError::proxy)
}

fn random<const N: usize>() -> Result<[u8; N], DevError> {
    let mut bytes = [0; N];
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.secure_random.fill(&mut bytes).map_err(|_| DevError::NoRandomness)?;
    Ok(bytes)
}
