//! The certification request of the cluster's identity key (PKCS#10, RFC 2986), laid out inside so that the key signs nothing else.

use core::net::IpAddr;

use aws_lc_rs::error::Unspecified;
use keycore_wire::{ClusterName, MAX_CLUSTER_NAMES};

use crate::certification_request;
use crate::denial::Denial;
use crate::der::{
    BIT_STRING, CONTEXT_0, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET, UTF8_STRING, element,
};

/// 1.2.840.10045.4.3.2, ecdsa-with-SHA256 (RFC 5758).
const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// 1.2.840.113549.1.9.14, extensionRequest (RFC 2985, section 5.4.2).
const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];
/// 2.5.4.3, commonName; 2.5.29.15, keyUsage; 2.5.29.17, subjectAltName; 2.5.29.37, extKeyUsage (RFC 5280).
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const EXT_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
/// 1.3.6.1.5.5.7.3.1, id-kp-serverAuth.
const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];

const BOOLEAN: u8 = 0x01;
/// Tags of a GeneralName (RFC 5280, section 4.2.1.6).
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;

/// Names that a certificate can have.
pub(super) struct Names<'a>(&'a [ClusterName]);

/// Checks the names that the operator gave: 1 to [`MAX_CLUSTER_NAMES`], DNS names without wildcards.
pub(super) fn checked_names(names: &[ClusterName]) -> Result<Names<'_>, Denial> {
    if names.is_empty() || names.len() > MAX_CLUSTER_NAMES {
        return Err(Denial::malformed(format!(
            "a certificate of the cluster has 1 to {MAX_CLUSTER_NAMES} names"
        )));
    }
    for name in names {
        if let ClusterName::Dns(name) = name
            && !is_host_name(name)
        {
            return Err(Denial::malformed("a name of the cluster is no DNS name of a host, in ASCII"));
        }
    }
    Ok(Names(names))
}

/// Letters, digits and hyphens (RFC 1123, section 2.1), at most 253 of them; the last label is no number, as in an address.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= 253 && name.split('.').all(is_label) && !last.bytes().all(|byte| byte.is_ascii_digit())
}

/// Lays the request out, and has it signed: for a TLS server with these names, whose common name is `subject`.
pub(super) fn certification_request(
    subject: &str,
    names: &Names<'_>,
    spki: &[u8],
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, Unspecified>,
) -> Result<Vec<u8>, Denial> {
    let common_name = element(SEQUENCE, &[&oid(COMMON_NAME), &element(UTF8_STRING, &[subject.as_bytes()])]);
    let name = element(SEQUENCE, &[&element(SET, &[&common_name])]);
    let extensions = element(
        SEQUENCE,
        &[
            // digitalSignature, bit 0.
            &extension(KEY_USAGE, true, &element(BIT_STRING, &[&[7, 0x80]])),
            &extension(EXT_KEY_USAGE, false, &element(SEQUENCE, &[&oid(SERVER_AUTH)])),
            &extension(SUBJECT_ALT_NAME, false, &names.to_der()),
        ],
    );
    let asked = element(SEQUENCE, &[&oid(EXTENSION_REQUEST), &element(SET, &[&extensions])]);
    let version = element(INTEGER, &[&[0]]);
    let info = element(SEQUENCE, &[&version, &name, spki, &element(CONTEXT_0, &[&asked])]);
    // What every key of the cluster that makes a request is held to.
    certification_request::check(&info, spki)
        .map_err(|_| Denial::internal("the cluster's certification request is not well formed"))?;
    let algorithm = element(SEQUENCE, &[&oid(ECDSA_WITH_SHA256)]);
    let signature = element(BIT_STRING, &[&[0], &sign(&info)?]);
    Ok(element(SEQUENCE, &[&info, &algorithm, &signature]))
}

impl Names<'_> {
    fn to_der(&self) -> Vec<u8> {
        let names: Vec<_> = self
            .0
            .iter()
            .map(|name| match name {
                ClusterName::Dns(name) => element(DNS_NAME, &[name.as_bytes()]),
                ClusterName::Ip(IpAddr::V4(address)) => element(IP_ADDRESS, &[&address.octets()]),
                ClusterName::Ip(IpAddr::V6(address)) => element(IP_ADDRESS, &[&address.octets()]),
            })
            .collect();
        element(SEQUENCE, &[&names.concat()])
    }
}

fn oid(arcs: &[u8]) -> Vec<u8> {
    element(OBJECT_IDENTIFIER, &[arcs])
}

fn extension(id: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { element(BOOLEAN, &[&[0xff]]) } else { Vec::new() };
    element(SEQUENCE, &[&oid(id), &critical, &element(OCTET_STRING, &[value])])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dns(name: &str) -> Vec<ClusterName> {
        vec![ClusterName::Dns(name.to_owned())]
    }

    #[test]
    fn names_are_those_of_hosts() {
        for good in ["hsm", "hsm-1.example.org", "1.example", "xn--bcher-kva.example"] {
            assert!(checked_names(&dns(good)).is_ok(), "{good}");
        }
        let long = format!("{}.org", "a.".repeat(126));
        for bad in
            ["", ".", "a..b", "a.", "-a", "a-.org", "*.org", "a_b", "b\u{fc}", "10.0.0.1", "a b", &long]
        {
            assert!(checked_names(&dns(bad)).is_err(), "{bad:?}");
        }
        let of = |count: usize| vec![ClusterName::Dns("a".to_owned()); count];
        assert!(checked_names(&of(MAX_CLUSTER_NAMES)).is_ok());
        assert!(checked_names(&of(MAX_CLUSTER_NAMES + 1)).is_err());
        assert!(checked_names(&[]).is_err());
    }
}
