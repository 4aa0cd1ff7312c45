use aws_lc_rs::error::Unspecified;
use zeroize::Zeroizing;

use super::{Share, ShareError, SharePurpose};
use crate::identity::{Fingerprint, Identity};

const PURPOSE: SharePurpose = SharePurpose::BackupIdentity;

/// One custodian's share of an identity. Shares belong together if they name the same recipient, and whether they made the
/// right identity is seen by it.
pub struct CustodianShare(Share);

impl CustodianShare {
    /// Longest text of a share, in bytes.
    pub const MAX_TEXT: usize = Share::MAX_TEXT;
    /// Most custodians.
    pub const MAX: u8 = Share::MAX;

    /// Splits an identity into the texts of `count` shares, any `threshold` of which bring it back.
    ///
    /// # Errors
    ///
    /// If the numbers don't fit ([`Share::fits`]) or the cryptographic library fails.
    pub fn split(
        identity: &Identity,
        threshold: u8,
        count: u8,
    ) -> Result<Vec<Zeroizing<String>>, Unspecified> {
        Share::split(PURPOSE, identity.recipient()?.fingerprint().0, identity.expose(), threshold, count)
    }

    /// Reads a share's text; blanks around it don't count.
    ///
    /// # Errors
    ///
    /// [`ShareError::Unreadable`].
    pub fn parse(text: &[u8]) -> Result<Self, ShareError> {
        Share::parse(PURPOSE, text).map(Self)
    }

    /// The identity that shares make. One given twice counts once.
    ///
    /// # Errors
    ///
    /// [`ShareError`].
    pub fn combine(shares: Vec<Self>) -> Result<Identity, ShareError> {
        let shares: Vec<_> = shares.into_iter().map(|share| share.0).collect();
        let mut secret = Share::combine(&shares)?;
        let identity = Identity::from_bytes(&mut secret);
        let made = identity.recipient().map_err(|_| ShareError::Crypto)?.fingerprint();
        let named = shares.first().map(|share| Fingerprint(share.of()));
        if Some(made) == named { Ok(identity) } else { Err(ShareError::Mixed) }
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
        CustodianShare::combine(shares.collect::<Result<Vec<_>, _>>()?).map(|made| *made.expose())
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
