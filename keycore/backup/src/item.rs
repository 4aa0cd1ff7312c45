//! What a backup's payload holds: items, each behind its length.

use keycore_wire::{ClusterId, Secret};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::BackupError;

/// Longest item, in bytes.
const MAX: usize = 1 << 20;

/// One item, in postcard. The first is the cluster, the last the end.
#[derive(Serialize, Deserialize)]
pub enum Item {
    /// Whose records they are, and what opens them.
    Cluster {
        /// The cluster.
        cluster: ClusterId,
        /// The revision that all records are of.
        revision: u64,
        /// The cluster keys; records may be sealed under any of them.
        keys: Vec<ClusterKey>,
    },
    /// A record of the store, sealed as it is there.
    Record(SealedRecord),
    /// There is no more.
    End {
        /// How many records there were.
        records: u64,
    },
}

/// A key that records are sealed under.
#[derive(Serialize, Deserialize)]
pub struct ClusterKey {
    /// Which one: counts the rotations.
    pub generation: u32,
    /// Its bytes.
    pub key: Secret,
}

/// A record, with all that the store keeps of it.
#[derive(Serialize, Deserialize)]
pub struct SealedRecord {
    /// Its kind.
    pub kind: u8,
    /// Its id.
    pub id: [u8; 16],
    /// Its version.
    pub version: u64,
    /// Its tags.
    pub index: Vec<[u8; 32]>,
    /// Its group.
    pub group: Option<[u8; 32]>,
    /// The sealed content.
    #[serde(with = "serde_bytes")]
    pub sealed: Vec<u8>,
}

impl Item {
    /// Longest item with its length, in bytes.
    pub(crate) const MAX_ENCODED: usize = MAX + 4;

    /// The item behind its length.
    pub(crate) fn encode(&self) -> Result<Zeroizing<Vec<u8>>, BackupError> {
        let content = match self {
            Self::Record(record) => record.sealed.len() + 32 * record.index.len(),
            _ => 0,
        };
        if content > MAX - 1024 {
            return Err(BackupError::TooLarge(content));
        }
        // Room for all of it, so that keys leave no copies behind by growing.
        let mut buffer = Vec::with_capacity(content + 4096);
        buffer.extend_from_slice(&[0; 4]);
        let encoded = postcard::to_extend(self, buffer).map_err(|_| BackupError::TooLarge(content))?;
        let mut encoded = Zeroizing::new(encoded);
        let length = u32::try_from(encoded.len() - 4).map_err(|_| BackupError::TooLarge(content))?;
        encoded[..4].copy_from_slice(&length.to_be_bytes());
        Ok(encoded)
    }

    /// Takes the first item from `bytes`: itself and what it took, or `None` if more bytes are needed.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, BackupError> {
        let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        let damaged = || BackupError::Damaged("its content can't be decoded".to_owned());
        if length > MAX {
            return Err(damaged());
        }
        let Some(content) = rest.get(..length) else { return Ok(None) };
        match postcard::take_from_bytes(content) {
            Ok((item, [])) => Ok(Some((item, 4 + length))),
            _ => Err(damaged()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever knows the recipient can encrypt what he likes to it, so items are read with care although they are authentic.
    #[test]
    fn changed_items_are_read_or_refused() {
        let keys = vec![ClusterKey { generation: 3, key: Secret::new(vec![0x77; 32]) }];
        let record = SealedRecord {
            kind: 4,
            id: [1; 16],
            version: 300,
            index: vec![[7; 32], [8; 32]],
            group: Some([9; 32]),
            sealed: vec![5; 40],
        };
        let items = [
            Item::Cluster { cluster: ClusterId([0xcc; 16]), revision: 9, keys },
            Item::Record(record),
            Item::End { records: 5 },
        ];
        let (mut read, mut refused) = (0, 0);
        let mut look = |bytes: &[u8]| match Item::decode(bytes) {
            Ok(Some((_, took))) => read += u32::from(took <= bytes.len()),
            Ok(None) => {}
            Err(error) => refused += u32::from(error.to_string().contains("can't be decoded")),
        };
        for item in items {
            let whole = item.encode().unwrap();
            assert!(Item::decode(&whole[..whole.len() - 1]).unwrap().is_none(), "cut");
            for at in 0..whole.len() {
                for bit in 0..8 {
                    let mut flipped = whole.to_vec();
                    flipped[at] ^= 1 << bit;
                    look(&flipped);
                }
                // A list or text of 2^32 - 1 bytes.
                let mut claims = whole.to_vec();
                claims.splice(at..at, [0xff, 0xff, 0xff, 0xff, 0x0f]);
                let length = u32::try_from(claims.len() - 4).unwrap();
                claims[..4].copy_from_slice(&length.to_be_bytes());
                look(&claims);
            }
        }
        assert!(read > 500 && refused > 200, "{read} read, {refused} refused");
    }
}
