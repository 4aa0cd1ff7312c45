use std::cell::{Cell, RefCell};
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest;
use keycore_client::blocking::Client;
use keycore_wire::{
    Attribute, Attributes, KeyAlgorithm, KeyId, KeyInfo, KeySelector, PublicKey, PublicKeyReply, Sign,
    SignatureScheme,
};
use rcgen::{PublicKeyData, SignatureAlgorithm, SigningKey};

use crate::Error;

/// Signs with keys that are elsewhere.
pub trait RemoteSigner {
    /// The signature of the whole `message`, in the encoding of TLS and X.509: DER for ECDSA.
    ///
    /// # Errors
    ///
    /// As the engine or the way to it has it.
    fn sign(
        &self,
        key: KeyId,
        scheme: SignatureScheme,
        message: &[u8],
    ) -> Result<Vec<u8>, keycore_client::Error>;
}

impl RemoteSigner for RefCell<Client> {
    fn sign(
        &self,
        key: KeyId,
        scheme: SignatureScheme,
        message: &[u8],
    ) -> Result<Vec<u8>, keycore_client::Error> {
        Ok(self.borrow_mut().call(&Sign { key, scheme, message })?.bytes)
    }
}

impl RemoteSigner for Mutex<Client> {
    fn sign(
        &self,
        key: KeyId,
        scheme: SignatureScheme,
        message: &[u8],
    ) -> Result<Vec<u8>, keycore_client::Error> {
        let mut client = self.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(client.call(&Sign { key, scheme, message })?.bytes)
    }
}

/// A key pair of the engine: its public half, and the way to signatures with the other.
pub struct RemoteKey<'a> {
    info: KeyInfo,
    subject: SubjectKey,
    signature_algorithm: &'static SignatureAlgorithm,
    scheme: SignatureScheme,
    signer: &'a dyn RemoteSigner,
    /// What the signer said; rcgen's error has no room for it.
    failure: Cell<Option<keycore_client::Error>>,
}

impl<'a> RemoteKey<'a> {
    /// A key whose public half is known already.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPublicKey`] if the public key is not of the algorithm or not the one that the information
    /// names; [`Error::NotForCertificates`].
    pub fn new(reply: PublicKeyReply, signer: &'a dyn RemoteSigner) -> Result<Self, Error> {
        let PublicKeyReply { info, spki } = reply;
        let Some((signature_algorithm, scheme)) = in_certificates(info.algorithm) else {
            return Err(Error::NotForCertificates { label: info.label, algorithm: info.algorithm });
        };
        let hash = digest::digest(&digest::SHA256, &spki);
        let subject = SubjectKey::from_spki(&spki).ok().filter(|subject| {
            info.spki_sha256.is_some_and(|spki| spki.0 == hash.as_ref())
                && subject.0.subject_public_key_info()
                    == PublicHalf { bytes: subject.0.der_bytes(), algorithm: signature_algorithm }
                        .subject_public_key_info()
        });
        let Some(subject) = subject else {
            return Err(Error::InvalidPublicKey { label: info.label, algorithm: info.algorithm });
        };
        Ok(Self { info, subject, signature_algorithm, scheme, signer, failure: Cell::new(None) })
    }

    /// Asks the engine for a key's public half.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`], for instance if the user has no such key; [`Error::InvalidPublicKey`].
    pub fn load(client: &'a RefCell<Client>, key: KeySelector) -> Result<Self, Error> {
        let reply = client.borrow_mut().call(&PublicKey { key })?;
        Self::new(reply, client)
    }

    /// What the engine says about the key.
    pub fn info(&self) -> &KeyInfo {
        &self.info
    }

    /// The public half.
    pub fn subject(&self) -> SubjectKey {
        self.subject.clone()
    }

    /// The scheme of its signatures on certificates and requests: for RSA PKCS#1 v1.5 with SHA-256, because
    /// everything verifies it.
    pub fn scheme(&self) -> SignatureScheme {
        self.scheme
    }

    /// Whether it is bound to the handshakes of TLS clients (usage `tls-client`).
    pub fn is_of_a_client(&self) -> bool {
        self.info.attributes.has(Attribute::TlsClient)
    }

    /// Whether the engine will sign certificates with it.
    pub(crate) fn require_certifying(&self) -> Result<(), Error> {
        if self.info.attributes.has_any(Attributes::TLS_BOUND) {
            return Err(Error::TlsBound { label: self.info.label.clone() });
        }
        Ok(())
    }

    /// Runs rcgen with this key and puts back the signer's own error.
    pub(crate) fn encode<T>(&self, run: impl FnOnce(&Self) -> Result<T, rcgen::Error>) -> Result<T, Error> {
        self.failure.set(None);
        run(self).map_err(|error| match self.failure.take() {
            Some(failure) => Error::Engine(failure),
            None => Error::Encoding(error),
        })
    }
}

impl PublicKeyData for RemoteKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.subject.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.signature_algorithm
    }
}

impl SigningKey for RemoteKey<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.signer.sign(self.info.id, self.scheme(), message).map_err(|error| {
            self.failure.set(Some(error));
            rcgen::Error::RemoteKeyError
        })
    }
}

/// A public key that a certificate can be made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectKey(pub(crate) rcgen::SubjectPublicKeyInfo);

impl SubjectKey {
    /// Reads a DER SubjectPublicKeyInfo.
    ///
    /// # Errors
    ///
    /// [`Error::UnsupportedAlgorithm`] unless it is RSA, P-256, P-384, P-521 or Ed25519.
    pub fn from_spki(spki: &[u8]) -> Result<Self, Error> {
        let unsupported = Error::UnsupportedAlgorithm { what: "the public key" };
        match rcgen::SubjectPublicKeyInfo::from_der(spki) {
            Ok(subject) => Ok(Self(subject)),
            Err(_) => Err(unsupported),
        }
    }

    /// The DER SubjectPublicKeyInfo.
    pub fn spki(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }
}

struct PublicHalf<'a> {
    bytes: &'a [u8],
    algorithm: &'static SignatureAlgorithm,
}

impl PublicKeyData for PublicHalf<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.bytes
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

/// How keys of an algorithm sign certificates and requests; none for those that the field's verifiers don't take.
fn in_certificates(algorithm: KeyAlgorithm) -> Option<(&'static SignatureAlgorithm, SignatureScheme)> {
    match algorithm {
        KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => {
            Some((&rcgen::PKCS_RSA_SHA256, SignatureScheme::RsaPkcs1Sha256))
        }
        KeyAlgorithm::P256 => Some((&rcgen::PKCS_ECDSA_P256_SHA256, SignatureScheme::EcdsaP256Sha256)),
        KeyAlgorithm::P384 => Some((&rcgen::PKCS_ECDSA_P384_SHA384, SignatureScheme::EcdsaP384Sha384)),
        KeyAlgorithm::P521 => Some((&rcgen::PKCS_ECDSA_P521_SHA512, SignatureScheme::EcdsaP521Sha512)),
        KeyAlgorithm::Ed25519 => Some((&rcgen::PKCS_ED25519, SignatureScheme::Ed25519)),
        KeyAlgorithm::Secp256k1
        | KeyAlgorithm::MlDsa44
        | KeyAlgorithm::MlDsa65
        | KeyAlgorithm::MlDsa87
        | KeyAlgorithm::Aes128
        | KeyAlgorithm::Aes192
        | KeyAlgorithm::Aes256
        | KeyAlgorithm::GenericSecret(_) => None,
    }
}
