//! Private keys: made, taken in, loaded, used. All of it is aws-lc-rs.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, PqdsaKeyPair, PqdsaSigningAlgorithm,
    RsaEncoding, RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm,
};
use aws_lc_rs::{digest, error::Unspecified};
use keycore_wire::{KeyAlgorithm, RefusalCode, SignatureScheme, SpkiSha256};
use zeroize::Zeroizing;

use crate::denial::Denial;
use crate::der::{INTEGER, NotDer, OBJECT_IDENTIFIER, OCTET_STRING, Reader, SEQUENCE};
use crate::mechanism::Curve;
use crate::roca;
use crate::self_test::{self, PAIRWISE_CONSISTENCY};

/// 1.2.840.113549.1.1.1, rsaEncryption (RFC 8017).
pub(crate) const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// 1.2.840.10045.2.1, id-ecPublicKey, and the named curves (RFC 5480).
pub(crate) const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
pub(crate) const SECP256R1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
pub(crate) const SECP384R1: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
pub(crate) const SECP521R1: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];
/// 1.3.132.0.10 (SEC 2).
pub(crate) const SECP256K1: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x0a];
/// 2.16.840.1.101.3.4.3.17 to 19, id-ml-dsa-44, -65, -87 (RFC 9881).
pub(crate) const ML_DSA_44: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0x11];
pub(crate) const ML_DSA_65: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0x12];
pub(crate) const ML_DSA_87: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0x13];
/// 1.3.101.112, id-Ed25519 (RFC 8410).
pub(crate) const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// 65537, big-endian.
const PUBLIC_EXPONENT: &[u8] = &[1, 0, 1];

/// A private key that is ready to sign. Its memory is aws-lc's, which wipes it.
pub(crate) struct PrivateKey {
    algorithm: KeyAlgorithm,
    pair: Pair,
}

/// A key pair of aws-lc's.
pub(crate) enum Pair {
    Rsa(RsaKeyPair),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    MlDsa(PqdsaKeyPair),
}

