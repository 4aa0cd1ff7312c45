//! Signatures and authentication codes.

use aws_lc_rs::cmac;
use aws_lc_rs::digest::Digest;
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{self, EcdsaKeyPair, RsaEncoding, RsaKeyPair};
use keycore_wire::{EcdsaEncoding, Hash, SignMechanism};

use super::public_key::Curve;
use super::{bad_input, hash, not_offered};
use crate::denial::Denial;
use crate::der::{NULL, NotDer, OBJECT_IDENTIFIER, OCTET_STRING, Reader, SEQUENCE};
use crate::material::{Material, SecretKey};
use crate::private_key::Pair;

/// Signs `data`, or its digest if it is `prehashed`.
pub(crate) fn sign(
    key: &Material,
    mechanism: SignMechanism,
    prehashed: bool,
    data: &[u8],
) -> Result<Vec<u8>, Denial> {
    let private = match key {
        Material::Secret(secret) => return code(secret, mechanism, prehashed, data),
        Material::Private(private) => private,
    };
    match (private.pair(), mechanism) {
        (Pair::Rsa(pair), SignMechanism::RsaPkcs1(hash)) => {
            rsa(pair, pkcs1(hash)?, &digest_of(hash, prehashed, data)?)
        }
        (Pair::Rsa(pair), SignMechanism::RsaPss(hash)) => {
            rsa(pair, pss(hash)?, &digest_of(hash, prehashed, data)?)
        }
        (Pair::Rsa(pair), SignMechanism::RsaPkcs1DigestInfo) => {
            let (hash, digest) = digest_info(data)?;
            rsa(pair, pkcs1(hash)?, &digest_of(hash, true, digest)?)
        }
        (Pair::Ecdsa(pair), SignMechanism::Ecdsa(hash, encoding)) => {
            let curve = private.curve().ok_or_else(|| Denial::internal("an EC key without a curve"))?;
            let digest = curve_digest(curve, digest_of(hash, prehashed, data)?.as_ref())?;
            ecdsa(pair, curve, encoding, &digest)
        }
        (Pair::Ed25519(pair), SignMechanism::Ed25519) => {
            not_prehashed(prehashed)?;
            Ok(pair.try_sign(data)?.as_ref().to_vec())
        }
        (Pair::MlDsa(pair), SignMechanism::MlDsa) => {
            not_prehashed(prehashed)?;
            let mut signature = vec![0; pair.algorithm().signature_len()];
            let length = pair.sign(data, &mut signature)?;
            signature.truncate(length);
            Ok(signature)
        }
        _ => Err(not_offered(format!("a key of type {} has no {mechanism}", private.algorithm()))),
    }
}

/// An authentication code.
fn code(key: &SecretKey, mechanism: SignMechanism, prehashed: bool, data: &[u8]) -> Result<Vec<u8>, Denial> {
    not_prehashed(prehashed)?;
    match mechanism {
        SignMechanism::Hmac(hash) if !key.algorithm().is_aes() => {
            let key = hmac::Key::new(hash::hmac(hash), key.expose());
            Ok(hmac::sign(&key, data).as_ref().to_vec())
        }
        SignMechanism::AesCmac if key.algorithm().is_aes() => {
            Ok(cmac::sign(&cmac_key(key)?, data)?.as_ref().to_vec())
        }
        _ => Err(not_offered(format!("a key of type {} has no {mechanism}", key.algorithm()))),
    }
}

pub(super) fn cmac_key(key: &SecretKey) -> Result<cmac::Key, Denial> {
    let algorithm = match key.expose().len() {
        16 => cmac::AES_128,
        24 => cmac::AES_192,
        _ => cmac::AES_256,
    };
    Ok(cmac::Key::new(algorithm, key.expose())?)
}

fn rsa(pair: &RsaKeyPair, encoding: &'static dyn RsaEncoding, digest: &Digest) -> Result<Vec<u8>, Denial> {
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign_digest(encoding, digest, &mut signature)?;
    Ok(signature)
}

fn ecdsa(
    pair: &EcdsaKeyPair,
    curve: Curve,
    encoding: EcdsaEncoding,
    digest: &Digest,
) -> Result<Vec<u8>, Denial> {
    let der = pair.sign_digest(digest)?;
    match encoding {
        EcdsaEncoding::Der => Ok(der.as_ref().to_vec()),
        EcdsaEncoding::Fixed => {
            fixed(curve, der.as_ref()).map_err(|NotDer| Denial::internal("aws-lc wrote no ECDSA signature"))
        }
    }
}

