//! Private keys in PEM files, brought into the one form that the engine takes: unencrypted PKCS#8.

use std::path::Path;

use data_encoding::BASE64;
use keycore_wire::{MAX_PKCS8, Secret};
use p256::pkcs8::der::asn1::{AnyRef, ContextSpecific, OctetStringRef};
use p256::pkcs8::der::{Reader, SliceReader, TagNumber};
use p256::pkcs8::spki::AlgorithmIdentifierRef;
use p256::pkcs8::{ObjectIdentifier, PrivateKeyInfo, SecretDocument, der};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::file;

/// Longest PEM file, in bytes; it may hold certificates as well.
const LONGEST: usize = 256 * 1024;

/// rsaEncryption (RFC 8017, appendix A.1).
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// id-ecPublicKey (RFC 5480, section 2.1.1).
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

/// Reads the only private key in a PEM file and returns it as PKCS#8.
pub(crate) fn read(path: &Path) -> Result<Secret, Failure> {
    let content = file::read_secret(path, LONGEST)?;
    convert(&content).map_err(|Unusable { problem, advice }| Failure::Content {
        path: path.to_owned(),
        problem,
        advice: advice.map(|advice| advice.replace("FILE", &path.display().to_string())),
    })
}

/// Why a file gives no key.
#[derive(Debug)]
struct Unusable {
    problem: String,
    /// With `FILE` for the path.
    advice: Option<&'static str>,
}

impl Unusable {
    fn new(problem: impl Into<String>, advice: &'static str) -> Self {
        Self { problem: problem.into(), advice: Some(advice) }
    }
}

/// How a block of PEM holds a private key.
enum Form {
    Pkcs8,
    Pkcs1,
    Sec1,
}

fn convert(content: &[u8]) -> Result<Secret, Unusable> {
    let Ok(text) = core::str::from_utf8(content) else {
        return Err(Unusable::new(
            "not a PEM file",
            "if it is DER: openssl pkey -inform DER -in FILE -out key.pem",
        ));
    };
    let mut found = None;
    for (label, body) in blocks(text) {
        let form = match label {
            "PRIVATE KEY" => Form::Pkcs8,
            "RSA PRIVATE KEY" => Form::Pkcs1,
            "EC PRIVATE KEY" => Form::Sec1,
            "ENCRYPTED PRIVATE KEY" => return Err(encrypted()),
            "OPENSSH PRIVATE KEY" => {
                return Err(Unusable::new(
                    "a private key in OpenSSH's own form",
                    "convert a copy of it: ssh-keygen -p -m PKCS8 -f COPY",
                ));
            }
            _ => continue,
        };
        if body.contains("Proc-Type:") {
            return Err(encrypted());
        }
        if found.replace((form, body)).is_some() {
            return Err(Unusable { problem: "it holds several private keys".to_owned(), advice: None });
        }
    }
    let Some((form, body)) = found else {
        return Err(Unusable::new(
            "no private key in it",
            "expected is a block that begins with -----BEGIN PRIVATE KEY-----, RSA PRIVATE KEY or EC PRIVATE KEY",
        ));
    };
    let broken = || Unusable { problem: "the private key in it is damaged".to_owned(), advice: None };
    let der = decode(body).ok_or_else(broken)?;
    let pkcs8 = match form {
        Form::Pkcs8 => der,
        Form::Pkcs1 => wrap(RSA, AnyRef::NULL, &der).map_err(|_| broken())?,
        Form::Sec1 => {
            let curve = named_curve(&der).map_err(|_| broken())?.ok_or_else(|| {
                Unusable::new(
                    "the EC key does not name its curve",
                    "convert it: openssl pkcs8 -topk8 -nocrypt -in FILE -out key.pem",
                )
            })?;
            wrap(EC, AnyRef::from(&curve), &der).map_err(|_| broken())?
        }
    };
    if pkcs8.len() > MAX_PKCS8 {
        return Err(Unusable {
            problem: format!("the private key has {} bytes, more than {MAX_PKCS8}", pkcs8.len()),
            advice: None,
        });
    }
    Ok(pkcs8.into())
}

fn encrypted() -> Unusable {
    Unusable::new(
        "the private key is encrypted",
        "decrypt it where no disk keeps it: openssl pkcs8 -topk8 -nocrypt -in FILE -out /dev/shm/key.pem \
         (umask 077 first), import that, then shred -u /dev/shm/key.pem",
    )
}

/// Label and body of each complete block (RFC 7468).
fn blocks(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = text;
    core::iter::from_fn(move || {
        let (_, after) = rest.split_once("-----BEGIN ")?;
        let (label, after) = after.split_once("-----")?;
        let (body, after) = after.split_once(&format!("-----END {label}-----"))?;
        rest = after;
        Some((label, body))
    })
}

fn decode(body: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(Vec::with_capacity(body.len()));
    text.extend(body.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    let mut der = Zeroizing::new(vec![0; BASE64.decode_len(text.len()).ok()?]);
    let length = BASE64.decode_mut(&text, &mut der).ok()?;
    der.truncate(length);
    Some(der)
}

/// PKCS#8 (RFC 5958, section 2) around a key in its algorithm's own form.
fn wrap(algorithm: ObjectIdentifier, parameters: AnyRef<'_>, key: &[u8]) -> der::Result<Zeroizing<Vec<u8>>> {
    let algorithm = AlgorithmIdentifierRef { oid: algorithm, parameters: Some(parameters) };
    let document =
        SecretDocument::try_from(PrivateKeyInfo::new(algorithm, key)).map_err(|_| der::ErrorKind::Failed)?;
    Ok(Zeroizing::new(document.as_bytes().to_vec()))
}

/// The curve that an ECPrivateKey (RFC 5915, section 3) names.
fn named_curve(sec1: &[u8]) -> der::Result<Option<ObjectIdentifier>> {
    SliceReader::new(sec1)?.sequence(|reader| {
        let _version: u8 = reader.decode()?;
        let _scalar: OctetStringRef<'_> = reader.decode()?;
        let curve = ContextSpecific::<ObjectIdentifier>::decode_explicit(reader, TagNumber::N0)?;
        // The public key may follow; the engine looks at it.
        let rest = reader.remaining_len();
        reader.read_slice(rest)?;
        Ok(curve.map(|field| field.value))
    })
}

#[cfg(test)]
mod tests;
