//! The state directory: what is where, and who else is using it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use zeroize::Zeroizing;

use super::error::DevError;

/// Longest path of a Unix socket, in bytes (`unix(7)`).
const MAX_SOCKET_PATH: usize = 107;

/// Everything that `dev` keeps, in one directory that only its owner may enter.
pub(super) struct StateDir {
    root: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Makes or opens it, for this process alone.
    pub(super) fn open(path: &Path) -> Result<Self, DevError> {
        make_directory(path)?;
        let root =
            path.canonicalize().map_err(|source| DevError::StateDir { path: path.to_owned(), source })?;
        let run = root.join("run");
        for directory in [&run, &root.join("secrets"), &root.join("engine")] {
            make_directory(directory)?;
        }
        let socket = run.join("engine-10.sock");
        if socket.as_os_str().as_bytes().len() > MAX_SOCKET_PATH {
            return Err(DevError::PathTooLong { path: socket, limit: MAX_SOCKET_PATH });
        }
        let lock = lock(&run.join("dev.lock"))?;
        Ok(Self { root, _lock: lock })
    }

    /// Sockets and process ids.
    pub(super) fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// The engines' store and audit logs.
    pub(super) fn engine(&self) -> PathBuf {
        self.root.join("engine")
    }

    /// The directory itself.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The CA's certificate.
    pub(super) fn ca(&self) -> PathBuf {
        self.root.join("ca.pem")
    }

    /// The certificate chain for `localhost`.
    pub(super) fn certificate(&self) -> PathBuf {
        self.root.join("localhost.pem")
    }

    /// A user's password.
    pub(super) fn password_file(&self, user: &str) -> PathBuf {
        self.root.join("secrets").join(format!("{user}-password"))
    }

    /// What opens the store.
    pub(super) fn unseal_file(&self) -> PathBuf {
        self.root.join("secrets/unseal")
    }

    /// Reads a secret, or makes one: 256 random bits as hexadecimal, in a file of mode 0600.
    pub(super) fn secret(&self, path: &Path) -> Result<Zeroizing<String>, DevError> {
        let mut text = Zeroizing::new(String::new());
        match File::open(path) {
            Ok(mut file) => {
                file.read_to_string(&mut text).map_err(|source| DevError::io(path, source))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut random = Zeroizing::new([0; 32]);
                rustls::crypto::aws_lc_rs::default_provider()
                    .secure_random
                    .fill(&mut *random)
                    .map_err(|_| DevError::NoRandomness)?;
                data_encoding::HEXLOWER.encode_append(&*random, &mut text);
                text.push('\n');
                self.write(path, text.as_bytes(), 0o600)?;
            }
            Err(source) => return Err(DevError::io(path, source)),
        }
        let length = text.trim_end().len();
        text.truncate(length);
        Ok(text)
    }

    /// Writes a file whole or not at all.
    pub(super) fn write(&self, path: &Path, content: &[u8], mode: u32) -> Result<(), DevError> {
        let partial = path.with_extension("partial");
        let write = || {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&partial)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&partial, path)
        };
        write().map_err(|source| DevError::io(path, source))
    }
}

/// Makes it for this user alone; one that is there already must be nobody else's to write to, for he could put secrets
/// of his own there.
fn make_directory(path: &Path) -> Result<(), DevError> {
    let failed = |source| DevError::StateDir { path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    let found = fs::metadata(path).map_err(failed)?;
    if found.uid() != rustix::process::geteuid().as_raw() || found.mode() & 0o022 != 0 {
        return Err(failed(io::Error::other("it belongs to another user, or others may write to it")));
    }
    Ok(())
}

/// Holds the directory until the process ends. The file names the process that does.
fn lock(path: &Path) -> Result<File, DevError> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|source| DevError::io(path, source))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut holder = String::new();
        file.read_to_string(&mut holder).map_err(|source| DevError::io(path, source))?;
        return Err(DevError::InUse { lock: path.to_owned(), pid: holder.trim().to_owned() });
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(|source| DevError::io(path, source))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn secrets_are_made_once_and_private() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(&directory.path().join("state")).unwrap();
        let path = state.password_file("web");
        let first = state.secret(&path).unwrap();
        assert_eq!(first.len(), 64);
        assert_eq!(*state.secret(&path).unwrap(), *first);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(state.root()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_directory_in_use_names_its_user() {
        let directory = tempfile::tempdir().unwrap();
        let _held = StateDir::open(directory.path()).unwrap();
        let Err(DevError::InUse { pid, .. }) = StateDir::open(directory.path()) else {
            panic!("opened twice")
        };
        assert_eq!(pid, std::process::id().to_string());
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(StateDir::open(directory.path()), Err(DevError::StateDir { .. })));
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        StateDir::open(directory.path()).unwrap();
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("d".repeat(120));
        assert!(matches!(StateDir::open(&deep), Err(DevError::PathTooLong { .. })));
    }
}
