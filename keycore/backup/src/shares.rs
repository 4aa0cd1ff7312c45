//! Custodian shares: 32 secret bytes split among N people, of whom any M bring them back (Shamir's scheme over GF(2^8),
//! by `blahaj`).
//!
//! ```text
//! hsm-…-share-1- ‖ base32(of (8) ‖ threshold (1) ‖ index (1) ‖ part (32) ‖ check (4))
//! ```
//!
//! `of` tells shares that belong together from others; what it is depends on the purpose. The check is the beginning of the
//! SHA-256 of what is before it, for typing errors.

use core::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::error::Unspecified;
use blahaj::Sharks;
use data_encoding::BASE32_NOPAD;
use zeroize::{Zeroize, Zeroizing};

mod identity;

pub use identity::CustodianShare;

const HEAD: usize = 8 + 1 + 1;
const PART: usize = 32;
const CHECK: usize = 4;

/// What shares bring back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharePurpose {
    /// An identity that opens backups.
    BackupIdentity,
    /// What unseals a cluster.
    Unseal,
}

/// One custodian's share of a secret of 32 bytes.
pub struct Share {
    purpose: SharePurpose,
    of: [u8; 8],
    threshold: u8,
    index: u8,
    part: Zeroizing<[u8; PART]>,
}

/// Shares don't make a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// It is another text, or it has a typing error.
    #[error("not a custodian share of {0}, or it has a typing error")]
    Unreadable(SharePurpose),
    /// More people are needed.
    #[error("{given} shares are too few: {needed} different ones are needed")]
    TooFew {
        /// How many different ones there are.
        given: usize,
        /// How many there have to be.
        needed: u8,
    },
    /// They are shares of different secrets, or of different splits of one.
    #[error("the shares don't belong together")]
    Mixed,
    /// The cryptographic library failed.
    #[error("the cryptographic library failed")]
    Crypto,
}

impl SharePurpose {
    fn prefix(self) -> &'static str {
        match self {
            Self::BackupIdentity => "hsm-backup-share-1-",
            Self::Unseal => "hsm-unseal-share-1-",
        }
    }
}

impl fmt::Display for SharePurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BackupIdentity => "a backup identity",
            Self::Unseal => "an unseal secret",
        })
    }
}

impl Share {
    /// Longest text of a share, in bytes.
    pub const MAX_TEXT: usize = 256;
    /// Most custodians.
    pub const MAX: u8 = 16;

    /// Whether so many of so many can be had: 2 ≤ `threshold` ≤ `count` ≤ [`Share::MAX`].
    pub fn fits(threshold: u8, count: u8) -> bool {
        threshold >= 2 && threshold <= count && count <= Self::MAX
    }

    /// Splits a secret into the texts of `count` shares, any `threshold` of which bring it back. `of` is public.
    ///
    /// # Errors
    ///
    /// If the numbers don't fit ([`Share::fits`]) or the cryptographic library fails.
    pub fn split(
        purpose: SharePurpose,
        of: [u8; 8],
        secret: &[u8; 32],
        threshold: u8,
        count: u8,
    ) -> Result<Vec<Zeroizing<String>>, Unspecified> {
        if !Self::fits(threshold, count) {
            return Err(Unspecified);
        }
        Sharks(threshold)
            .dealer(secret)
            .take(count.into())
            .map(|dealt| {
                let bytes = Zeroizing::new(Vec::from(&dealt));
                let (&[index], part) = bytes.split_first_chunk::<1>().ok_or(Unspecified)?;
                Ok(Self::new(purpose, of, threshold, index, part.try_into().map_err(|_| Unspecified)?).text())
            })
            .collect()
    }

    /// A share of these parts.
    pub fn new(purpose: SharePurpose, of: [u8; 8], threshold: u8, index: u8, part: &[u8; 32]) -> Self {
        Self { purpose, of, threshold, index, part: Zeroizing::new(*part) }
    }

