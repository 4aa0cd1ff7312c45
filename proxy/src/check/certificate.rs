//! What clients will hold against a certificate chain.

use time::{Duration, OffsetDateTime};
use x509_parser::oid_registry::{OID_PKCS1_SHA1WITHRSA, Oid};
use x509_parser::prelude::X509Certificate;

use super::SiteReport;
use super::proof::End;
use crate::chain::{Chain, parse};

/// With how much left an expiry is worth a warning at most; certificates of a few days have a third of their lifetime.
const EXPIRES_SOON: Duration = Duration::days(14);

pub(super) fn inspect(end: End, chain: &Chain, now: OffsetDateTime, report: &mut SiteReport) {
    let mut parsed = Vec::new();
    for (at, certificate) in chain.certificates().iter().enumerate() {
        match parse(certificate) {
            Ok(certificate) => parsed.push(certificate),
            Err(reason) => report.errors.push(format!("certificate {} is malformed: {reason}", at + 1)),
        }
    }
    for (at, certificate) in parsed.iter().enumerate() {
        validity(at + 1, certificate, now, report);
    }
    if let Some(leaf) = parsed.first() {
        purpose(end, leaf, report);
    }
    order(&parsed, report);
}

fn validity(number: usize, certificate: &X509Certificate<'_>, now: OffsetDateTime, report: &mut SiteReport) {
    let validity = certificate.validity();
    let (from, until) = (validity.not_before.to_datetime(), validity.not_after.to_datetime());
    if now < from {
        report.errors.push(format!("certificate {number} is not valid before {}", from.date()));
    } else if now > until {
        report.errors.push(format!("certificate {number} expired on {}", until.date()));
    } else if until - now < EXPIRES_SOON.min((until - from) / 3) {
        report.warnings.push(format!("certificate {number} expires on {}", until.date()));
    }
    // RFC 5758, section 3.2, leaves it to RFC 3279: 1.2.840.10045.4.1.
    let ecdsa_with_sha1 = Oid::new((&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1]).into());
    let signature = &certificate.signature_algorithm.algorithm;
    if *signature == OID_PKCS1_SHA1WITHRSA || *signature == ecdsa_with_sha1 {
        report.warnings.push(format!("certificate {number} is signed with SHA-1, which clients refuse"));
    }
}

fn purpose(end: End, leaf: &X509Certificate<'_>, report: &mut SiteReport) {
    if let Ok(Some(usage)) = leaf.extended_key_usage()
        && !usage.value.any
    {
        let (is_for, whom) = match end {
            End::Server => (usage.value.server_auth, "servers (extended key usage serverAuth)"),
            End::Client => (usage.value.client_auth, "clients (extended key usage clientAuth)"),
        };
        if !is_for {
            report.errors.push(format!("the certificate is not for TLS {whom}"));
        }
    }
    if let Ok(Some(usage)) = leaf.key_usage()
        && !usage.value.digital_signature()
    {
        report.errors.push("the certificate's key may not sign (key usage digitalSignature)".to_owned());
    }
    if leaf.is_ca() {
        report.warnings.push(
            "the first certificate is marked as a CA's: it should be the site's own, and not a CA".to_owned(),
        );
    }
}

/// Each certificate was issued by the next one (RFC 8446, section 4.4.2).
fn order(chain: &[X509Certificate<'_>], report: &mut SiteReport) {
    for (at, pair) in chain.windows(2).enumerate() {
        let [certificate, issuer] = pair else { continue };
        if certificate.issuer().as_raw() != issuer.subject().as_raw() {
            report.errors.push(format!(
                "certificate {} was issued by \"{}\", but certificate {} is \"{}\"",
                at + 1,
                certificate.issuer(),
                at + 2,
                issuer.subject()
            ));
        }
    }
    let Some(last) = chain.last() else { return };
    let is_root = last.issuer().as_raw() == last.subject().as_raw();
    let warning = match (chain.len(), is_root) {
        (1, true) => "self-signed: clients trust it only if they are told to".to_owned(),
        (1, false) => {
            format!("the file ends here; clients must know its issuer, \"{}\", already", last.issuer())
        }
        (_, true) => "the root need not be sent: clients have it or don't trust it".to_owned(),
        (_, false) => return,
    };
    report.warnings.push(warning);
}
