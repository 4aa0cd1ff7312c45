//! The directories and small files of a running engine: permissions, pid files, locks.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use crate::exit::StartError;

/// Makes `path` with `mode` if it is absent (its parents too), and refuses one that is open to others than `mode`
/// says or belongs to somebody else than this user or root.
pub(crate) fn prepare(path: &Path, mode: u32) -> Result<(), StartError> {
    match fs::symlink_metadata(path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(path, mode)?,
        Err(error) => return Err(StartError::at("look at", path)(error)),
    }
    let found = fs::metadata(path).map_err(StartError::at("look at", path))?;
    if !found.is_dir() {
        return Err(StartError::NotADirectory { path: path.to_owned() });
    }
    let engine = rustix::process::geteuid().as_raw();
    if found.uid() != engine && found.uid() != 0 {
        return Err(StartError::ForeignOwner { path: path.to_owned(), owner: found.uid(), engine });
    }
    let found = found.mode() & 0o7777;
    if found & 0o077 & !mode != 0 {
        return Err(StartError::TooOpen { path: path.to_owned(), mode: found, wanted: mode });
    }
    Ok(())
}

fn create(path: &Path, mode: u32) -> Result<(), StartError> {
    match DirBuilder::new().recursive(true).mode(0o700).create(path) {
        // Another replica may be as fast: what is there now is looked at like any other.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(StartError::at("make directory", path)(error)),
        // The umask takes the group's bits away; give back what the configuration says.
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(mode))
            .map_err(StartError::at("set the permissions of", path)),
    }
}

/// A file that holds this process's id while it serves; removed when dropped.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes the file in one step: a reader sees the whole id or no file.
    pub(crate) fn write(path: PathBuf) -> Result<Self, StartError> {
        let unfinished = path.with_extension("pid.new");
        let written = (|| {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&unfinished)?;
            writeln!(file, "{}", std::process::id())?;
            fs::rename(&unfinished, &path)
        })();
        written.map_err(StartError::at("write", &path))?;
        Ok(Self { path })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        remove_pid_file(&self.path, std::process::id());
    }
}

/// Removes the pid file at `path` if it names `pid`; a stale one would send somebody's `kill` to a stranger.
pub(crate) fn remove_pid_file(path: &Path, pid: u32) {
    if fs::read_to_string(path).is_ok_and(|text| text.trim_end() == pid.to_string()) {
        let _already_gone = fs::remove_file(path);
    }
}

/// Shows that this process is the only one of its kind in a directory, until it ends however it may.
#[derive(Debug)]
pub(crate) struct Lock {
    _held: File,
}

impl Lock {
    /// How long a predecessor that was told to end may still hold the lock. Longer than a drain.
    const PATIENCE: Duration = Duration::from_secs(8);
    const RETRY: Duration = Duration::from_millis(50);

    /// Takes the lock `path` for `what`; waits a bounded time for a predecessor that is ending.
    pub(crate) fn take(path: &Path, what: &str) -> Result<Self, StartError> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(StartError::at("open", path))?;
        let deadline = Instant::now() + Self::PATIENCE;
        let mut said = false;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _held: file }),
                Err(rustix::io::Errno::INTR) => {}
                // flock has no timeout, so this one wait asks again and again.
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    if !said {
                        tracing::info!("waiting for the previous {what} to end");
                        said = true;
                    }
                    std::thread::sleep(Self::RETRY);
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(StartError::Running { what: what.to_owned(), path: path.to_owned() });
                }
                Err(error) => return Err(StartError::at("lock", path)(error.into())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_an_absent_directory_with_the_mode_asked_for() {
        let root = tempfile::tempdir().unwrap();
        for (name, mode) in [("owner", 0o700), ("group", 0o750)] {
            let path = root.path().join("parent").join(name);
            prepare(&path, mode).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode);
            prepare(&path, mode).unwrap();
        }
    }

    #[test]
    fn refuses_a_directory_that_others_may_enter_and_says_how_to_close_it() {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
        let error = prepare(root.path(), 0o700).unwrap_err().to_string();
        assert!(error.contains("mode 0755") && error.contains("chmod 0700"), "{error}");
        fs::set_permissions(root.path(), Permissions::from_mode(0o750)).unwrap();
        assert!(prepare(root.path(), 0o700).is_err());
        prepare(root.path(), 0o750).unwrap();
    }

    #[test]
    fn refuses_a_file_in_the_place_of_a_directory() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        fs::write(&path, "").unwrap();
        assert!(matches!(prepare(&path, 0o700), Err(StartError::NotADirectory { .. })));
    }

    #[test]
    fn a_pid_file_goes_with_its_process_and_only_if_it_is_its_own() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("engine-0.pid");
        let file = PidFile::write(path.clone()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(file);
        assert!(!path.exists());

        let file = PidFile::write(path.clone()).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(file);
        assert!(path.exists());
    }
}
