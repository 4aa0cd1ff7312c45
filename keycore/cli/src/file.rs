//! Files that commands write and read.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::output::Answer;

/// Where public output goes: certificates, requests, public keys, signatures.
#[derive(Debug, Args)]
pub(crate) struct OutputFile {
    /// File to write; without it, it is printed
    #[arg(long = "out", value_name = "FILE")]
    out: Option<PathBuf>,

    /// Replace the file if it exists
    #[arg(long, requires = "out")]
    force: bool,
}

impl OutputFile {
    /// Fails early if the file is there, before the engine has done any work for it.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match &self.out {
            Some(path) if !self.force && path.symlink_metadata().is_ok() => {
                Err(Failure::Exists { path: path.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Whether it is `path`, as far as names tell.
    pub(crate) fn is(&self, path: &Path) -> bool {
        let whole = |path: &Path| std::path::absolute(path).ok();
        self.out.as_deref().is_some_and(|out| whole(out) == whole(path))
    }

    /// Writes `content`, or answers with it. `what` names it, `data` gains its text and its path.
    pub(crate) fn write(&self, what: &str, content: &str, mut data: Value) -> Result<Answer, Failure> {
        let Some(path) = &self.out else { return Ok(Answer::new(content, data)) };
        write(path, content.as_bytes(), 0o644, self.force)?;
        data["file"] = json!(path);
        Ok(Answer::new(format!("wrote {what} to {}", path.display()), data))
    }
}

/// Writes a file in one step: whoever opens it sees all of it or none.
pub(crate) fn write(path: &Path, content: &[u8], mode: u32, replace: bool) -> Result<(), Failure> {
    let failed = |source| Failure::Write { path: path.to_owned(), source };
    let name = path.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidFilename.into()))?;
    // Whoever looks for names that begin like this one's does not find it.
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.new", std::process::id()));
    let temporary = path.with_file_name(temporary);
    let written = create(&temporary, content, mode).and_then(|()| {
        if replace { std::fs::rename(&temporary, path) } else { std::fs::hard_link(&temporary, path) }
    });
    // After a rename it is gone; after anything else it must not stay.
    let _ = std::fs::remove_file(&temporary);
    written.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => Failure::Exists { path: path.to_owned() },
        _ => failed(source),
    })
}

/// A file that is there already, with room on its disk, before what goes into it is known. It goes away again unless it
/// was filled.
pub(crate) struct Reserved {
    path: PathBuf,
    file: File,
    filled: bool,
}

impl Reserved {
    /// Makes a new file that its owner alone may read, and room for `size` bytes, and syncs it and its directory.
    pub(crate) fn new(path: &Path, size: usize) -> Result<Self, Failure> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AlreadyExists => Failure::KeyExists { path: path.to_owned() },
            _ => Failure::Write { path: path.to_owned(), source },
        };
        let file = File::options().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        let reserved = Self { path: path.to_owned(), file, filled: false };
        reserved.file.write_all_at(&vec![b'\n'; size], 0).map_err(failed)?;
        reserved.sync().map_err(failed)?;
        Ok(reserved)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the content; it is on the disk when this returns.
    pub(crate) fn fill(mut self, content: &[u8]) -> Result<(), Failure> {
        let filled = self
            .file
            .write_all_at(content, 0)
            .and_then(|()| self.file.set_len(u64::try_from(content.len()).unwrap_or(u64::MAX)))
            .and_then(|()| self.sync());
        self.filled = filled.is_ok();
        filled.map_err(|source| Failure::Write { path: self.path.clone(), source })
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_all()?;
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if !self.filled {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Reads a whole file of at most `limit` bytes; `-` is standard input.
pub(crate) fn read(path: &Path, limit: usize) -> Result<Vec<u8>, Failure> {
    read_secret(path, limit).map(|mut bytes| core::mem::take(&mut *bytes))
}

/// The same for a secret: no copy of it is left in freed memory.
pub(crate) fn read_secret(path: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>, Failure> {
    read_checked(path, limit, |_any| Ok(()))
}

/// The same, if `check` likes the file that was opened; it is not asked about standard input.
pub(crate) fn read_checked(
    path: &Path,
    limit: usize,
    check: impl FnOnce(&Metadata) -> Result<(), Failure>,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |source| Failure::Read { path: path.to_owned(), source };
    let file = if path == Path::new("-") {
        // A duplicate, because std's own standard input keeps a buffer.
        io::stdin().as_fd().try_clone_to_owned().map(File::from).map_err(failed)?
    } else {
        let file = File::open(path).map_err(failed)?;
        check(&file.metadata().map_err(failed)?)?;
        file
    };
    // One allocation that is long enough from the start.
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit + 2));
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(most).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > limit {
        return Err(Failure::Content {
            path: path.to_owned(),
            problem: format!("longer than {limit} bytes"),
            advice: None,
        });
    }
    Ok(bytes)
}

fn create(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_only_when_asked() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        write(&path, b"one", 0o600, false).unwrap();
        assert!(matches!(write(&path, b"two", 0o600, false), Err(Failure::Exists { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        write(&path, b"two", 0o600, true).unwrap();
        assert_eq!(read(&path, 3).unwrap(), b"two");
        assert!(matches!(read(&path, 2), Err(Failure::Content { .. })));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file stays");
    }

    /// Whoever changes what the name stands for, after it was looked at, changes nothing.
    #[test]
    fn the_file_that_is_checked_is_the_one_that_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = (directory.path().join("x"), directory.path().join("other"));
        std::fs::write(&path, b"private").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::write(&other, b"another's").unwrap();
        let mut mode = 0;
        let read = read_checked(&path, 100, |found| {
            mode = found.permissions().mode() & 0o777;
            std::fs::rename(&other, &path).unwrap();
            Ok(())
        });
        assert_eq!((&**read.unwrap(), mode), (&b"private"[..], 0o600));
    }

    #[test]
    fn a_reserved_file_is_new_and_private_and_stays_only_with_its_content() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        drop(Reserved::new(&path, 100).unwrap());
        assert!(!path.exists());
        Reserved::new(&path, 100).unwrap().fill(b"content").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"content");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(Reserved::new(&path, 100), Err(Failure::KeyExists { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"content");
        let nowhere = Reserved::new(&directory.path().join("none/x"), 100);
        assert!(matches!(nowhere, Err(Failure::Write { .. })));
    }
}
