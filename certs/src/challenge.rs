use rcgen::{CertificateParams, CustomExtension, IsCa};
use time::OffsetDateTime;

use crate::issuer::sign_self;
use crate::names::{AlternativeName, DnsName};
use crate::profile::{Days, Validity, complete};
use crate::{Certificate, Error, RemoteKey};

/// Makes the certificate that answers a TLS-ALPN-01 challenge (RFC 8737, section 3) for `name`: signed with its own key, of one
/// name, with the critical extension acmeIdentifier, which holds the SHA-256 of the key authorization. Valid for a day.
///
/// # Errors
///
/// [`Error::TlsBound`], [`Error::Engine`].
pub fn tls_alpn_challenge(
    key: &RemoteKey<'_>,
    name: &DnsName,
    authorization: [u8; 32],
    now: OffsetDateTime,
) -> Result<Certificate, Error> {
    let day = Days::new(1)?;
    sign_self(key, || {
        let mut params = CertificateParams::default();
        complete(&mut params, Validity::starting(now, day))?;
        params.subject_alt_names = vec![AlternativeName::Dns(name.clone()).to_rcgen()?];
        params.is_ca = IsCa::ExplicitNoCa;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(&authorization)];
        Ok(params)
    })
}
