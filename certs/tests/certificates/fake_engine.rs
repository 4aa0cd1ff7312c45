//! Signs as the engine does, with keys of this process.

use std::collections::HashMap;

use hsm_certs::{RemoteKey, RemoteSigner};
use keycore_client::Error;
use keycore_wire::{
    Attribute, Attributes, KeyAlgorithm, KeyId, KeyInfo, PublicKeyReply, Refusal, RefusalCode,
    SignatureScheme, SpkiSha256, UnixMillis, UserId,
};
use rcgen::{KeyPair, PublicKeyData, RsaKeySize, SigningKey};

#[derive(Default)]
pub(crate) struct FakeEngine {
    keys: HashMap<KeyId, (KeyPair, KeyInfo)>,
}

impl FakeEngine {
    /// Makes a key with this label, which is also its id.
    pub(crate) fn generate(&mut self, label: &str, algorithm: KeyAlgorithm, usage: Attributes) {
        let rsa = |size| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size);
        let pair = match algorithm {
            KeyAlgorithm::Rsa2048 => rsa(RsaKeySize::_2048),
            KeyAlgorithm::Rsa3072 => rsa(RsaKeySize::_3072),
            KeyAlgorithm::Rsa4096 => rsa(RsaKeySize::_4096),
            KeyAlgorithm::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            KeyAlgorithm::P384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            KeyAlgorithm::P521 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512),
            KeyAlgorithm::Ed25519 => KeyPair::generate_for(&rcgen::PKCS_ED25519),
            other => panic!("no certificates with {other}"),
        }
        .unwrap();
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &pair.subject_public_key_info());
        let info = KeyInfo {
            id: id_of(label),
            owner: UserId([7; 16]),
            label: label.parse().unwrap(),
            algorithm,
            attributes: Attributes::DEFAULT.with(usage),
            spki_sha256: Some(SpkiSha256(hash.as_ref().try_into().unwrap())),
            check_value: [0; 3],
            quorum_management: 0,
            quorum_usage: 0,
            wrap_template: None,
            unwrap_template: None,
            predecessor: None,
            retired_until: None,
            created_at: UnixMillis(0),
        };
        self.keys.insert(info.id, (pair, info));
    }

    /// An engine with one key of usage sign for each label.
    pub(crate) fn with(keys: &[(&str, KeyAlgorithm)]) -> Self {
        let mut engine = Self::default();
        for &(label, algorithm) in keys {
            engine.generate(label, algorithm, Attributes::SIGN);
        }
        engine
    }

    pub(crate) fn public_key(&self, label: &str) -> PublicKeyReply {
        let (pair, info) = &self.keys[&id_of(label)];
        PublicKeyReply { info: info.clone(), spki: pair.subject_public_key_info() }
    }

    pub(crate) fn key(&self, label: &str) -> RemoteKey<'_> {
        RemoteKey::new(self.public_key(label), self).unwrap()
    }
}

impl RemoteSigner for FakeEngine {
    fn sign(&self, key: KeyId, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, Error> {
        let (pair, info) = &self.keys[&key];
        assert!(info.algorithm.schemes().contains(&scheme), "{scheme:?} with {}", info.algorithm);
        // A TLS-bound key signs its request: a version 0 comes first there, a tagged version in a certificate.
        if info.attributes.has(Attribute::TlsServer)
            && !message[..10].windows(3).any(|bytes| bytes == [2, 1, 0])
        {
            return Err(Error::Refused(Refusal::new(RefusalCode::NotATlsHandshake, "not a handshake")));
        }
        Ok(pair.sign(message).unwrap())
    }
}

fn id_of(label: &str) -> KeyId {
    KeyId(core::array::from_fn(|at| label.as_bytes().get(at).copied().unwrap_or(0)))
}
