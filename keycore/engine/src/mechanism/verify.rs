//! Verification: by public keys, which anybody may have, and of authentication codes.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use aws_lc_rs::{cmac, hmac};
use keycore_wire::{EcdsaEncoding, Hash, RefusalCode, SignMechanism};

use super::public_key::{Curve, MlDsa, PublicKey, PublicKind};
use super::sign::{cmac_key, curve_digest, digest_info, digest_of, no_rsa_with, not_prehashed};
use super::{hash, not_offered};
use crate::denial::Denial;
use crate::material::SecretKey;

/// Verifies a signature.
///
/// # Errors
///
/// `WrongSignature`; `MechanismNotOffered`.
pub(crate) fn verify(
    public: &PublicKey<'_>,
    mechanism: SignMechanism,
    prehashed: bool,
    data: &[u8],
    signature: &[u8],
) -> Result<(), Denial> {
    let by = |algorithm| UnparsedPublicKey::new(algorithm, public.bits);
    let verified = match (public.kind, mechanism) {
        (PublicKind::Rsa, SignMechanism::RsaPkcs1(hash)) => {
            by(pkcs1(hash)?).verify_digest(&digest_of(hash, prehashed, data)?, signature)
        }
        (PublicKind::Rsa, SignMechanism::RsaPss(hash)) => {
            by(pss(hash)?).verify_digest(&digest_of(hash, prehashed, data)?, signature)
        }
        (PublicKind::Rsa, SignMechanism::RsaPkcs1DigestInfo) => {
            let (hash, digest) = digest_info(data)?;
            by(pkcs1(hash)?).verify_digest(&digest_of(hash, true, digest)?, signature)
        }
        (PublicKind::Ec(curve), SignMechanism::Ecdsa(hash, encoding)) => {
            let digest = curve_digest(curve, digest_of(hash, prehashed, data)?.as_ref())?;
            by(ecdsa(curve, encoding)).verify_digest(&digest, signature)
        }
        (PublicKind::Ed25519, SignMechanism::Ed25519) => {
            not_prehashed(prehashed)?;
            by(&signature::ED25519).verify(data, signature)
        }
        (PublicKind::MlDsa(set), SignMechanism::MlDsa) => {
            not_prehashed(prehashed)?;
            by(ml_dsa(set)).verify(data, signature)
        }
        _ => return Err(not_offered(format!("this key has no {mechanism}"))),
    };
    verified.map_err(|_| wrong())
}

/// Verifies an authentication code, in constant time.
pub(crate) fn verify_code(
    key: &SecretKey,
    mechanism: SignMechanism,
    prehashed: bool,
    data: &[u8],
    code: &[u8],
) -> Result<(), Denial> {
    not_prehashed(prehashed)?;
    let verified = match mechanism {
        SignMechanism::Hmac(hash) if !key.algorithm().is_aes() => {
            hmac::verify(&hmac::Key::new(hash::hmac(hash), key.expose()), data, code)
        }
        SignMechanism::AesCmac if key.algorithm().is_aes() => cmac::verify(&cmac_key(key)?, data, code),
        _ => return Err(not_offered(format!("a key of type {} has no {mechanism}", key.algorithm()))),
    };
    verified.map_err(|_| wrong())
}

fn wrong() -> Denial {
    Denial::new(RefusalCode::WrongSignature, "it is not the signature of this data by this key")
}

fn pkcs1(hash: Hash) -> Result<&'static dyn VerificationAlgorithm, Denial> {
    match hash {
        Hash::Sha1 => Ok(&signature::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY),
        Hash::Sha256 => Ok(&signature::RSA_PKCS1_2048_8192_SHA256),
        Hash::Sha384 => Ok(&signature::RSA_PKCS1_2048_8192_SHA384),
        Hash::Sha512 => Ok(&signature::RSA_PKCS1_2048_8192_SHA512),
        Hash::Sha224 => Err(no_rsa_with(hash)),
    }
}

fn pss(hash: Hash) -> Result<&'static dyn VerificationAlgorithm, Denial> {
    match hash {
        Hash::Sha256 => Ok(&signature::RSA_PSS_2048_8192_SHA256),
        Hash::Sha384 => Ok(&signature::RSA_PSS_2048_8192_SHA384),
        Hash::Sha512 => Ok(&signature::RSA_PSS_2048_8192_SHA512),
        Hash::Sha1 | Hash::Sha224 => Err(no_rsa_with(hash)),
    }
}

fn ecdsa(curve: Curve, encoding: EcdsaEncoding) -> &'static dyn VerificationAlgorithm {
    match (curve, encoding) {
        (Curve::P256, EcdsaEncoding::Der) => &signature::ECDSA_P256_SHA256_ASN1,
        (Curve::P256, EcdsaEncoding::Fixed) => &signature::ECDSA_P256_SHA256_FIXED,
        (Curve::P384, EcdsaEncoding::Der) => &signature::ECDSA_P384_SHA384_ASN1,
        (Curve::P384, EcdsaEncoding::Fixed) => &signature::ECDSA_P384_SHA384_FIXED,
        (Curve::P521, EcdsaEncoding::Der) => &signature::ECDSA_P521_SHA512_ASN1,
        (Curve::P521, EcdsaEncoding::Fixed) => &signature::ECDSA_P521_SHA512_FIXED,
        (Curve::Secp256k1, EcdsaEncoding::Der) => &signature::ECDSA_P256K1_SHA256_ASN1,
        (Curve::Secp256k1, EcdsaEncoding::Fixed) => &signature::ECDSA_P256K1_SHA256_FIXED,
    }
}

fn ml_dsa(set: MlDsa) -> &'static dyn VerificationAlgorithm {
    match set {
        MlDsa::MlDsa44 => &signature::ML_DSA_44,
        MlDsa::MlDsa65 => &signature::ML_DSA_65,
        MlDsa::MlDsa87 => &signature::ML_DSA_87,
    }
}
