//! The cluster key in its generations, and what is derived from each.
//!
//! A rotation adds a generation, which seals from then on; the older ones open what they sealed until all of it is sealed anew.
//! The key of the index tags is none of them: a name must have one tag at a time, so it never rotates.

use std::sync::Arc;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::{hmac, rand};
use keycore_secmem::{SecmemError, SecretBytes};
use keycore_store::Revision;
use keycore_wire::{ClusterId, Secret};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::seal::derive_key;

/// Number of the first generation; a backup names the key of the index tags by the one before it.
pub(crate) const FIRST: u32 = 1;

/// Most generations at a time: a rotation ends before the next begins.
const MAX_GENERATIONS: usize = 2;

/// All generations that something may be sealed with.
pub(crate) struct Keyring {
    cluster: ClusterId,
    tags: Arc<SecretBytes>,
    /// By number, never none; the last one seals.
    generations: Vec<Arc<Generation>>,
    /// Goes into the keys of session tokens since a restore.
    epoch: Option<[u8; 32]>,
    /// What it is wrapped with in the store, and the version of that record.
    pub(crate) wrapping: Option<Wrapping>,
}

/// What the ring is wrapped with. Whoever has it follows changes of the ring without the unseal secret.
#[derive(Clone)]
pub(crate) struct Wrapping {
    pub(crate) key: Arc<SecretBytes>,
    pub(crate) version: Revision,
}

/// One cluster key.
pub(crate) struct Generation {
    pub(crate) number: u32,
    key: SecretBytes,
    pub(crate) records: SecretBytes,
    pub(crate) tokens: hmac::Key,
}

/// What is wrapped, in postcard.
#[derive(Serialize, Deserialize)]
struct Content {
    tags: Secret,
    generations: Vec<(u32, Secret)>,
}

