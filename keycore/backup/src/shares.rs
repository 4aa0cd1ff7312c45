//! Custodian shares of an identity: split among N people, of whom any M bring it back (Shamir's scheme over GF(2^8),
//! by `blahaj`).
//!
//! ```text
//! hsm-backup-share-1- ‖ base32(recipient (8) ‖ threshold (1) ‖ index (1) ‖ part (32) ‖ check (4))
//! ```
//!
//! The recipient is the fingerprint of the identity's; whether shares made the right identity is seen by it. The check is the
//! beginning of the SHA-256 of what is before it, for typing errors.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::error::Unspecified;
use blahaj::Sharks;
use data_encoding::BASE32_NOPAD;
use zeroize::{Zeroize, Zeroizing};

use crate::identity::{Fingerprint, Identity};

const PREFIX: &str = "hsm-backup-share-1-";
const HEAD: usize = 8 + 1 + 1;
const PART: usize = 32;
const CHECK: usize = 4;

/// One custodian's share of an identity.
pub struct CustodianShare {
    recipient: Fingerprint,
    threshold: u8,
    index: u8,
    part: Zeroizing<[u8; PART]>,
}

/// Shares don't make an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// It is another text, or it has a typing error.
    #[error("not a custodian share of a backup identity, or it has a typing error")]
    Unreadable,
    /// More people are needed.
    #[error("{given} shares are too few: {needed} different ones are needed")]
    TooFew {
        /// How many different ones there are.
        given: usize,
        /// How many there have to be.
        needed: u8,
    },
    /// They are shares of different identities, or of different splits of one.
    #[error("the shares don't belong together")]
    Mixed,
    /// The cryptographic library failed.
    #[error("the cryptographic library failed")]
    Crypto,
}

impl CustodianShare {
    /// Longest text of a share, in bytes.
    pub const MAX_TEXT: usize = 256;
    /// Most custodians.
    pub const MAX: u8 = 16;

    /// Splits an identity into the texts of `count` shares, any `threshold` of which bring it back.
    ///
    /// # Errors
    ///
    /// If the numbers don't fit (2 ≤ `threshold` ≤ `count` ≤ [`CustodianShare::MAX`]) or the cryptographic library fails.
    pub fn split(
        identity: &Identity,
        threshold: u8,
        count: u8,
    ) -> Result<Vec<Zeroizing<String>>, Unspecified> {
        if threshold < 2 || threshold > count || count > Self::MAX {
            return Err(Unspecified);
        }
        let recipient = identity.recipient()?.fingerprint();
        Sharks(threshold)
            .dealer(identity.expose())
            .take(count.into())
            .map(|dealt| {
                let bytes = Zeroizing::new(Vec::from(&dealt));
                let (&[index], part) = bytes.split_first_chunk::<1>().ok_or(Unspecified)?;
                let part = Zeroizing::new(part.try_into().map_err(|_| Unspecified)?);
                Ok(Self { recipient, threshold, index, part }.text())
            })
            .collect()
    }

    /// Reads a share's text; blanks around it don't count.
    ///
    /// # Errors
    ///
    /// [`ShareError::Unreadable`].
    pub fn parse(text: &[u8]) -> Result<Self, ShareError> {
        let text = core::str::from_utf8(text).map_err(|_| ShareError::Unreadable)?.trim();
        let digits = text.strip_prefix(PREFIX).ok_or(ShareError::Unreadable)?;
        let digits = Zeroizing::new(digits.to_ascii_uppercase());
        let decoded = BASE32_NOPAD.decode(digits.as_bytes()).map_err(|_| ShareError::Unreadable)?;
        let bytes = Zeroizing::new(decoded);
        let (content, check) = bytes.split_last_chunk::<CHECK>().ok_or(ShareError::Unreadable)?;
        if content.len() != HEAD + PART || digest(&SHA256, content).as_ref()[..CHECK] != *check {
            return Err(ShareError::Unreadable);
        }
        let (mut recipient, mut part) = ([0; 8], Zeroizing::new([0; PART]));
        recipient.copy_from_slice(&content[..8]);
        part.copy_from_slice(&content[HEAD..]);
        Ok(Self { recipient: Fingerprint(recipient), threshold: content[8], index: content[9], part })
    }

