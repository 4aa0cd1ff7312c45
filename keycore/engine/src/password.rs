//! Password hashes: Argon2id (RFC 9106).

use aws_lc_rs::rand;
use keycore_wire::{MAX_PASSWORD, MIN_PASSWORD};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::denial::Denial;
use crate::options::PasswordCost;
use crate::records::PasswordHash;

/// A password of acceptable length that is to be set.
pub(crate) fn hash(password: &[u8], cost: PasswordCost) -> Result<PasswordHash, Denial> {
    if !(MIN_PASSWORD..=MAX_PASSWORD).contains(&password.len()) || core::str::from_utf8(password).is_err() {
        return Err(Denial::password_length());
    }
    let mut salt = [0; 16];
    rand::fill(&mut salt)?;
    let (memory_kib, passes) = (cost.memory_kib(), cost.passes());
    Ok(PasswordHash { memory_kib, passes, salt, hash: *argon2id(password, memory_kib, passes, &salt)? })
}

/// Whether `password` is the one that was hashed. A password of unacceptable length costs as much as any other.
pub(crate) fn is_right(stored: &PasswordHash, password: &[u8]) -> Result<bool, Denial> {
    let password = password.get(..MAX_PASSWORD + 1).unwrap_or(password);
    let hash = argon2id(password, stored.memory_kib, stored.passes, &stored.salt)?;
    Ok(hash.ct_eq(&stored.hash).into())
}

/// Spends what [`is_right`] costs, for a user who does not exist.
pub(crate) fn spend(cost: PasswordCost, password: &[u8]) -> Result<(), Denial> {
    let nobodys =
        PasswordHash { memory_kib: cost.memory_kib(), passes: cost.passes(), salt: [0; 16], hash: [0; 32] };
    is_right(&nobodys, password).map(|_| ())
}

/// Argon2id with one lane.
pub(crate) fn argon2id(
    password: &[u8],
    memory_kib: u32,
    passes: u32,
    salt: &[u8; 16],
) -> Result<Zeroizing<[u8; 32]>, Denial> {
    let failed = |error: argon2::Error| Denial::internal(format!("Argon2: {error}"));
    let parameters = argon2::Params::new(memory_kib, passes, 1, Some(32)).map_err(failed)?;
    let mut memory = Zeroizing::new(vec![argon2::Block::default(); parameters.block_count()]);
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, parameters);
    let mut hash = Zeroizing::new([0; 32]);
    argon2.hash_password_into_with_memory(password, salt, &mut *hash, &mut **memory).map_err(failed)?;
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use keycore_wire::RefusalCode;

    use super::*;

    #[test]
    fn tells_right_from_wrong() {
        let stored = hash(b"correct horse", PasswordCost::insecure_for_tests()).unwrap();
        assert!(is_right(&stored, b"correct horse").unwrap());
        for wrong in [&b"correct horsf"[..], b"", b"correct horse ", &[b'a'; 200]] {
            assert!(!is_right(&stored, wrong).unwrap());
        }
    }

    #[test]
    fn length_is_limited_when_a_password_is_set() {
        let code = |password: &[u8]| {
            hash(password, PasswordCost::insecure_for_tests()).err().map(|denial| denial.refusal.code)
        };
        assert_eq!(code(&[b'a'; MIN_PASSWORD]), None);
        assert_eq!(code(&[b'a'; MAX_PASSWORD]), None);
        for bad in [&[b'a'; MIN_PASSWORD - 1][..], &[b'a'; MAX_PASSWORD + 1], &[0xff; 12]] {
            assert_eq!(code(bad), Some(RefusalCode::InvalidPassword));
        }
    }
}
