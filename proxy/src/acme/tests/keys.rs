//! Keys in memory, which are counted.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use keycore_client::Error;
use keycore_wire::{
    Attribute, KeyAlgorithm, KeyId, KeyInfo, KeyLabel, KeyTemplate, PublicKeyReply, SignatureScheme,
    SpkiSha256, UnixMillis, UserId,
};
use rcgen::{KeyPair, PublicKeyData, SigningKey as _};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::SigningKey;

use crate::acme::CertificateKeys;

/// Old enough for a rotation at any time.
const LONG_AGO: UnixMillis = UnixMillis(1);

/// P-256 keys only.
#[derive(Default)]
pub(super) struct MemoryKeys {
    keys: Mutex<Vec<(KeyPair, PublicKeyReply)>>,
    signatures: AtomicUsize,
    made: AtomicUsize,
}

impl MemoryKeys {
    fn keys(&self) -> MutexGuard<'_, Vec<(KeyPair, PublicKeyReply)>> {
        self.keys.lock().unwrap()
    }

    /// The labels of those that are there.
    pub(super) fn labels(&self) -> Vec<String> {
        self.keys().iter().map(|(_, reply)| reply.info.label.to_string()).collect()
    }

    /// Signatures so far.
    pub(super) fn signatures(&self) -> usize {
        self.signatures.load(Ordering::Relaxed)
    }

    /// Keys made so far.
    pub(super) fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }
}

impl CertificateKeys for MemoryKeys {
    fn find(&self, label: &KeyLabel) -> Result<Option<PublicKeyReply>, Error> {
        let keys = self.keys();
        Ok(keys.iter().find(|(_, reply)| reply.info.label == *label).map(|(_, reply)| reply.clone()))
    }

    fn make(&self, algorithm: KeyAlgorithm, template: KeyTemplate) -> Result<PublicKeyReply, Error> {
        assert_eq!(algorithm, KeyAlgorithm::P256);
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let pair = KeyPair::generate().unwrap();
        let spki = pair.subject_public_key_info();
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &spki);
        let info = KeyInfo {
            id: KeyId([u8::try_from(number).unwrap(); 16]),
            owner: UserId([1; 16]),
            label: template.label,
            algorithm,
            attributes: template.attributes,
            spki_sha256: Some(SpkiSha256(hash.as_ref().try_into().unwrap())),
            check_value: [0; 3],
            quorum_management: 0,
            quorum_usage: 0,
            wrap_template: None,
            unwrap_template: None,
            predecessor: None,
            retired_until: None,
            created_at: LONG_AGO,
        };
        let reply = PublicKeyReply { info, spki };
        self.keys().push((pair, reply.clone()));
        Ok(reply)
    }

    fn rotate(&self, key: KeyId, _: Duration) -> Result<PublicKeyReply, Error> {
        let template = {
            let mut keys = self.keys();
            let (_, old) = keys.iter_mut().find(|(_, reply)| reply.info.id == key).unwrap();
            let template = KeyTemplate::new(old.info.label.clone(), old.info.attributes);
            old.info.label = format!("retired-{key}").parse().unwrap();
            template
        };
        self.make(KeyAlgorithm::P256, template)
    }

    fn delete(&self, key: KeyId) -> Result<(), Error> {
        self.keys().retain(|(_, reply)| {
            let stays = reply.info.id != key;
            assert!(
                stays || !reply.info.attributes.has(Attribute::Token),
                "only keys of a session are deleted"
            );
            stays
        });
        Ok(())
    }

    fn sign(&self, key: KeyId, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, Error> {
        assert_eq!(scheme, SignatureScheme::EcdsaP256Sha256);
        self.signatures.fetch_add(1, Ordering::Relaxed);
        let keys = self.keys();
        let (pair, _) = keys.iter().find(|(_, reply)| reply.info.id == key).unwrap();
        Ok(pair.sign(message).unwrap())
    }

    fn challenge_key(&self, key: &PublicKeyReply) -> Arc<dyn SigningKey> {
        let keys = self.keys();
        let (pair, _) = keys.iter().find(|(_, reply)| reply.info.id == key.info.id).unwrap();
        let der = PrivateKeyDer::try_from(pair.serialize_der()).unwrap();
        rustls::crypto::aws_lc_rs::sign::any_ecdsa_type(&der).unwrap()
    }
}
