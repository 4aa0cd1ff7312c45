//! The certificates that are served, each with the key that the engines hold for it, as they were read from their files.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::sign::CertifiedKey;
use time::OffsetDateTime;

use crate::chain::{Chain, ChainError};
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
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
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
    fn read(path: &Path, stamp: Option<FileStamp>, keys: &dyn KeySource) -> Result<Self, CertificateError> {
        let chain = Chain::load(path)?;
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