impl PrivateKey {
    /// Makes one, and proves that its halves fit.
    pub(crate) fn generate(algorithm: KeyAlgorithm) -> Result<Self, Denial> {
        let pair = match algorithm {
            KeyAlgorithm::Rsa2048 => Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048)?),
            KeyAlgorithm::Rsa3072 => Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa3072)?),
            KeyAlgorithm::Rsa4096 => Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa4096)?),
            KeyAlgorithm::P256 | KeyAlgorithm::P384 | KeyAlgorithm::P521 | KeyAlgorithm::Secp256k1 => {
                Pair::Ecdsa(EcdsaKeyPair::generate(ecdsa_signing(algorithm)?)?)
            }
            KeyAlgorithm::Ed25519 => Pair::Ed25519(Ed25519KeyPair::generate()?),
            KeyAlgorithm::MlDsa44 | KeyAlgorithm::MlDsa65 | KeyAlgorithm::MlDsa87 => {
                Pair::MlDsa(PqdsaKeyPair::generate(ml_dsa_signing(algorithm)?)?)
            }
            KeyAlgorithm::Aes128
            | KeyAlgorithm::Aes192
            | KeyAlgorithm::Aes256
            | KeyAlgorithm::GenericSecret(_) => return Err(not_a_pair()),
        };
        let key = Self { algorithm, pair };
        let consistent = key.prove_consistency().is_ok() && !self_test::is_broken(PAIRWISE_CONSISTENCY);
        if consistent { Ok(key) } else { Err(Denial::self_test_failed(PAIRWISE_CONSISTENCY)) }
    }

    /// Takes in one that was made elsewhere: a valid key of a supported algorithm, or `InvalidKey`.
    pub(crate) fn import(pkcs8: &[u8]) -> Result<Self, Denial> {
        let algorithm = algorithm_of(pkcs8)?;
        let key = Self::parse(algorithm, pkcs8)?;
        if let Pair::Rsa(pair) = &key.pair
            && roca::has_fingerprint(rsa_modulus(pair)?)
        {
            return Err(invalid(
                "its modulus has the fingerprint of CVE-2017-15361 (ROCA): it can be factored; make a new key",
            ));
        }
        key.prove_consistency().map_err(|_| invalid("its private and public halves don't fit"))?;
        Ok(key)
    }

    /// Loads one that this cluster keeps.
    pub(crate) fn load(algorithm: KeyAlgorithm, pkcs8: &[u8]) -> Result<Self, Denial> {
        Self::parse(algorithm, pkcs8)
            .map_err(|denial| Denial::internal(format!("a stored key does not load: {}", denial.refusal)))
    }

    fn parse(algorithm: KeyAlgorithm, pkcs8: &[u8]) -> Result<Self, Denial> {
        let rejected = |error: aws_lc_rs::error::KeyRejected| invalid(&format!("rejected ({error})"));
        let pair = match algorithm {
            KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => {
                let pair = RsaKeyPair::from_pkcs8(pkcs8).map_err(rejected)?;
                if rsa_algorithm(&pair)? != algorithm {
                    return Err(invalid("its modulus is of another size than its record says"));
                }
                Pair::Rsa(pair)
            }
            KeyAlgorithm::P256 | KeyAlgorithm::P384 | KeyAlgorithm::P521 | KeyAlgorithm::Secp256k1 => {
                Pair::Ecdsa(EcdsaKeyPair::from_pkcs8(ecdsa_signing(algorithm)?, pkcs8).map_err(rejected)?)
            }
            KeyAlgorithm::Ed25519 => Pair::Ed25519(Ed25519KeyPair::from_pkcs8(pkcs8).map_err(rejected)?),
            KeyAlgorithm::MlDsa44 | KeyAlgorithm::MlDsa65 | KeyAlgorithm::MlDsa87 => {
                Pair::MlDsa(PqdsaKeyPair::from_pkcs8(ml_dsa_signing(algorithm)?, pkcs8).map_err(rejected)?)
            }
            KeyAlgorithm::Aes128
            | KeyAlgorithm::Aes192
            | KeyAlgorithm::Aes256
            | KeyAlgorithm::GenericSecret(_) => return Err(not_a_pair()),
        };
        Ok(Self { algorithm, pair })
    }

    pub(crate) fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// The pair, for the mechanism that needs it.
    pub(crate) fn pair(&self) -> &Pair {
        &self.pair
    }

    /// The curve of an ECDSA key.
    pub(crate) fn curve(&self) -> Option<Curve> {
        match self.algorithm {
            KeyAlgorithm::P256 => Some(Curve::P256),
            KeyAlgorithm::P384 => Some(Curve::P384),
            KeyAlgorithm::P521 => Some(Curve::P521),
            KeyAlgorithm::Secp256k1 => Some(Curve::Secp256k1),
            _ => None,
        }
    }

    /// Length of an RSA key's modulus, in bytes.
    pub(crate) fn modulus_len(&self) -> Option<usize> {
        match &self.pair {
            Pair::Rsa(pair) => Some(pair.public_modulus_len()),
            _ => None,
        }
    }

    /// Whether a signature takes so long that nothing should wait behind it.
    pub(crate) fn is_slow(&self) -> bool {
        // P-521 takes as long as RSA-2048, a third of a millisecond; secp256k1 and ML-DSA nearly so.
        matches!(self.pair, Pair::Rsa(_) | Pair::MlDsa(_))
            || matches!(self.algorithm, KeyAlgorithm::P521 | KeyAlgorithm::Secp256k1)
    }

    /// Whether a signature takes a third of a millisecond at most: all but RSA of more than 2048 bits, and ML-DSA, whose
    /// signatures take as many tries as chance has it.
    pub(crate) fn takes_a_moment(&self) -> bool {
        match &self.pair {
            Pair::Rsa(pair) => pair.public_modulus_len() <= 2048 / 8,
            Pair::MlDsa(_) => false,
            Pair::Ecdsa(_) | Pair::Ed25519(_) => true,
        }
    }

    /// DER PKCS#8, written anew: nothing else that an imported file held is kept.
    pub(crate) fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, Unspecified> {
        Ok(Zeroizing::new(match &self.pair {
            Pair::Rsa(pair) => AsDer::<Pkcs8V1Der<'_>>::as_der(pair)?.as_ref().to_vec(),
            Pair::Ecdsa(pair) => pair.to_pkcs8v1()?.as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.to_pkcs8v1()?.as_ref().to_vec(),
            Pair::MlDsa(pair) => pair.to_pkcs8v1()?.as_ref().to_vec(),
        }))
    }

    /// DER SubjectPublicKeyInfo (RFC 5280, section 4.1).
    pub(crate) fn spki(&self) -> Result<Vec<u8>, Unspecified> {
        let der: PublicKeyX509Der<'_> = match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_der()?,
            Pair::Ecdsa(pair) => pair.public_key().as_der()?,
            Pair::Ed25519(pair) => pair.public_key().as_der()?,
            Pair::MlDsa(pair) => pair.public_key().as_der()?,
        };
        Ok(der.as_ref().to_vec())
    }

    /// Signs; the scheme must be one of the algorithm's.
    pub(crate) fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        // aws-lc-rs has a generator of its own and ignores this one.
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(rsa_encoding(scheme).ok_or(Unspecified)?, &random, message, &mut signature)?;
                Ok(signature)
            }
            Pair::Ecdsa(pair) => Ok(pair.sign(&random, message)?.as_ref().to_vec()),
            Pair::Ed25519(pair) => Ok(pair.try_sign(message)?.as_ref().to_vec()),
            Pair::MlDsa(pair) => {
                let mut signature = vec![0; pair.algorithm().signature_len()];
                let length = pair.sign(message, &mut signature)?;
                signature.truncate(length);
                Ok(signature)
            }
        }
    }

    /// Signs something and verifies it (FIPS 140-3's pairwise consistency test).
    fn prove_consistency(&self) -> Result<(), Unspecified> {
        const MESSAGE: &[u8] = b"keycore pairwise consistency test";
        let scheme = *self.algorithm.schemes().first().ok_or(Unspecified)?;
        let signature = self.sign(scheme, MESSAGE)?;
        let verification = verification(self.algorithm).ok_or(Unspecified)?;
        UnparsedPublicKey::new(verification, self.public()).verify(MESSAGE, &signature)
    }

    /// What a SubjectPublicKeyInfo has as its bit string.
    pub(crate) fn public(&self) -> &[u8] {
        match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_ref(),
            Pair::Ecdsa(pair) => pair.public_key().as_ref(),
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
            Pair::MlDsa(pair) => pair.public_key().as_ref(),
        }
    }
}