/// r and s, each filled to the length of the curve's order.
fn fixed(curve: Curve, der: &[u8]) -> Result<Vec<u8>, NotDer> {
    let length = order_len(curve);
    let mut outer = Reader::new(der);
    let mut both = Reader::new(outer.take(SEQUENCE)?);
    let mut signature = Vec::with_capacity(2 * length);
    for _ in 0..2 {
        let number = both.take(crate::der::INTEGER)?;
        let number = number.strip_prefix(&[0]).unwrap_or(number);
        let filling = length.checked_sub(number.len()).ok_or(NotDer)?;
        signature.resize(signature.len() + filling, 0);
        signature.extend_from_slice(number);
    }
    Ok(signature)
}

/// Length of the order of a curve's base point, in bytes.
fn order_len(curve: Curve) -> usize {
    match curve {
        Curve::P256 | Curve::Secp256k1 => 32,
        Curve::P384 => 48,
        Curve::P521 => 66,
    }
}

/// The message's digest: computed, or the one that was given.
pub(super) fn digest_of(hash: Hash, prehashed: bool, data: &[u8]) -> Result<Digest, Denial> {
    if !prehashed {
        return Ok(hash::digest(hash, data));
    }
    Digest::import_less_safe(data, hash::algorithm(hash))
        .map_err(|_| bad_input(format!("a digest of {hash} has {} bytes", hash.digest_len())))
}

/// A digest of any length as one of the length that aws-lc signs on this curve. ECDSA takes the leftmost bits, as many
/// as the order has (FIPS 186-5, section 6.4.1), as a number: what is cut off behind has no effect, nor have zeros before.
pub(super) fn curve_digest(curve: Curve, digest: &[u8]) -> Result<Digest, Denial> {
    let hash = match curve {
        Curve::P256 | Curve::Secp256k1 => Hash::Sha256,
        Curve::P384 => Hash::Sha384,
        Curve::P521 => Hash::Sha512,
    };
    let length = hash.digest_len();
    let mut number = vec![0; length.saturating_sub(digest.len())];
    number.extend_from_slice(&digest[..digest.len().min(length)]);
    Ok(Digest::import_less_safe(&number, hash::algorithm(hash))?)
}

/// Reads DigestInfo (RFC 8017, appendix A.2.4); only its one DER encoding is taken.
pub(super) fn digest_info(der: &[u8]) -> Result<(Hash, &[u8]), Denial> {
    let read = || {
        let mut outer = Reader::new(der);
        let mut info = Reader::new(outer.take(SEQUENCE)?);
        outer.end()?;
        let mut algorithm = Reader::new(info.take(SEQUENCE)?);
        let oid = algorithm.take(OBJECT_IDENTIFIER)?;
        let parameters = algorithm.take(NULL)?;
        algorithm.end()?;
        let digest = info.take(OCTET_STRING)?;
        info.end()?;
        let hash = match oid {
            [0x2b, 0x0e, 0x03, 0x02, 0x1a] => Hash::Sha1,
            [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01] => Hash::Sha256,
            [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02] => Hash::Sha384,
            [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03] => Hash::Sha512,
            [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x04] => Hash::Sha224,
            _ => return Err(NotDer),
        };
        if parameters.is_empty() && digest.len() == hash.digest_len() {
            Ok((hash, digest))
        } else {
            Err(NotDer)
        }
    };
    read().map_err(|NotDer| bad_input("it is not the DigestInfo of a digest in DER"))
}

fn pkcs1(hash: Hash) -> Result<&'static dyn RsaEncoding, Denial> {
    match hash {
        Hash::Sha256 => Ok(&signature::RSA_PKCS1_SHA256),
        Hash::Sha384 => Ok(&signature::RSA_PKCS1_SHA384),
        Hash::Sha512 => Ok(&signature::RSA_PKCS1_SHA512),
        Hash::Sha1 | Hash::Sha224 => Err(no_rsa_with(hash)),
    }
}

fn pss(hash: Hash) -> Result<&'static dyn RsaEncoding, Denial> {
    match hash {
        Hash::Sha256 => Ok(&signature::RSA_PSS_SHA256),
        Hash::Sha384 => Ok(&signature::RSA_PSS_SHA384),
        Hash::Sha512 => Ok(&signature::RSA_PSS_SHA512),
        Hash::Sha1 | Hash::Sha224 => Err(no_rsa_with(hash)),
    }
}

pub(super) fn no_rsa_with(hash: Hash) -> Denial {
    not_offered(format!("RSA is not offered with {hash}; take sha256, sha384 or sha512"))
}

pub(super) fn not_prehashed(prehashed: bool) -> Result<(), Denial> {
    if prehashed { Err(not_offered("this mechanism takes the message, not its digest")) } else { Ok(()) }
}
