use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use keycore_wire::Secret;
use zeroize::Zeroizing;

/// Longest password, with its newline, in bytes.
const LONGEST: usize = 1024;

/// The password can't be had from its file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The file can't be read.
    #[error("can't read the password file {}: {source}", .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else may read it.
    #[error("the password file {} has mode {mode:04o}; only its owner may read it: chmod 600 it", .path.display())]
    TooOpen {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A directory, a device, or a length that no password has.
    #[error("the password file {} must be a regular file of 1 to {LONGEST} bytes", .path.display())]
    NotAPassword {
        /// Which.
        path: PathBuf,
    },
}

/// Tells one content of a file from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        path.metadata().map(|metadata| Self::new(&metadata))
    }

    fn new(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Reads a password file: a regular file that only its owner may read (or root's group, as systemd's credentials are). One newline
/// at the end is not part of the password.
///
/// # Errors
///
/// [`IdentityError`] says what is wrong with the file.
pub fn read_password_file(path: &Path) -> Result<Secret, IdentityError> {
    read(path).map(|(password, _)| password)
}

/// Reads a password to the end of `source`, without one newline there. `None` if it has a length that no password has: none, or
/// more than 1,024 bytes.
///
/// # Errors
///
/// What reading fails with.
pub fn read_password(source: impl Read) -> io::Result<Option<Secret>> {
    // One allocation, so that no copy is left in freed memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 2));
    source.take(LONGEST as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > LONGEST {
        return Ok(None);
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    Ok(if bytes.is_empty() { None } else { Some(Secret::from(bytes)) })
}

/// The password, and what the file looked like; all checks are made on the opened file.
pub(super) fn read(path: &Path) -> Result<(Secret, Stamp), IdentityError> {
    let unreadable = |source| IdentityError::Unreadable { path: path.to_owned(), source };
    // Without O_NONBLOCK, a FIFO at that path would hang the program.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(IdentityError::NotAPassword { path: path.to_owned() });
    }
    // An ACL's mask shows as the group's permission: systemd gives its credentials to the unit's user like that,
    // in files of root:root with mode 0440.
    let root_only = metadata.uid() == 0 && metadata.gid() == 0;
    let forbidden = if root_only { 0o037 } else { 0o077 };
    if metadata.mode() & forbidden != 0 {
        return Err(IdentityError::TooOpen { path: path.to_owned(), mode: metadata.mode() & 0o7777 });
    }
    match read_password(file).map_err(unreadable)? {
        Some(password) => Ok((password, Stamp::new(&metadata))),
        None => Err(IdentityError::NotAPassword { path: path.to_owned() }),
    }
}