/// SHA-256 of a SubjectPublicKeyInfo.
pub(crate) fn spki_sha256(spki: &[u8]) -> SpkiSha256 {
    SpkiSha256(sha256(spki))
}

/// SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

/// What a PrivateKeyInfo (RFC 5958) says that it holds; and that nothing trails it.
fn algorithm_of(pkcs8: &[u8]) -> Result<KeyAlgorithm, Denial> {
    let (oid, curve) =
        private_key_info(pkcs8).map_err(|NotDer| invalid("it is not unencrypted PKCS#8 in DER"))?;
    match (oid, curve) {
        (RSA_ENCRYPTION, _) => rsa_algorithm(
            &RsaKeyPair::from_pkcs8(pkcs8).map_err(|error| invalid(&format!("rejected ({error})")))?,
        ),
        (EC_PUBLIC_KEY, Some(SECP256R1)) => Ok(KeyAlgorithm::P256),
        (EC_PUBLIC_KEY, Some(SECP384R1)) => Ok(KeyAlgorithm::P384),
        (EC_PUBLIC_KEY, Some(SECP521R1)) => Ok(KeyAlgorithm::P521),
        (EC_PUBLIC_KEY, Some(SECP256K1)) => Ok(KeyAlgorithm::Secp256k1),
        (ED25519, None) => Ok(KeyAlgorithm::Ed25519),
        (ML_DSA_44, None) => Ok(KeyAlgorithm::MlDsa44),
        (ML_DSA_65, None) => Ok(KeyAlgorithm::MlDsa65),
        (ML_DSA_87, None) => Ok(KeyAlgorithm::MlDsa87),
        _ => Err(invalid("its algorithm is not one of RSA, P-256, P-384, P-521, secp256k1, Ed25519, ML-DSA")),
    }
}

/// The algorithm's OID, and the curve's if there is one.
fn private_key_info(pkcs8: &[u8]) -> Result<(&[u8], Option<&[u8]>), NotDer> {
    let mut outer = Reader::new(pkcs8);
    let mut info = Reader::new(outer.take(SEQUENCE)?);
    outer.end()?;
    if !matches!(info.take(INTEGER)?, [0 | 1]) {
        return Err(NotDer);
    }
    let mut algorithm = Reader::new(info.take(SEQUENCE)?);
    let oid = algorithm.take(OBJECT_IDENTIFIER)?;
    let curve = match algorithm.next_tag() {
        Some(OBJECT_IDENTIFIER) => Some(algorithm.take(OBJECT_IDENTIFIER)?),
        _ => None,
    };
    info.take(OCTET_STRING)?;
    Ok((oid, curve))
}

