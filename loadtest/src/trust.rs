//! Whom the client trusts: the issuers in a file, and any server whose own certificate is in it.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// Like curl and openssl, it accepts a self-signed server certificate that it was given, even one that says it is a
/// CA's, as `openssl req -x509` makes them, and one that a CA issued that it was not given. Name and time are verified in any case.
///
/// A chain that comes again and again is verified once, not with each handshake: the load should fill the server's
/// core before the client's. The signature of each handshake is new, and is verified for one handshake in `one_in`.
#[derive(Debug)]
pub(crate) struct Trust {
    chains: Arc<WebPkiServerVerifier>,
    given: Vec<CertificateDer<'static>>,
    good: Mutex<Option<GoodChain>>,
    one_in: NonZeroU32,
    handshakes: AtomicU32,
}

/// The chain that was verified last, and for whom.
#[derive(Debug)]
struct GoodChain {
    certificates: Vec<CertificateDer<'static>>,
    name: ServerName<'static>,
}

impl GoodChain {
    fn is(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
    ) -> bool {
        self.name == *name && self.certificates.iter().eq(std::iter::once(end_entity).chain(intermediates))
    }
}

impl Trust {
    /// Fails if one of the certificates can't be a trust anchor.
    pub(crate) fn new(
        given: Vec<CertificateDer<'static>>,
        provider: &Arc<CryptoProvider>,
        one_in: NonZeroU32,
    ) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in &given {
            roots.add(certificate.clone())?;
        }
        let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        Ok(Self { chains, given, good: Mutex::new(None), one_in, handshakes: AtomicU32::new(0) })
    }

    /// Whether the signature of this handshake is not looked at.
    fn takes_on_trust(&self) -> bool {
        self.handshakes.fetch_add(1, Ordering::Relaxed) % self.one_in != 0
    }

    fn verify_chain(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<(), Error> {
        let verified =
            self.chains.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // What webpki says of a CA's certificate that a server uses, and of one whose issuer was not given; it has
            // checked the time before.
            Err(Error::InvalidCertificate(CertificateError::Other(_) | CertificateError::UnknownIssuer))
                if self.given.iter().any(|given| given == end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)
            }
            other => other.map(|_| ()),
        }
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        if !good.as_ref().is_some_and(|chain| chain.is(end_entity, intermediates, server_name)) {
            self.verify_chain(end_entity, intermediates, server_name, ocsp_response, now)?;
            let certificates = std::iter::once(end_entity).chain(intermediates);
            *good = Some(GoodChain {
                certificates: certificates.map(|certificate| certificate.clone().into_owned()).collect(),
                name: server_name.to_owned(),
            });
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.takes_on_trust() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        self.chains.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.takes_on_trust() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        self.chains.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, Issuer, KeyPair};
    use rustls::crypto::aws_lc_rs::default_provider;

    use super::*;

    #[test]
    fn a_certificate_that_was_given_needs_no_issuer_but_its_name_and_its_time() {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.distinguished_name.push(DnType::CommonName, "an issuer that is not given");
        let issuer = Issuer::new(ca, &ca_key);
        let issued = |change: fn(&mut CertificateParams)| {
            let mut parameters = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
            change(&mut parameters);
            let made = parameters.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
            CertificateDer::from(made.der().to_vec())
        };
        let (good, other) = (issued(|_| ()), issued(|_| ()));
        let over = issued(|parameters| parameters.not_after = rcgen::date_time_ymd(2020, 1, 1));
        let provider = Arc::new(default_provider());
        let trust = Trust::new(vec![good.clone(), over.clone()], &provider, NonZeroU32::MIN).unwrap();
        let verify = |certificate: &CertificateDer<'_>, name: &'static str| {
            let name = ServerName::try_from(name).unwrap();
            trust.verify_server_cert(certificate, &[], &name, &[], UnixTime::now()).map(drop)
        };
        verify(&good, "a.example").unwrap();
        for (certificate, name) in [(&good, "b.example"), (&other, "a.example"), (&over, "a.example")] {
            assert!(verify(certificate, name).is_err(), "{name}");
        }
    }
}
