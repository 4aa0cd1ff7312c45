use aws_lc_rs::digest::{self, Algorithm};
use aws_lc_rs::hmac;
use keycore_wire::Hash;

/// aws-lc-rs's name of a hash.
pub(super) fn algorithm(hash: Hash) -> &'static Algorithm {
    match hash {
        Hash::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        Hash::Sha224 => &digest::SHA224,
        Hash::Sha256 => &digest::SHA256,
        Hash::Sha384 => &digest::SHA384,
        Hash::Sha512 => &digest::SHA512,
    }
}

/// HMAC with a hash.
pub(super) fn hmac(hash: Hash) -> hmac::Algorithm {
    match hash {
        Hash::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        Hash::Sha224 => hmac::HMAC_SHA224,
        Hash::Sha256 => hmac::HMAC_SHA256,
        Hash::Sha384 => hmac::HMAC_SHA384,
        Hash::Sha512 => hmac::HMAC_SHA512,
    }
}

/// Hashes `data`.
pub(crate) fn digest(hash: Hash, data: &[u8]) -> digest::Digest {
    digest::digest(algorithm(hash), data)
}