/// An RSA key's modulus, big-endian without leading zeros, if its exponent is the usual one.
fn rsa_modulus(pair: &RsaKeyPair) -> Result<&[u8], Denial> {
    // RSAPublicKey ::= SEQUENCE { modulus INTEGER, publicExponent INTEGER } (RFC 8017, appendix A.1.1).
    let read = || {
        let mut outer = Reader::new(pair.public_key().as_ref());
        let mut public = Reader::new(outer.take(SEQUENCE)?);
        Ok::<_, NotDer>((public.take(INTEGER)?, public.take(INTEGER)?))
    };
    let (modulus, exponent) = read().map_err(|NotDer| Denial::internal("aws-lc wrote no RSAPublicKey"))?;
    if exponent != PUBLIC_EXPONENT {
        return Err(invalid("the public exponent of an RSA key must be 65537"));
    }
    // Positive integers begin with a zero byte where the first bit would be a sign.
    Ok(modulus.strip_prefix(&[0]).unwrap_or(modulus))
}

fn rsa_algorithm(pair: &RsaKeyPair) -> Result<KeyAlgorithm, Denial> {
    let modulus = rsa_modulus(pair)?;
    let bits = modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    match bits {
        2048 => Ok(KeyAlgorithm::Rsa2048),
        3072 => Ok(KeyAlgorithm::Rsa3072),
        4096 => Ok(KeyAlgorithm::Rsa4096),
        _ => Err(invalid("the modulus of an RSA key must have 2048, 3072 or 4096 bits")),
    }
}

fn ecdsa_signing(algorithm: KeyAlgorithm) -> Result<&'static EcdsaSigningAlgorithm, Denial> {
    match algorithm {
        KeyAlgorithm::P256 => Ok(&signature::ECDSA_P256_SHA256_ASN1_SIGNING),
        KeyAlgorithm::P384 => Ok(&signature::ECDSA_P384_SHA384_ASN1_SIGNING),
        KeyAlgorithm::P521 => Ok(&signature::ECDSA_P521_SHA512_ASN1_SIGNING),
        KeyAlgorithm::Secp256k1 => Ok(&signature::ECDSA_P256K1_SHA256_ASN1_SIGNING),
        _ => Err(Denial::internal("not an ECDSA algorithm")),
    }
}

fn ml_dsa_signing(algorithm: KeyAlgorithm) -> Result<&'static PqdsaSigningAlgorithm, Denial> {
    match algorithm {
        KeyAlgorithm::MlDsa44 => Ok(&signature::ML_DSA_44_SIGNING),
        KeyAlgorithm::MlDsa65 => Ok(&signature::ML_DSA_65_SIGNING),
        KeyAlgorithm::MlDsa87 => Ok(&signature::ML_DSA_87_SIGNING),
        _ => Err(Denial::internal("not an ML-DSA algorithm")),
    }
}

fn rsa_encoding(scheme: SignatureScheme) -> Option<&'static dyn RsaEncoding> {
    match scheme {
        SignatureScheme::RsaPkcs1Sha256 => Some(&signature::RSA_PKCS1_SHA256),
        SignatureScheme::RsaPkcs1Sha384 => Some(&signature::RSA_PKCS1_SHA384),
        SignatureScheme::RsaPkcs1Sha512 => Some(&signature::RSA_PKCS1_SHA512),
        SignatureScheme::RsaPssSha256 => Some(&signature::RSA_PSS_SHA256),
        SignatureScheme::RsaPssSha384 => Some(&signature::RSA_PSS_SHA384),
        SignatureScheme::RsaPssSha512 => Some(&signature::RSA_PSS_SHA512),
        _ => None,
    }
}

/// How a signature of the algorithm's first scheme is verified.
fn verification(algorithm: KeyAlgorithm) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match algorithm {
        KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => {
            &signature::RSA_PSS_2048_8192_SHA256
        }
        KeyAlgorithm::P256 => &signature::ECDSA_P256_SHA256_ASN1,
        KeyAlgorithm::P384 => &signature::ECDSA_P384_SHA384_ASN1,
        KeyAlgorithm::P521 => &signature::ECDSA_P521_SHA512_ASN1,
        KeyAlgorithm::Secp256k1 => &signature::ECDSA_P256K1_SHA256_ASN1,
        KeyAlgorithm::Ed25519 => &signature::ED25519,
        KeyAlgorithm::MlDsa44 => &signature::ML_DSA_44,
        KeyAlgorithm::MlDsa65 => &signature::ML_DSA_65,
        KeyAlgorithm::MlDsa87 => &signature::ML_DSA_87,
        KeyAlgorithm::Aes128
        | KeyAlgorithm::Aes192
        | KeyAlgorithm::Aes256
        | KeyAlgorithm::GenericSecret(_) => return None,
    })
}

fn not_a_pair() -> Denial {
    Denial::internal("a secret key was taken for a key pair")
}

fn invalid(what: &str) -> Denial {
    Denial::new(RefusalCode::InvalidKey, format!("the private key can't be taken in: {what}"))
}
