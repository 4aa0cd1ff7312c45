//! Where backups lie, as far as the engine cares, and what they are called.

use std::io::{self, Read, Seek, Write};

use keycore_store::Revision;
use keycore_wire::{ClusterId, UnixMillis};

const SUFFIX: &str = ".age";

/// A directory of backups, shared by the replicas of a machine.
pub trait BackupPlace: Send + Sync {
    /// A new file without a name, readable by this user only.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn create(&self) -> io::Result<Box<dyn BackupFile>>;

    /// The names of all files, in any order.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn names(&self) -> io::Result<Vec<String>>;

    /// A file that [`BackupPlace::names`] named, and its length.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn open(&self, name: &str) -> io::Result<(Box<dyn Read>, u64)>;

    /// Deletes a file that [`BackupPlace::names`] named.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// A backup that is being written. Dropped before it is published, it is gone.
pub trait BackupFile: Read + Write + Seek + Send {
    /// Makes what was written durable.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn sync(&mut self) -> io::Result<()>;

    /// Gives it its name, durably, in one step.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn publish(self: Box<Self>, name: &str) -> io::Result<()>;
}

/// The name of a backup: milliseconds since 1970 first, as wide as they will be for 300 years, so that names sort by time.
pub(super) fn name(cluster: ClusterId, at: UnixMillis, revision: Revision) -> String {
    format!("{}{:013}-r{revision}{SUFFIX}", prefix(cluster), at.0)
}

/// Whether it is the name of a backup.
pub(super) fn is_backup(name: &str) -> bool {
    name.starts_with("hsm-") && name.ends_with(SUFFIX)
}

/// Whether it is the name of a backup of this cluster.
pub(super) fn is_of(name: &str, cluster: ClusterId) -> bool {
    is_backup(name) && name.starts_with(&prefix(cluster))
}

fn prefix(cluster: ClusterId) -> String {
    format!("hsm-{}-", data_encoding::HEXLOWER.encode(&cluster.0[..4]))
}
