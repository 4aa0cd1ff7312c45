use std::time::{Duration, Instant};

use keycore_wire::{RefusalCode, SignatureScheme};
use rustls::crypto::aws_lc_rs;

use crate::chain::Chain;
use crate::signer::EngineSigningKey;

/// The key of a certificate could not be shown to be there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProofError {
    #[error(
        "the engines have no key of this user for the certificate: see `hsm key list` as that user, make the certificate \
         anew for a key that is there, or bring the key in by `hsm key import`"
    )]
    NoKey,
    #[error(
        "the certificate's key in the engines is not of usage {0}, and never will be: make one (`hsm key \
         generate-asymmetric-pair ec --usage {0} …`) and a certificate for it (`hsm cert csr`)"
    )]
    WrongUsage(&'static str),
    #[error("no engine signed with the certificate's key: {0}")]
    NoSignature(keycore_client::Error),
    #[error("the engine's signature is not the certificate's: {0}")]
    WrongSignature(String),
    #[error("the system gives no random bytes")]
    NoRandomness,
}

impl ProofError {
    /// What it means that a handshake of this end was not signed.
    pub(super) fn of(end: End, error: keycore_client::Error) -> Self {
        use RefusalCode::{KeyNotSuitable, NotATlsHandshake, NotFound};
        match error {
            keycore_client::Error::Refused(refusal) if refusal.code == NotFound => Self::NoKey,
            // A key of the other end's usage, and one of none of them: the message is a handshake, and the scheme is the key's.
            keycore_client::Error::Refused(refusal)
                if matches!(refusal.code, KeyNotSuitable | NotATlsHandshake) =>
            {
                Self::WrongUsage(end.usage())
            }
            other => Self::NoSignature(other),
        }
    }
}

/// Whose handshakes a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Server,
    Client,
}

impl End {
    /// The usage that its keys have in the engines.
    fn usage(self) -> &'static str {
        match self {
            Self::Server => "tls-server",
            Self::Client => "tls-client",
        }
    }
}

/// Lets an engine sign what it would sign in a TLS 1.3 handshake, and verifies it with the certificate. Returns how
/// long the signature took.
pub(super) fn prove(
    end: End,
    key: &EngineSigningKey,
    chain: &Chain,
    site: &str,
) -> Result<Duration, ProofError> {
    let &scheme = key.algorithm().schemes().first().ok_or(ProofError::NoKey)?;
    let message = certificate_verify(end)?;
    let start = Instant::now();
    let signature = key.sign_blocking(scheme, site, &message).map_err(|error| ProofError::of(end, error))?;
    let took = start.elapsed();
    verify(chain, scheme, &message, &signature)?;
    Ok(took)
}

/// The content of a TLS 1.3 CertificateVerify (RFC 8446, section 4.4.3) over a transcript that never was.
fn certificate_verify(end: End) -> Result<Vec<u8>, ProofError> {
    let mut transcript_hash = [0; 32];
    let provider = aws_lc_rs::default_provider();
    provider.secure_random.fill(&mut transcript_hash).map_err(|_| ProofError::NoRandomness)?;
    let mut message = vec![b' '; 64];
    message.extend_from_slice(match end {
        End::Server => b"TLS 1.3, server CertificateVerify\0",
        End::Client => b"TLS 1.3, client CertificateVerify\0",
    });
    message.extend_from_slice(&transcript_hash);
    Ok(message)
}

pub(super) fn verify(
    chain: &Chain,
    scheme: SignatureScheme,
    message: &[u8],
    signature: &[u8],
) -> Result<(), ProofError> {
    let wrong = |error: &dyn std::fmt::Display| ProofError::WrongSignature(error.to_string());
    let certificate = webpki::EndEntityCert::try_from(chain.leaf()).map_err(|error| wrong(&error))?;
    let scheme = rustls::SignatureScheme::from(scheme.code());
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    let candidates = algorithms.mapping.iter().find(|(known, _)| *known == scheme).map(|(_, all)| *all);
    let mut outcome = Err(ProofError::WrongSignature(format!("{scheme:?} can't be verified")));
    for algorithm in candidates.unwrap_or_default() {
        outcome = certificate.verify_signature(*algorithm, message, signature).map_err(|error| wrong(&error));
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}
