use rcgen::CertificateParams;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use crate::key::{RemoteKey, SubjectKey};
use crate::names::AlternativeName;
use crate::profile::{Subject, server_params};
use crate::verify::verify;
use crate::{Error, ServerNames, to_pem};

/// Makes a certificate signing request (PKCS#10, RFC 2986) for a TLS server, in PEM. Keys of both usages sign it.
///
/// # Errors
///
/// [`Error::Engine`].
pub fn request(key: &RemoteKey<'_>, subject: &Subject, names: &ServerNames) -> Result<String, Error> {
    let der = key.encode(|key| Ok(server_params(subject, names)?.serialize_request(key)?.der().to_vec()))?;
    CertificateRequest::from_der(&der).map_err(|error| match error {
        Error::RequestSignature => Error::SelfCheck,
        other => other,
    })?;
    Ok(to_pem("CERTIFICATE REQUEST", &der))
}

/// The same for a TLS client: it names the client and asks for nothing else; what a client's certificate is for is the CA's to say.
///
/// # Errors
///
/// [`Error::Engine`].
pub fn client_request(key: &RemoteKey<'_>, subject: &Subject) -> Result<String, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject.to_rcgen();
    let der = key.encode(|key| Ok(params.serialize_request(key)?.der().to_vec()))?;
    CertificateRequest::from_der(&der).map_err(|error| match error {
        Error::RequestSignature => Error::SelfCheck,
        other => other,
    })?;
    Ok(to_pem("CERTIFICATE REQUEST", &der))
}

/// A certificate signing request whose maker proved to hold the key.
///
/// Taken from it are the public key, the subject's common name and organization, and the DNS names and IP
/// addresses; whatever else it asks for is up to the CA's profile.
#[derive(Debug, Clone)]
pub struct CertificateRequest {
    subject_key: SubjectKey,
    subject: Subject,
    names: Vec<AlternativeName>,
}

impl CertificateRequest {
    /// Reads a request in PEM and checks its signature.
    ///
    /// # Errors
    ///
    /// [`Error::NoPem`], and as [`CertificateRequest::from_der`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        let der = CertificateSigningRequestDer::from_pem_slice(pem)
            .map_err(|_| Error::NoPem { expected: "CERTIFICATE REQUEST" })?;
        Self::from_der(&der)
    }

    /// Reads a request in DER and checks its signature.
    ///
    /// # Errors
    ///
    /// [`Error::Unreadable`], [`Error::RequestSignature`], [`Error::UnsupportedAlgorithm`]; a request to become a
    /// CA, or with a name that no server can have, is [`Error::RequestRefused`] or [`Error::Name`].
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let unreadable = |reason: String| Error::Unreadable { what: "certificate request", reason };
        let request = match X509CertificationRequest::from_der(der) {
            Ok(([], request)) => request,
            Ok(_) => return Err(unreadable("bytes follow its end".to_owned())),
            Err(error) => return Err(unreadable(error.to_string())),
        };
        let info = &request.certification_request_info;
        verify(
            &info.subject_pki,
            &request.signature_algorithm,
            info.raw,
            &request.signature_value.data,
            || Error::RequestSignature,
        )?;
        let mut names = Vec::new();
        for extension in request.requested_extensions().into_iter().flatten() {
            match extension {
                ParsedExtension::SubjectAlternativeName(found) => {
                    for name in &found.general_names {
                        names.push(alternative_name(name)?);
                    }
                }
                ParsedExtension::BasicConstraints(constraints) if constraints.ca => {
                    return Err(Error::RequestRefused {
                        reason: "it asks for a CA's certificate; those are made of keys of this cluster only",
                    });
                }
                _ => {}
            }
        }
        Ok(Self {
            subject_key: SubjectKey::from_spki(info.subject_pki.raw)?,
            subject: subject(&info.subject)?,
            names,
        })
    }

    /// The public key to be certified.
    pub fn subject_key(&self) -> &SubjectKey {
        &self.subject_key
    }

    /// Whose it is.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// The names that it asks for; may be none.
    pub fn names(&self) -> &[AlternativeName] {
        &self.names
    }
}

fn alternative_name(name: &GeneralName<'_>) -> Result<AlternativeName, Error> {
    match name {
        GeneralName::DNSName(name) => Ok(AlternativeName::Dns(name.parse()?)),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(Into::into);
            let v6 = <[u8; 16]>::try_from(*bytes).map(Into::into);
            v4.or(v6)
                .map(AlternativeName::Ip)
                .map_err(|_| Error::RequestRefused { reason: "an IP address in it has a wrong length" })
        }
        _ => Err(Error::RequestRefused {
            reason: "it asks for a name that is neither DNS name nor IP address",
        }),
    }
}

fn subject(name: &X509Name<'_>) -> Result<Subject, Error> {
    let unreadable = |error| Error::Unreadable { what: "subject of the request", reason: format!("{error}") };
    let mut subject = Subject::default();
    for (attribute, place) in [
        (name.iter_common_name().next(), &mut subject.common_name),
        (name.iter_organization().next(), &mut subject.organization),
    ] {
        if let Some(attribute) = attribute {
            *place = Some(attribute.as_str().map_err(unreadable)?.parse()?);
        }
    }
    Ok(subject)
}
