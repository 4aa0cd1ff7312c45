//! What has to hold of a certificate before the engines show it to anybody. Paths are webpki's, as with the clients that will
//! check it; this file adds what webpki does not ask of a trust anchor, and words that say what to do.

use core::time::Duration;

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use keycore_wire::{
    ClusterCertificateStatus, MAX_CLUSTER_CERTIFICATES, MAX_CLUSTER_CHAIN, RefusalCode, UnixMillis,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::x509::X509Version;

use crate::denial::Denial;
use crate::options::Now;
use crate::private_key::{EC_PUBLIC_KEY, RSA_ENCRYPTION, SECP256R1, SECP384R1, sha256};

/// Longest subject that is told, in characters.
const MAX_SUBJECT: usize = 128;

/// Sizes of the modulus that a trust anchor may have, in bits.
const RSA_BITS: [usize; 3] = [2048, 3072, 4096];

/// Arcs of the signature algorithms that a trust anchor may be signed with (RFC 4055, RFC 5758).
const RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
const RSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c];
const RSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d];
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];

/// A certificate that holds, apart from whose key it is of.
pub(super) struct Checked {
    pub(super) told: ClusterCertificateStatus,
    /// The SubjectPublicKeyInfo that it is of.
    pub(super) spki: Vec<u8>,
}

/// Checks a chain against the CA that it is to lead to, at this moment.
pub(super) fn checked(chain: &[Vec<u8>], anchor: &[u8], now: Now) -> Result<Checked, Denial> {
    let length = chain.iter().map(Vec::len).sum::<usize>() + anchor.len();
    if chain.is_empty() || chain.len() > MAX_CLUSTER_CHAIN || length > MAX_CLUSTER_CERTIFICATES {
        return Err(Denial::malformed(format!(
            "a chain has 1 to {MAX_CLUSTER_CHAIN} certificates, and at most {MAX_CLUSTER_CERTIFICATES} bytes with the trust \
             anchor"
        )));
    }
    check_trust_anchor(anchor, now)?;
    let leaf = parse(&chain[0], "the certificate")?;
    check_leaf(&leaf, now)?;
    check_path(chain, anchor, now)?;
    let not_after = leaf.validity().not_after.timestamp();
    Ok(Checked {
        told: ClusterCertificateStatus {
            subject: leaf.subject().to_string().chars().take(MAX_SUBJECT).collect(),
            not_after: UnixMillis(u64::try_from(not_after).unwrap_or(0).saturating_mul(1000)),
            sha256: sha256(&chain[0]),
            trust_anchor_sha256: sha256(anchor),
        },
        spki: leaf.public_key().raw.to_vec(),
    })
}

pub(super) fn of_another_key() -> Denial {
    Denial::new(
        RefusalCode::CertificateOfAnotherKey,
        "the certificate is not of this cluster's identity key; sign what hsm cluster csr gives",
    )
}

/// A CA's certificate, signed with its own RSA or EC key, and valid now.
fn check_trust_anchor(der: &[u8], now: Now) -> Result<(), Denial> {
    let anchor = parse(der, "the trust anchor")?;
    check_validity(&anchor, "the trust anchor", now)?;
    if anchor.subject().as_raw() != anchor.issuer().as_raw() {
        return Err(invalid(
            "the trust anchor is not self-signed; give the root of the CA, the rest with the chain",
        ));
    }
    let mut ca = false;
    for extension in anchor.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(constraints) => ca = constraints.ca,
            ParsedExtension::KeyUsage(usage) if !usage.key_cert_sign() => {
                return Err(invalid("the trust anchor's key usage lacks keyCertSign"));
            }
            _ => {}
        }
    }
    if !ca {
        return Err(invalid("the trust anchor is no CA's certificate: basicConstraints lack CA:TRUE"));
    }
    let Some(verification) = verification(&anchor) else {
        return Err(invalid(
            "the trust anchor has RSA of 2048, 3072 or 4096 bits, or EC P-256 or P-384, and is signed with SHA-256 or more",
        ));
    };
    UnparsedPublicKey::new(verification, &anchor.public_key().subject_public_key.data)
        .verify(anchor.tbs_certificate.as_ref(), &anchor.signature_value.data)
        .map_err(|_| invalid("the trust anchor's own signature is wrong"))
}

