//! What upstreams are told of a client's certificate: `Client-Cert` (RFC 9440), and fields after the custom of other proxies. What a
//! client sends under these names is dropped on every site.

use std::fmt::Write;
use std::sync::Arc;

use data_encoding::{BASE64, HEXLOWER};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::X509Certificate;
use x509_parser::x509::X509Name;

use crate::chain::{ip_address, parse};

const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const VERIFIED: HeaderName = HeaderName::from_static("x-client-cert-verified");
const SUBJECT: HeaderName = HeaderName::from_static("x-client-cert-subject");
const ISSUER: HeaderName = HeaderName::from_static("x-client-cert-issuer");
const SERIAL: HeaderName = HeaderName::from_static("x-client-cert-serial");
const SAN: HeaderName = HeaderName::from_static("x-client-cert-san");
const FINGERPRINT: HeaderName = HeaderName::from_static("x-client-cert-fingerprint");

/// Beginnings of names under which servers are used to be told of clients' certificates: by this proxy, nginx, Apache, HAProxy.
/// Envoy's and Traefik's begin with `X-Forwarded-`.
const CLAIMS: [&[u8]; 5] = [b"client-cert", b"x-client-cert", b"x-ssl-client", b"ssl-client", b"x-ssl-cert"];

/// Who a client is, as the upstream is told it; made once for a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdentity(Arc<[(HeaderName, HeaderValue)]>);

impl ClientIdentity {
    /// Of the certificates that a client showed, its own first, and that were verified; none if it had none.
    pub(crate) fn of(certificates: Option<&[CertificateDer<'_>]>) -> Self {
        let Some(own) = certificates.and_then(<[_]>::first) else {
            return Self(Arc::new([(VERIFIED, HeaderValue::from_static("NONE"))]));
        };
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, own);
        let mut fields = vec![
            (VERIFIED, "SUCCESS".to_owned()),
            // A byte sequence of RFC 8941, section 3.3.5.
            (CLIENT_CERT, format!(":{}:", BASE64.encode(own))),
            (FINGERPRINT, HEXLOWER.encode(digest.as_ref())),
        ];
        if let Ok(parsed) = parse(own) {
            fields.push((SUBJECT, distinguished_name(parsed.subject())));
            fields.push((ISSUER, distinguished_name(parsed.issuer())));
            fields.push((SERIAL, HEXLOWER.encode(parsed.raw_serial())));
            let names = alternative_names(&parsed);
            if !names.is_empty() {
                fields.push((SAN, names));
            }
        }
        // All of it is printable ASCII.
        Self(
            fields
                .into_iter()
                .filter_map(|(name, value)| Some((name, HeaderValue::try_from(value).ok()?)))
                .collect(),
        )
    }

    /// The fields' names and values.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
    }

    /// Adds the fields to a request whose own ones of these names are gone.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        for (name, value) in &*self.0 {
            headers.insert(name.clone(), value.clone());
        }
    }
}

/// Whether a field's name, in lower case, is one by which upstreams are told of a client's certificate: that is the proxy's alone.
/// Many servers treat `_` like `-`.
pub(crate) fn is_claim_of_identity(name: &[u8]) -> bool {
    let begins = |claim: &[u8]| {
        name.len() >= claim.len()
            && name.iter().zip(claim).all(|(&byte, &claim)| byte == claim || (claim == b'-' && byte == b'_'))
    };
    CLAIMS.iter().any(|claim| begins(claim))
}

/// As a string of RFC 4514: the most specific part first, so that no value passes for another attribute.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = name
        .iter()
        .map(|rdn| {
            let attributes = rdn.iter().map(|attribute| {
                let oid = attribute.attr_type();
                let kind =
                    oid2abbrev(oid, oid_registry()).map_or_else(|_| oid.to_id_string(), ToOwned::to_owned);
                match attribute.as_str() {
                    Ok(value) => format!("{kind}={}", escaped_value(value)),
                    Err(_) => format!("{kind}=#{}", HEXLOWER.encode(attribute.as_slice())),
                }
            });
            attributes.collect::<Vec<_>>().join("+")
        })
        .collect();
    parts.reverse();
    parts.join(",")
}

/// RFC 4514, section 2.4. All but printable ASCII is in hexadecimal pairs.
fn escaped_value(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let last = value.len().saturating_sub(1);
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' | b'=' => out.extend(['\\', char::from(byte)]),
            b'#' if at == 0 => out.push_str("\\#"),
            b' ' if at == 0 || at == last => out.push_str("\\ "),
            b' '..=b'~' => out.push(char::from(byte)),
            // Writing to a `String` does not fail.
            _ => drop(write!(out, "\\{byte:02X}")),
        }
    }
    out
}

/// `DNS:a.example,URI:spiffe://b/c`; what could pass for a separator is in percent form.
fn alternative_names(certificate: &X509Certificate<'_>) -> String {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return String::new() };
    let names = extension.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(format!("DNS:{}", percent(name))),
        GeneralName::RFC822Name(name) => Some(format!("email:{}", percent(name))),
        GeneralName::URI(name) => Some(format!("URI:{}", percent(name))),
        GeneralName::IPAddress(bytes) => ip_address(bytes).map(|address| format!("IP:{address}")),
        _ => None,
    });
    names.collect::<Vec<_>>().join(",")
}

fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | b',' | b'"' | b'\\' => drop(write!(out, "%{byte:02X}")),
            b'!'..=b'~' => out.push(char::from(byte)),
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    #[test]
    fn no_name_in_a_certificate_passes_for_two() {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::URI("spiffe://x/,DNS:admin.example".try_into().unwrap()));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Example \u{e9}");
        params.distinguished_name.push(DnType::CommonName, "mallory,O=admins ");
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let mut headers = HeaderMap::new();
        ClientIdentity::of(Some(&[certificate.der().clone()])).write(&mut headers);
        assert_eq!(headers["x-client-cert-subject"], "CN=mallory\\,O\\=admins\\ ,O=Example \\C3\\A9");
        assert_eq!(headers["x-client-cert-san"], "DNS:a.example,URI:spiffe://x/%2CDNS:admin.example");
        assert_eq!(headers["x-client-cert-verified"], "SUCCESS");
        let sent = headers["client-cert"].to_str().unwrap();
        let der = BASE64.decode(sent.trim_matches(':').as_bytes()).unwrap();
        assert_eq!(der, **certificate.der());

        let mut headers = HeaderMap::new();
        ClientIdentity::of(None).write(&mut headers);
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["x-client-cert-verified"], "NONE");
    }

    #[test]
    fn names_that_servers_believe_are_claims_however_they_are_spelt() {
        for claim in [
            "client-cert",
            "client_cert",
            "client-cert-chain",
            "x-client-cert-verified",
            "x-ssl-client-verify",
            "ssl_client_s_dn",
        ] {
            assert!(is_claim_of_identity(claim.as_bytes()), "{claim}");
        }
        for other in ["client", "x-client", "certificate", "accept", "x-ssl"] {
            assert!(!is_claim_of_identity(other.as_bytes()), "{other}");
        }
    }
}