    /// The identity that shares make. One given twice counts once.
    ///
    /// # Errors
    ///
    /// [`ShareError`].
    pub fn combine(shares: &[Self]) -> Result<Identity, ShareError> {
        let Some(first) = shares.first() else { return Err(ShareError::TooFew { given: 0, needed: 2 }) };
        let same = |share: &Self| (share.recipient, share.threshold) == (first.recipient, first.threshold);
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
        let identity = <&mut [u8; 32]>::try_from(&mut made[..]).map(Identity::from_bytes);
        made.zeroize();
        let identity = identity.map_err(|_| ShareError::Mixed)?;
        let recipient = identity.recipient().map_err(|_| ShareError::Crypto)?;
        if recipient.fingerprint() == first.recipient { Ok(identity) } else { Err(ShareError::Mixed) }
    }

    fn text(&self) -> Zeroizing<String> {
        let mut content = Zeroizing::new(Vec::with_capacity(HEAD + PART + CHECK));
        content.extend_from_slice(&self.recipient.0);
        content.extend_from_slice(&[self.threshold, self.index]);
        content.extend_from_slice(&*self.part);
        let check = digest(&SHA256, &content);
        content.extend_from_slice(&check.as_ref()[..CHECK]);
        let mut digits = Zeroizing::new(BASE32_NOPAD.encode(&content));
        digits.make_ascii_lowercase();
        Zeroizing::new([PREFIX, &digits].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(fill: u8, threshold: u8, count: u8) -> Vec<Zeroizing<String>> {
        CustodianShare::split(&Identity::from_bytes(&mut [fill; 32]), threshold, count).unwrap()
    }

    fn combine(texts: &[&Zeroizing<String>]) -> Result<[u8; 32], ShareError> {
        let shares = texts.iter().map(|text| CustodianShare::parse(text.as_bytes()));
        CustodianShare::combine(&shares.collect::<Result<Vec<_>, _>>()?).map(|made| *made.expose())
    }

    #[test]
    fn any_m_of_n_bring_the_identity_back_and_fewer_do_not() {
        let all = shares(7, 3, 5);
        for [a, b, c] in [[0, 1, 2], [4, 2, 0], [3, 4, 1]] {
            assert_eq!(combine(&[&all[a], &all[b], &all[c]]), Ok([7; 32]));
            assert_eq!(combine(&[&all[a], &all[b]]), Err(ShareError::TooFew { given: 2, needed: 3 }));
        }
        assert_eq!(combine(&all.iter().collect::<Vec<_>>()), Ok([7; 32]));
        let twice = [&all[0], &all[0], &all[1]];
        assert_eq!(combine(&twice), Err(ShareError::TooFew { given: 2, needed: 3 }));
        assert_eq!(combine(&[]), Err(ShareError::TooFew { given: 0, needed: 2 }));
    }

    #[test]
    fn foreign_and_mistyped_shares_are_told() {
        let (ours, theirs, again) = (shares(7, 2, 3), shares(8, 2, 3), shares(7, 2, 3));
        assert_eq!(combine(&[&ours[0], &theirs[1]]), Err(ShareError::Mixed));
        assert_eq!(combine(&[&ours[0], &again[1]]), Err(ShareError::Mixed), "another split of the same");
        let text = ours[0].as_str();
        assert_eq!(CustodianShare::parse(format!("  {text}\n").as_bytes()).err(), None);
        for at in 0..text.len() {
            let mut typo = text.as_bytes().to_vec();
            typo[at] = if typo[at] == b'a' { b'b' } else { b'a' };
            assert!(CustodianShare::parse(&typo).is_err(), "at {at}");
        }
        for (threshold, count) in [(1, 3), (4, 3), (2, 17)] {
            let identity = Identity::from_bytes(&mut [7; 32]);
            assert!(CustodianShare::split(&identity, threshold, count).is_err());
        }
    }
}