fn verification(anchor: &X509Certificate<'_>) -> Option<&'static dyn VerificationAlgorithm> {
    let key = anchor.public_key();
    let curve = key.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
    let curve = curve.as_ref().map(x509_parser::asn1_rs::Oid::as_bytes);
    let signed = anchor.signature_algorithm.algorithm.as_bytes();
    Some(match (key.algorithm.algorithm.as_bytes(), curve, signed) {
        (RSA_ENCRYPTION, _, signed) => {
            if !key.parsed().is_ok_and(|key| RSA_BITS.contains(&key.key_size())) {
                return None;
            }
            match signed {
                RSA_SHA256 => &signature::RSA_PKCS1_2048_8192_SHA256,
                RSA_SHA384 => &signature::RSA_PKCS1_2048_8192_SHA384,
                RSA_SHA512 => &signature::RSA_PKCS1_2048_8192_SHA512,
                _ => return None,
            }
        }
        (EC_PUBLIC_KEY, Some(SECP256R1), ECDSA_SHA256) => &signature::ECDSA_P256_SHA256_ASN1,
        (EC_PUBLIC_KEY, Some(SECP256R1), ECDSA_SHA384) => &signature::ECDSA_P256_SHA384_ASN1,
        (EC_PUBLIC_KEY, Some(SECP384R1), ECDSA_SHA256) => &signature::ECDSA_P384_SHA256_ASN1,
        (EC_PUBLIC_KEY, Some(SECP384R1), ECDSA_SHA384) => &signature::ECDSA_P384_SHA384_ASN1,
        _ => return None,
    })
}

/// What clients ask of a server's certificate: names, and a usage.
fn check_leaf(leaf: &X509Certificate<'_>, now: Now) -> Result<(), Denial> {
    check_validity(leaf, "the certificate", now)?;
    let (mut named, mut for_servers) = (false, false);
    for extension in leaf.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => {
                let is_name = |name: &GeneralName<'_>| {
                    matches!(name, GeneralName::DNSName(_) | GeneralName::IPAddress(_))
                };
                named = names.general_names.iter().any(is_name);
            }
            ParsedExtension::ExtendedKeyUsage(usage) => for_servers = usage.server_auth,
            _ => {}
        }
    }
    match (named, for_servers) {
        (true, true) => Ok(()),
        (false, _) => Err(invalid(
            "the certificate has no DNS name or address (subjectAltName): let the CA copy the request's extensions",
        )),
        (true, false) => Err(invalid(
            "the certificate is not for TLS servers (extendedKeyUsage serverAuth): let the CA copy the request's extensions",
        )),
    }
}

fn check_path(chain: &[Vec<u8>], anchor: &[u8], now: Now) -> Result<(), Denial> {
    let untrusted = |error: webpki::Error| {
        let detail = match error {
            webpki::Error::UnknownIssuer => {
                "the certificate does not lead to the trust anchor; CAs in between belong into the chain"
                    .to_owned()
            }
            other => format!("the certificate does not lead to the trust anchor: {other}"),
        };
        Denial::new(RefusalCode::UntrustedCertificate, detail)
    };
    let anchor = CertificateDer::from(anchor);
    let anchors = [webpki::anchor_from_trusted_cert(&anchor).map_err(untrusted)?];
    let leaf = CertificateDer::from(&*chain[0]);
    let above: Vec<_> = chain[1..].iter().map(|der| CertificateDer::from(&**der)).collect();
    let time = UnixTime::since_unix_epoch(Duration::from_millis(now.wall.0));
    EndEntityCert::try_from(&leaf)
        .and_then(|leaf| {
            let algorithms = webpki::ALL_VERIFICATION_ALGS;
            let usage = KeyUsage::server_auth();
            leaf.verify_for_usage(algorithms, &anchors, &above, time, usage, None, None).map(drop)
        })
        .map_err(untrusted)
}

fn check_validity(certificate: &X509Certificate<'_>, what: &str, now: Now) -> Result<(), Denial> {
    let now = i64::try_from(now.wall.0 / 1000).unwrap_or(i64::MAX);
    let validity = certificate.validity();
    if now < validity.not_before.timestamp() {
        return Err(invalid(format!("{what} is not valid before {}", validity.not_before)));
    }
    if now > validity.not_after.timestamp() {
        return Err(invalid(format!("{what} was valid until {}", validity.not_after)));
    }
    Ok(())
}

/// Reads one X.509 certificate of version 3; nothing may follow it.
fn parse<'a>(der: &'a [u8], what: &str) -> Result<X509Certificate<'a>, Denial> {
    match x509_parser::parse_x509_certificate(der) {
        Ok(([], certificate)) if certificate.version() == X509Version::V3 => Ok(certificate),
        Ok(([], _)) => Err(invalid(format!("{what} is not of X.509 version 3"))),
        _ => Err(invalid(format!("{what} is not X.509 in DER"))),
    }
}

fn invalid(detail: impl Into<String>) -> Denial {
    Denial::new(RefusalCode::InvalidCertificate, detail)
}
