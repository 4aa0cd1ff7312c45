//! The cluster's identity on the network: a key pair that is made inside and never given out, and the certificate that the
//! operator's CA makes of it. Engines show it to clients over TLS, and trust the clients of the same CA.

use std::sync::{Arc, PoisonError};

use data_encoding::HEXLOWER;
use keycore_store::{Kind, Store};
use keycore_wire::{
    CertificationRequest, ClusterCertificateStatus, ClusterCsr, ClusterStatus, KeyAlgorithm,
    MAX_CLUSTER_CERTIFICATES, Secret, SetClusterCertificate, SignatureScheme,
};
use serde::{Deserialize, Serialize};

use crate::denial::Denial;
use crate::engine::Engine;
use crate::ledger::{self, LoadError, Transaction};
use crate::lifecycle;
use crate::options::Now;
use crate::policy::Permission;
use crate::private_key::{PrivateKey, sha256};
use crate::records::{Content, ONLY};
use crate::seal::SealingKeys;

mod certificate;
mod request;

/// Longest request about it, in bytes: the certificates, and their lengths.
pub(crate) const MAX_REQUEST: usize = MAX_CLUSTER_CERTIFICATES + 64;

const ALGORITHM: KeyAlgorithm = KeyAlgorithm::P256;
const SCHEME: SignatureScheme = SignatureScheme::EcdsaP256Sha256;

/// The key pair. One for the cluster, made when its certification request is first asked for.
#[derive(Serialize, Deserialize)]
pub(crate) struct IdentityKey {
    /// DER PKCS#8 of a P-256 key.
    pkcs8: Secret,
}

impl Content for IdentityKey {
    const KIND: Kind = Kind(52);
}

/// What the CA made of it.
#[derive(Serialize, Deserialize)]
pub(crate) struct ClusterCertificate {
    /// The certificate and those above it, in DER.
    chain: Vec<Vec<u8>>,
    #[serde(with = "serde_bytes")]
    trust_anchor: Vec<u8>,
    status: ClusterCertificateStatus,
}

impl Content for ClusterCertificate {
    const KIND: Kind = Kind(53);
}

/// The cluster's certificate, whom it trusts, and the way to its key's signatures.
pub struct ClusterIdentity {
    key: PrivateKey,
    certificate: ClusterCertificate,
    revision: u64,
}

/// The identity key did not sign: the cryptographic library failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cluster's identity key can't sign")]
pub struct IdentityFailed;

impl ClusterIdentity {
    /// The certificate and those above it, without the root; X.509 in DER.
    pub fn certificate_chain(&self) -> &[Vec<u8>] {
        &self.certificate.chain
    }

    /// The CA's self-signed certificate in DER. Whoever has a certificate of this CA for client authentication is let in.
    pub fn trust_anchor(&self) -> &[u8] {
        &self.certificate.trust_anchor
    }

    /// The store's revision at which the certificate was set: another one means another certificate.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What cluster information tells of it.
    pub fn status(&self) -> &ClusterCertificateStatus {
        &self.certificate.status
    }

    /// Signs a message that is not hashed yet: ECDSA on P-256 with SHA-256 (FIPS 186-5), in DER, as TLS has it
    /// (`ecdsa_secp256r1_sha256`). For the handshakes of the daemon's own listeners; no request reaches it.
    ///
    /// # Errors
    ///
    /// [`IdentityFailed`].
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, IdentityFailed> {
        self.key.sign(SCHEME, message).map_err(|_| IdentityFailed)
    }
}

