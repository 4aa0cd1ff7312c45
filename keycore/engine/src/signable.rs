//! What a key may sign, as a value that can be made here only.

use keycore_wire::{Attribute, Attributes, RefusalCode, SignatureScheme};

use crate::attributes;
use crate::certification_request;
use crate::denial::Denial;
use crate::key_cache::LoadedKey;
use crate::tls_message::{TlsEnd, TlsMessage};

/// A message that the key's usage and algorithm allow it to sign with the scheme.
pub(crate) struct Signable<'a> {
    message: &'a [u8],
    scheme: SignatureScheme,
}

impl<'a> Signable<'a> {
    /// A handshake of the end that a TLS-bound key is of.
    pub(crate) fn handshake(
        key: &LoadedKey,
        scheme: SignatureScheme,
        message: &'a [u8],
    ) -> Result<Self, Denial> {
        let end = if key.info.attributes.has(Attribute::TlsClient) {
            TlsEnd::Client
        } else {
            attributes::require(&key.info, Attribute::TlsServer)?;
            TlsEnd::Server
        };
        TlsMessage::parse(end, message, scheme)
            .map_err(|error| Denial::new(RefusalCode::NotATlsHandshake, format!("refused: {error}")))?;
        Self::with_scheme_of(key, scheme, message)
    }

    /// Anything for a key that may `sign`; for a TLS-bound key its own certification request.
    pub(crate) fn message(
        key: &LoadedKey,
        scheme: SignatureScheme,
        message: &'a [u8],
    ) -> Result<Self, Denial> {
        if key.info.attributes.has_any(Attributes::TLS_BOUND) {
            certification_request::check(message, &key.spki).map_err(|_| {
                Denial::new(
                    RefusalCode::NotATlsHandshake,
                    "a tls-server or tls-client key signs handshakes of its end and the certification request of its own public key only",
                )
            })?;
        } else {
            attributes::require(&key.info, Attribute::Sign)?;
        }
        Self::with_scheme_of(key, scheme, message)
    }

    fn with_scheme_of(key: &LoadedKey, scheme: SignatureScheme, message: &'a [u8]) -> Result<Self, Denial> {
        if key.info.algorithm.schemes().contains(&scheme) {
            Ok(Self { message, scheme })
        } else {
            Err(not_suitable("the key's algorithm does not have this signature scheme"))
        }
    }

    pub(crate) fn content(&self) -> &'a [u8] {
        self.message
    }

    pub(crate) fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

fn not_suitable(detail: &str) -> Denial {
    Denial::new(RefusalCode::KeyNotSuitable, detail)
}
