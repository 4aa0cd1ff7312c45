use std::sync::Arc;
use std::time::Duration;

use keycore_client::Error;
use keycore_wire::{KeyAlgorithm, KeyId, KeyLabel, KeyTemplate, PublicKeyReply, SignatureScheme};
use rustls::sign::SigningKey;

/// Makes and uses the keys that certificates are ordered with. All but [`CertificateKeys::challenge_key`] block.
pub trait CertificateKeys: Send + Sync {
    /// The key with this label, if there is one.
    ///
    /// # Errors
    ///
    /// As the engines, or the way to them, have it; so do all others.
    fn find(&self, label: &KeyLabel) -> Result<Option<PublicKeyReply>, Error>;

    /// Makes a key. If there is one of that label, that one is it: another proxy was quicker.
    fn make(&self, algorithm: KeyAlgorithm, template: KeyTemplate) -> Result<PublicKeyReply, Error>;

    /// Puts a new key in the place and under the label of an old one, which goes on to make handshakes for `grace`.
    fn rotate(&self, key: KeyId, grace: Duration) -> Result<PublicKeyReply, Error>;

    /// Deletes a key. One that is not there is no error.
    fn delete(&self, key: KeyId) -> Result<(), Error>;

    /// The signature of the whole message, in the encoding of TLS.
    fn sign(&self, key: KeyId, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, Error>;

    /// Something that makes handshakes with a P-256 key of usage `sign`, on workers.
    fn challenge_key(&self, key: &PublicKeyReply) -> Arc<dyn SigningKey>;
}

/// Lets the certificates' encoder sign.
pub(super) struct Signs<'a>(pub(super) &'a dyn CertificateKeys);

impl hsm_certs::RemoteSigner for Signs<'_> {
    fn sign(&self, key: KeyId, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.0.sign(key, scheme, message)
    }
}