impl Engine {
    /// The cluster's identity on the network, as the store has it; none before a certificate is set, while the engine is sealed,
    /// once it was left behind, and once a self-test failed. Every replica follows it within [`Engine::follow`]'s interval; compare [`ClusterIdentity::revision`].
    pub fn cluster_identity(&self) -> Option<Arc<ClusterIdentity>> {
        if self.failed_self_test().is_some() || self.left_behind().is_some() || self.sealing.get().is_none() {
            return None;
        }
        self.identity.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on this is it.
    pub(crate) fn take_identity(&self, identity: Option<ClusterIdentity>) {
        *self.identity.write().unwrap_or_else(PoisonError::into_inner) = identity.map(Arc::new);
    }
}

/// What the store has of it.
pub(crate) fn load(store: &mut dyn Store, keys: &SealingKeys) -> Result<Option<ClusterIdentity>, LoadError> {
    let Some(certificate) = ledger::load::<ClusterCertificate>(store, keys, ONLY)? else { return Ok(None) };
    let damaged = |what| LoadError::Damaged(format!("the cluster's identity key {what}"));
    let key = ledger::load::<IdentityKey>(store, keys, ONLY)?.ok_or_else(|| damaged("is missing"))?;
    let key =
        PrivateKey::load(ALGORITHM, key.content.pkcs8.expose()).map_err(|_| damaged("does not load"))?;
    let revision = certificate.version.0;
    Ok(Some(ClusterIdentity { key, certificate: certificate.content, revision }))
}

/// Makes the request that the operator's CA is to sign; and the key, if there is none yet.
pub(crate) fn request(
    engine: &Engine,
    permission: &Permission,
    asked: &ClusterCsr,
) -> Result<CertificationRequest, Denial> {
    let names = request::checked_names(&asked.names)?;
    engine.self_tests.generator_is_healthy()?;
    let key = engine.transact(|records| {
        check_asker(engine, permission, records)?;
        if let Some(found) = key_of(records)? {
            return Ok(found);
        }
        let key = PrivateKey::generate(ALGORITHM)?;
        let made = IdentityKey { pkcs8: Secret::from(key.to_pkcs8()?) };
        records.put(ONLY, None, &made, Vec::new(), None)?;
        Ok(key)
    })?;
    let subject = engine.sealing()?.cluster().to_string();
    let der = request::certification_request(&subject, &names, &key.spki()?, |info| key.sign(SCHEME, info))?;
    Ok(CertificationRequest { der })
}

/// Sets the certificate, once it holds: for this key, from this CA, valid now, for TLS servers.
pub(crate) fn set_certificate(
    engine: &Engine,
    permission: &Permission,
    asked: &SetClusterCertificate,
    now: Now,
) -> Result<ClusterStatus, Denial> {
    // Before anything is parsed, and again when it counts.
    engine.transact(|records| check_asker(engine, permission, records))?;
    let status = certificate::checked(&asked.chain, &asked.trust_anchor, now)?;
    engine.transact_as(permission, |records| {
        check_asker(engine, permission, records)?;
        let key = key_of(records)?.map(|key| key.spki()).transpose()?;
        if key.is_none_or(|spki| spki != status.spki) {
            return Err(certificate::of_another_key());
        }
        let before = records.load::<ClusterCertificate>(ONLY)?.map(|found| found.version);
        let certificate = ClusterCertificate {
            chain: asked.chain.clone(),
            trust_anchor: asked.trust_anchor.clone(),
            status: status.told.clone(),
        };
        records.put(ONLY, before, &certificate, Vec::new(), None)
    })?;
    lifecycle::status(engine, permission)
}

/// What the audit log says of a certificate that was set.
pub(crate) fn told(set: &SetClusterCertificate) -> String {
    let hash = |der: &[u8]| HEXLOWER.encode(&sha256(der));
    let certificate = set.chain.first().map_or(&[][..], Vec::as_slice);
    format!("certificate sha256 {}, trust anchor sha256 {}", hash(certificate), hash(&set.trust_anchor))
}

fn key_of(records: &mut Transaction<'_>) -> Result<Option<PrivateKey>, Denial> {
    let Some(found) = records.load::<IdentityKey>(ONLY)? else { return Ok(None) };
    PrivateKey::load(ALGORITHM, found.content.pkcs8.expose()).map(Some)
}

/// An admin, or the pre-officer of a cluster that has no users yet.
fn check_asker(
    engine: &Engine,
    permission: &Permission,
    records: &mut Transaction<'_>,
) -> Result<(), Denial> {
    match permission.principal() {
        Some(_) => Ok(()),
        None => lifecycle::check_inactive(engine, records)
            .map_err(|active| Denial::not_logged_in().because(active.refusal.detail)),
    }
}
