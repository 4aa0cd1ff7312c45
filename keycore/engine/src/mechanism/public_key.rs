//! Public keys of others, out of a SubjectPublicKeyInfo.

use keycore_wire::RefusalCode;

use crate::denial::Denial;
use crate::der::{BIT_STRING, NotDer, OBJECT_IDENTIFIER, Reader, SEQUENCE};
use crate::private_key::{
    EC_PUBLIC_KEY, ED25519, ML_DSA_44, ML_DSA_65, ML_DSA_87, RSA_ENCRYPTION, SECP256K1, SECP256R1, SECP384R1,
    SECP521R1,
};

/// Curve of ECDSA and ECDH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Curve {
    P256,
    P384,
    P521,
    Secp256k1,
}

/// Parameter set of ML-DSA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MlDsa {
    MlDsa44,
    MlDsa65,
    MlDsa87,
}

/// What kind of public key it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PublicKind {
    /// Any modulus that aws-lc verifies with: 2048 to 8192 bits.
    Rsa,
    Ec(Curve),
    Ed25519,
    MlDsa(MlDsa),
}

/// A public key as its bit string, and what it is of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PublicKey<'a> {
    pub(crate) kind: PublicKind,
    /// RSAPublicKey, point, or the key's bytes.
    pub(crate) bits: &'a [u8],
}

impl<'a> PublicKey<'a> {
    /// Reads a SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7) in DER.
    ///
    /// # Errors
    ///
    /// `InvalidKey`. Whether the point is on its curve, aws-lc says when the key is used.
    pub(crate) fn from_spki(spki: &'a [u8]) -> Result<Self, Denial> {
        let invalid = |detail| Denial::new(RefusalCode::InvalidKey, detail);
        let Info { algorithm, curve, bits } =
            read(spki).map_err(|NotDer| invalid("the public key is no SubjectPublicKeyInfo in DER"))?;
        let kind = match (algorithm, curve) {
            (RSA_ENCRYPTION, _) => PublicKind::Rsa,
            (EC_PUBLIC_KEY, Some(SECP256R1)) => PublicKind::Ec(Curve::P256),
            (EC_PUBLIC_KEY, Some(SECP384R1)) => PublicKind::Ec(Curve::P384),
            (EC_PUBLIC_KEY, Some(SECP521R1)) => PublicKind::Ec(Curve::P521),
            (EC_PUBLIC_KEY, Some(SECP256K1)) => PublicKind::Ec(Curve::Secp256k1),
            (ED25519, None) => PublicKind::Ed25519,
            (ML_DSA_44, None) => PublicKind::MlDsa(MlDsa::MlDsa44),
            (ML_DSA_65, None) => PublicKind::MlDsa(MlDsa::MlDsa65),
            (ML_DSA_87, None) => PublicKind::MlDsa(MlDsa::MlDsa87),
            _ => return Err(invalid("the public key's algorithm is not one of those that keys here have")),
        };
        Ok(Self { kind, bits })
    }
}

/// The OID of the algorithm, that of the curve if there is one, and the key's bits.
struct Info<'a> {
    algorithm: &'a [u8],
    curve: Option<&'a [u8]>,
    bits: &'a [u8],
}

fn read(spki: &[u8]) -> Result<Info<'_>, NotDer> {
    let mut outer = Reader::new(spki);
    let mut info = Reader::new(outer.take(SEQUENCE)?);
    outer.end()?;
    let mut identifier = Reader::new(info.take(SEQUENCE)?);
    let algorithm = identifier.take(OBJECT_IDENTIFIER)?;
    let curve = match identifier.next_tag() {
        Some(OBJECT_IDENTIFIER) => Some(identifier.take(OBJECT_IDENTIFIER)?),
        _ => None,
    };
    let bits = info.take(BIT_STRING)?;
    info.end()?;
    // All keys here are whole bytes.
    Ok(Info { algorithm, curve, bits: bits.strip_prefix(&[0]).ok_or(NotDer)? })
}