    /// Reads a share's text; blanks around it don't count.
    ///
    /// # Errors
    ///
    /// [`ShareError::Unreadable`].
    pub fn parse(purpose: SharePurpose, text: &[u8]) -> Result<Self, ShareError> {
        let unreadable = || ShareError::Unreadable(purpose);
        let text = core::str::from_utf8(text).map_err(|_| unreadable())?.trim();
        let digits = text.strip_prefix(purpose.prefix()).ok_or_else(unreadable)?;
        let digits = Zeroizing::new(digits.to_ascii_uppercase());
        let decoded = BASE32_NOPAD.decode(digits.as_bytes()).map_err(|_| unreadable())?;
        let bytes = Zeroizing::new(decoded);
        let (content, check) = bytes.split_last_chunk::<CHECK>().ok_or_else(unreadable)?;
        if content.len() != HEAD + PART || digest(&SHA256, content).as_ref()[..CHECK] != *check {
            return Err(unreadable());
        }
        let (mut of, mut part) = ([0; 8], Zeroizing::new([0; PART]));
        of.copy_from_slice(&content[..8]);
        part.copy_from_slice(&content[HEAD..]);
        Ok(Self { purpose, of, threshold: content[8], index: content[9], part })
    }

    /// What shares that belong together have in common.
    pub fn of(&self) -> [u8; 8] {
        self.of
    }

    /// How many are needed.
    pub fn threshold(&self) -> u8 {
        self.threshold
    }

    /// Which of its set it is, from 1.
    pub fn index(&self) -> u8 {
        self.index
    }

    /// The secret part.
    pub fn part(&self) -> &[u8; 32] {
        &self.part
    }

    /// The secret that shares make, if they are what they say: of a forged one they make another. One given twice counts
    /// once.
    ///
    /// # Errors
    ///
    /// [`ShareError`].
    pub fn combine(shares: &[Self]) -> Result<Zeroizing<[u8; 32]>, ShareError> {
        let Some(first) = shares.first() else { return Err(ShareError::TooFew { given: 0, needed: 2 }) };
        let same = |share: &Self| {
            (share.purpose, share.of, share.threshold) == (first.purpose, first.of, first.threshold)
        };
        if !shares.iter().all(same) {
            return Err(ShareError::Mixed);
        }
        let mut given: Vec<&Self> = shares.iter().collect();
        given.sort_unstable_by_key(|share| share.index);
        given.dedup_by_key(|share| share.index);
        if given.len() < usize::from(first.threshold) {
            return Err(ShareError::TooFew { given: given.len(), needed: first.threshold });
        }
        let parts: Vec<_> = given
            .iter()
            .filter_map(|share| {
                let bytes = Zeroizing::new([&[share.index], &share.part[..]].concat());
                blahaj::Share::try_from(&bytes[..]).ok()
            })
            .collect();
        let mut made = Sharks(first.threshold).recover(&parts).map_err(|_| ShareError::Mixed)?;
        let secret = <[u8; 32]>::try_from(&made[..]).map(Zeroizing::new);
        made.zeroize();
        secret.map_err(|_| ShareError::Mixed)
    }

    fn text(&self) -> Zeroizing<String> {
        let mut content = Zeroizing::new(Vec::with_capacity(HEAD + PART + CHECK));
        content.extend_from_slice(&self.of);
        content.extend_from_slice(&[self.threshold, self.index]);
        content.extend_from_slice(&*self.part);
        let check = digest(&SHA256, &content);
        content.extend_from_slice(&check.as_ref()[..CHECK]);
        let mut digits = Zeroizing::new(BASE32_NOPAD.encode(&content));
        digits.make_ascii_lowercase();
        Zeroizing::new([self.purpose.prefix(), &digits].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_of_its_purpose_only() {
        let texts = Share::split(SharePurpose::Unseal, [9; 8], &[7; 32], 2, 3).unwrap();
        let share = Share::parse(SharePurpose::Unseal, texts[2].as_bytes()).unwrap();
        assert_eq!((share.of(), share.threshold(), share.index()), ([9; 8], 2, 3));
        let as_another = Share::parse(SharePurpose::BackupIdentity, texts[2].as_bytes());
        assert_eq!(as_another.err(), Some(ShareError::Unreadable(SharePurpose::BackupIdentity)));
        let both = [texts[0].as_bytes(), texts[2].as_bytes()]
            .map(|text| Share::parse(SharePurpose::Unseal, text).unwrap());
        assert_eq!(*Share::combine(&both).unwrap(), [7; 32]);
        let forged = [
            Share::new(SharePurpose::Unseal, [9; 8], 2, 1, &[1; 32]),
            Share::new(SharePurpose::Unseal, [9; 8], 2, 2, &[2; 32]),
        ];
        assert_ne!(*Share::combine(&forged).unwrap(), [7; 32]);
    }
}