/// The cluster's keys can't be derived.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeriveError {
    #[error(transparent)]
    Crypto(#[from] Unspecified),
    #[error(transparent)]
    Memory(#[from] SecmemError),
    #[error("the cluster key is of an unknown form")]
    Form,
}

impl Keyring {
    /// A ring of one generation.
    pub(crate) fn first(cluster: ClusterId, key: &[u8]) -> Result<Self, DeriveError> {
        let mut tags = derive_key(&cluster.0, key, b"keycore index tags v1")?;
        let tags = Arc::new(SecretBytes::copy_from(&mut *tags)?);
        let generations = vec![Arc::new(Generation::derive(cluster, FIRST, key, None)?)];
        Ok(Self { cluster, tags, generations, epoch: None, wrapping: None })
    }

    /// A ring of these parts: the key of the index tags, if it is not that of the first generation's, and the generations by
    /// number.
    pub(crate) fn of(
        cluster: ClusterId,
        tags: Option<&[u8]>,
        generations: &[(u32, &[u8])],
    ) -> Result<Self, DeriveError> {
        let numbered = generations.windows(2).all(|two| two[0].0 < two[1].0);
        let keys = generations.iter().all(|(number, key)| *number >= FIRST && key.len() == 32);
        if generations.is_empty() || generations.len() > MAX_GENERATIONS || !numbered || !keys {
            return Err(DeriveError::Form);
        }
        let tags = match (tags, generations) {
            (Some(tags), _) if tags.len() == 32 => {
                SecretBytes::copy_from(&mut Zeroizing::new(tags.to_vec()))?
            }
            (None, &[(FIRST, key), ..]) => {
                SecretBytes::copy_from(&mut *derive_key(&cluster.0, key, b"keycore index tags v1")?)?
            }
            _ => return Err(DeriveError::Form),
        };
        let generations = generations
            .iter()
            .map(|(number, key)| Generation::derive(cluster, *number, key, None).map(Arc::new))
            .collect::<Result<_, _>>()?;
        Ok(Self { cluster, tags: Arc::new(tags), generations, epoch: None, wrapping: None })
    }

    /// Reads what [`Keyring::write`] wrote.
    pub(crate) fn read(cluster: ClusterId, bytes: &[u8]) -> Result<Self, DeriveError> {
        let content: Content = postcard::from_bytes(bytes).map_err(|_| DeriveError::Form)?;
        let keys: Vec<_> = content.generations.iter().map(|(number, key)| (*number, key.expose())).collect();
        Self::of(cluster, Some(content.tags.expose()), &keys)
    }

    /// Its content, to be wrapped.
    pub(crate) fn write(&self) -> Result<Zeroizing<Vec<u8>>, DeriveError> {
        let content = Content { tags: Secret::new(self.tags.expose().to_vec()), generations: self.keys() };
        let bytes = postcard::to_extend(&content, Vec::with_capacity(256)).map_err(|_| DeriveError::Form)?;
        Ok(Zeroizing::new(bytes))
    }

    /// The keys by the numbers of their generations.
    pub(crate) fn keys(&self) -> Vec<(u32, Secret)> {
        let key =
            |generation: &Arc<Generation>| (generation.number, Secret::new(generation.key.expose().to_vec()));
        self.generations.iter().map(key).collect()
    }

    pub(crate) fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The key of the index tags.
    pub(crate) fn tags(&self) -> &SecretBytes {
        &self.tags
    }

    /// The generation that seals.
    pub(crate) fn newest(&self) -> &Generation {
        let Some(newest) = self.generations.last() else { unreachable!("a ring is made with a generation") };
        newest
    }

    /// The oldest one that something may still be sealed with.
    pub(crate) fn oldest(&self) -> &Generation {
        let Some(oldest) = self.generations.first() else { unreachable!("a ring is made with a generation") };
        oldest
    }

    /// The generation of a number.
    pub(crate) fn generation(&self, number: u32) -> Option<&Generation> {
        self.generations.iter().find(|generation| generation.number == number).map(|found| &**found)
    }

    /// All of them, oldest first.
    pub(crate) fn generations(&self) -> impl DoubleEndedIterator<Item = &Generation> {
        self.generations.iter().map(|generation| &**generation)
    }

    /// The same ring with one generation more, which seals from then on.
    pub(crate) fn with_next(&self, key: &[u8; 32]) -> Result<Self, DeriveError> {
        let next = self.newest().number.checked_add(1).ok_or(DeriveError::Form)?;
        let next = Generation::derive(self.cluster, next, key, self.epoch)?;
        let mut generations = self.generations.clone();
        generations.push(Arc::new(next));
        if generations.len() > MAX_GENERATIONS {
            return Err(DeriveError::Form);
        }
        Ok(Self { generations, ..self.copy() })
    }

    /// The same ring with its newest generation alone.
    pub(crate) fn newest_only(&self) -> Self {
        Self { generations: self.generations.last().cloned().into_iter().collect(), ..self.copy() }
    }

    /// Whether there is one generation: no rotation goes on.
    pub(crate) fn is_single(&self) -> bool {
        self.generations.len() == 1
    }

    /// The same ring; its keys stay where they are.
    pub(crate) fn copy(&self) -> Self {
        Self {
            cluster: self.cluster,
            tags: Arc::clone(&self.tags),
            generations: self.generations.clone(),
            epoch: self.epoch,
            wrapping: self.wrapping.clone(),
        }
    }

    /// The same ring, wrapped so.
    pub(crate) fn wrapped(self, wrapping: Wrapping) -> Self {
        Self { wrapping: Some(wrapping), ..self }
    }

    /// The same ring, whose session tokens are those of `epoch`.
    pub(crate) fn in_epoch(self, epoch: Option<[u8; 32]>) -> Result<Self, DeriveError> {
        let generations = self
            .generations
            .iter()
            .map(|old| Generation::derive(self.cluster, old.number, old.key.expose(), epoch).map(Arc::new))
            .collect::<Result<_, _>>()?;
        Ok(Self { generations, epoch, ..self })
    }

    pub(crate) fn epoch(&self) -> Option<[u8; 32]> {
        self.epoch
    }
}

impl Generation {
    fn derive(
        cluster: ClusterId,
        number: u32,
        key: &[u8],
        epoch: Option<[u8; 32]>,
    ) -> Result<Self, DeriveError> {
        let derive = |purpose: &[u8]| derive_key(&cluster.0, key, purpose);
        let tokens = [&b"keycore session tokens v1"[..], epoch.as_ref().map_or(&[], |epoch| &epoch[..])];
        Ok(Self {
            number,
            key: SecretBytes::copy_from(&mut Zeroizing::new(key.to_vec()))?,
            records: SecretBytes::copy_from(&mut *derive(b"keycore records v1")?)?,
            tokens: hmac::Key::new(hmac::HMAC_SHA256, &*derive(&tokens.concat())?),
        })
    }
}

/// A key for the cluster.
pub(crate) fn new_key() -> Result<Zeroizing<[u8; 32]>, Unspecified> {
    let mut key = Zeroizing::new([0; 32]);
    rand::fill(&mut *key)?;
    Ok(key)
}
