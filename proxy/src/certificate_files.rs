//! The certificates that are served, each with the key that the engines hold for it, as they were read from their files.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::sign::CertifiedKey;
use time::OffsetDateTime;

use crate::chain::{Chain, ChainError};
use crate::config::HostPattern;
use crate::handshake::WatchedKey;
use crate::keys::{KeyError, KeySource};

/// The certificates of one configuration, by file.
#[derive(Default)]
pub(crate) struct CertificateFiles {
    by_file: HashMap<PathBuf, Arc<LoadedCertificate>>,
}

/// One certificate chain, ready to be served.
pub(crate) struct LoadedCertificate {
    pub(crate) certified_key: Arc<CertifiedKey>,
    /// When the site's own certificate ends.
    pub(crate) not_after: OffsetDateTime,
    /// What the file was when it was read; `None` if that could not be told.
    stamp: Option<FileStamp>,
}

/// Why a certificate can't be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Why a host gets no certificate from the file for it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostCertificateError {
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("{} is no file, or longer than {} KiB", .0.display(), .1 / 1024)]
    NoFile(PathBuf, u64),
    #[error("the certificate in {} is not for {host}; its names: {names}", .path.display())]
    AnotherName { path: PathBuf, host: HostPattern, names: String },
}

/// Tells two states of a file apart: another file under the same name, or the same one with other content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FileStamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileStamp {
    /// Of the file that the path leads to; `None` if there is none.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        Some(Self::from(&std::fs::metadata(path).ok()?))
    }
}

impl From<&Metadata> for FileStamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl CertificateFiles {
    /// The certificate in this file, read at most once. A file that has not changed since `previous` was loaded is not
    /// read again, and its certificate stays the same object.
    ///
    /// # Errors
    ///
    /// [`CertificateError`]; nothing is kept then.
    pub(crate) fn load(
        &mut self,
        path: &Path,
        keys: &dyn KeySource,
        previous: Option<&Self>,
    ) -> Result<Arc<LoadedCertificate>, CertificateError> {
        if let Some(loaded) = self.by_file.get(path) {
            return Ok(Arc::clone(loaded));
        }
        // Before it is read: if it changes meanwhile, the next look sees another stamp.
        let stamp = FileStamp::of(path);
        let unchanged =
            previous.and_then(|previous| previous.by_file.get(path)).filter(|known| known.is_of(stamp));
        let certificate = match unchanged {
            Some(known) => Arc::clone(known),
            None => Arc::new(LoadedCertificate::read(path, stamp, keys)?),
        };
        self.keep(path, &certificate);
        Ok(certificate)
    }

    /// Serves what `previous` served from this file, if it did: the last good one.
    pub(crate) fn keep_from(&mut self, path: &Path, previous: &Self) -> Option<Arc<LoadedCertificate>> {
        let known = Arc::clone(previous.by_file.get(path)?);
        self.keep(path, &known);
        Some(known)
    }

    fn keep(&mut self, path: &Path, certificate: &Arc<LoadedCertificate>) {
        self.by_file.insert(path.to_owned(), Arc::clone(certificate));
    }
}

impl LoadedCertificate {
    /// The certificate of a host, from the file for it; `previous` if the file has not changed since, and `None` if there is no
    /// file. A file of more than `largest` bytes is not read.
    ///
    /// # Errors
    ///
    /// [`HostCertificateError`]; also if the certificate is not for this host.
    pub(crate) fn of_host(
        path: &Path,
        host: &HostPattern,
        keys: &dyn KeySource,
        previous: Option<&Arc<Self>>,
        largest: u64,
    ) -> Result<Option<Arc<Self>>, HostCertificateError> {
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                let error = ChainError::Unreadable { path: path.to_owned(), source };
                return Err(CertificateError::from(error).into());
            }
        };
        let stamp = Some(FileStamp::from(&metadata));
        if let Some(previous) = previous.filter(|previous| previous.is_of(stamp)) {
            return Ok(Some(Arc::clone(previous)));
        }
        // Opening a pipe would wait for its other end.
        if !metadata.is_file() || metadata.len() > largest {
            return Err(HostCertificateError::NoFile(path.to_owned(), largest));
        }
        let chain = Chain::load(path).map_err(CertificateError::from)?;
        if !chain.covers(host) {
            let (path, host, names) = (path.to_owned(), host.clone(), chain.names().join(", "));
            return Err(HostCertificateError::AnotherName { path, host, names });
        }
        Ok(Some(Arc::new(Self::of(&chain, stamp, keys)?)))
    }

    fn read(path: &Path, stamp: Option<FileStamp>, keys: &dyn KeySource) -> Result<Self, CertificateError> {
        Self::of(&Chain::load(path)?, stamp, keys)
    }

    fn of(chain: &Chain, stamp: Option<FileStamp>, keys: &dyn KeySource) -> Result<Self, CertificateError> {
        let key = keys.signing_key(chain.spki())?;
        let certified_key = CertifiedKey::new(chain.certificates().to_vec(), Arc::new(WatchedKey(key)));
        if matches!(certified_key.keys_match(), Err(rustls::Error::InconsistentKeys(reason))
            if reason == rustls::InconsistentKeys::KeyMismatch)
        {
            return Err(KeyError::Mismatch.into());
        }
        Ok(Self { certified_key: Arc::new(certified_key), not_after: chain.not_after(), stamp })
    }

    fn is_of(&self, stamp: Option<FileStamp>) -> bool {
        stamp.is_some() && self.stamp == stamp
    }
}
