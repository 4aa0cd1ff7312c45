//! Keys of TLS clients, which are files on the clients' own machines.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use rcgen::{CertificateParams, PublicKeyData, SignatureAlgorithm, SigningKey};
use zeroize::Zeroizing;

use crate::{CertificateRequest, Error, Subject, secret_to_pem, to_pem};

/// A new P-256 key of a TLS client: what opens the engines' ports from another machine, and signs nothing else.
pub struct ClientKey(EcdsaKeyPair);

impl ClientKey {
    /// Makes one.
    ///
    /// # Errors
    ///
    /// [`Error::NoKey`] if the system gives no random numbers.
    pub fn generate() -> Result<Self, Error> {
        EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map(Self).map_err(|_| Error::NoKey)
    }

    /// The private key as unencrypted PKCS#8 (RFC 5958) in PEM; its copies are wiped.
    ///
    /// # Errors
    ///
    /// [`Error::NoKey`].
    pub fn pem(&self) -> Result<Zeroizing<String>, Error> {
        let pkcs8 = self.0.to_pkcs8v1().map_err(|_| Error::NoKey)?;
        Ok(secret_to_pem("PRIVATE KEY", pkcs8.as_ref()))
    }

    /// Its certificate signing request (PKCS#10, RFC 2986), in PEM. It names the client and asks for nothing else: what a
    /// client's certificate is for is the CA's to say.
    ///
    /// # Errors
    ///
    /// [`Error::Encoding`], [`Error::SelfCheck`].
    pub fn request(&self, subject: &Subject) -> Result<String, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject.to_rcgen();
        let request = params.serialize_request(self).map_err(Error::Encoding)?;
        CertificateRequest::from_der(request.der()).map_err(|error| match error {
            Error::RequestSignature => Error::SelfCheck,
            other => other,
        })?;
        Ok(to_pem("CERTIFICATE REQUEST", request.der()))
    }
}

impl PublicKeyData for ClientKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for ClientKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature =
            self.0.sign(&SystemRandom::new(), message).map_err(|_| rcgen::Error::RingUnspecified)?;
        Ok(signature.as_ref().to_vec())
    }
}
