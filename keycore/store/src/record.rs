//! What a store holds, and what changes it.

use core::fmt;

/// What sort of record it is; the engine gives the numbers their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind(pub u8);

/// Counts the commits of a store; 0 is the empty store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision that a commit on top of this one makes.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! bytes {
    ($(#[$doc:meta])* $name:ident, $length:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; $length]);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "("))?;
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                f.write_str(")")
            }
        }
    };
}

bytes! {
    /// Names a record among those of its kind.
    RecordId, 16
}
bytes! {
    /// A name that one record of a kind has and no other: an HMAC made by the engine, so that the store learns
    /// neither labels nor user names.
    IndexTag, 32
}
bytes! {
    /// What records of a kind have in common, an owner for example: an HMAC made by the engine.
    GroupTag, 32
}

/// A record as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Which record.
    pub id: RecordId,
    /// The revision of the commit that wrote it.
    pub version: Revision,
    /// The sealed content.
    pub sealed: Vec<u8>,
}

/// One change of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Writes a record. Its version becomes the revision of the commit.
    Put {
        /// Its kind.
        kind: Kind,
        /// Its id.
        id: RecordId,
        /// `None`: it must not exist yet. `Some`: it must be at this version.
        expect: Option<Revision>,
        /// The sealed content.
        sealed: Vec<u8>,
        /// All unique tags that it has from now on.
        index: Vec<IndexTag>,
        /// The group that it belongs to from now on.
        group: Option<GroupTag>,
    },
    /// Writes a record that is there with another seal: its tags and its group stay. Its version becomes the revision of the
    /// commit.
    Reseal {
        /// Its kind.
        kind: Kind,
        /// Its id.
        id: RecordId,
        /// The version that it must be at.
        expect: Revision,
        /// The sealed content.
        sealed: Vec<u8>,
    },
    /// Deletes a record and frees its tags.
    Delete {
        /// Its kind.
        kind: Kind,
        /// Its id.
        id: RecordId,
        /// The version that it must be at.
        expect: Revision,
    },
}

impl Change {
    /// The record that it changes.
    pub fn record(&self) -> (Kind, RecordId) {
        match self {
            Self::Put { kind, id, .. } | Self::Reseal { kind, id, .. } | Self::Delete { kind, id, .. } => {
                (*kind, *id)
            }
        }
    }
}

/// Which records changed since a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// These were written or deleted, each named once; none if nothing happened.
    These(Vec<(Kind, RecordId)>),
    /// Too long ago to tell: assume that every record changed.
    All,
}
