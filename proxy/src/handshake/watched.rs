use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use rustls::SignatureScheme;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::sign::{Signer, SigningKey};

/// A key that tells the handshake when it can't sign, whoever holds it.
pub(crate) struct WatchedKey(pub(crate) Arc<dyn SigningKey>);

impl SigningKey for WatchedKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        Some(Box::new(WatchedSigner(self.0.choose_scheme(offered)?)))
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        self.0.public_key()
    }

    fn algorithm(&self) -> rustls::SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl fmt::Debug for WatchedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Debug)]
struct WatchedSigner(Box<dyn Signer>);

impl Signer for WatchedSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let handshake = super::current();
        if handshake.as_ref().is_some_and(|handshake| !handshake.may_sign()) {
            return Err(rustls::Error::General("the site's signing budget is spent".to_owned()));
        }
        let start = Instant::now();
        let signature = self.0.sign(message);
        if let Some(handshake) = handshake {
            handshake.waited_for_signature(start);
            if signature.is_err() {
                handshake.leave_unsigned();
            }
        }
        signature
    }

    fn scheme(&self) -> SignatureScheme {
        self.0.scheme()
    }
}
