//! What is kept in `acme.state-dir`: for each site its certificate, and beside it what is under way. No secrets.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::failure::Failure;
use crate::config::AcmeUrl;

/// Longest pause that is heeded.
const LONGEST_PAUSE: Duration = Duration::from_secs(7 * 24 * 3600);

/// An order that is under way, and failures before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct Progress {
    /// What it is for: progress with something else is none.
    pub(super) of: String,
    /// Where the order is, if one was begun.
    pub(super) order: Option<String>,
    /// Failures in a row.
    pub(super) failures: u32,
    /// Not to be tried before, in Unix time.
    pub(super) not_before: u64,
}

impl Progress {
    pub(super) fn order(&self) -> Option<AcmeUrl> {
        self.order.as_ref()?.parse().ok()
    }

    /// How long to leave the authority alone.
    pub(super) fn pause(&self, now: SystemTime) -> Duration {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        // A clock that was ahead once must not stop renewals for long.
        Duration::from_secs(self.not_before).saturating_sub(now).min(LONGEST_PAUSE)
    }

    /// Sets the pause from now on.
    pub(super) fn rest(&mut self, now: SystemTime, pause: Duration) {
        let until = now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_add(pause);
        self.not_before = until.as_secs();
    }

    /// What holds of two memories of the same: the later time and the longer row of failures.
    pub(super) fn heed(&mut self, other: &Self) {
        self.failures = self.failures.max(other.failures);
        self.not_before = self.not_before.max(other.not_before);
    }
}

/// The files of one site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SiteFiles {
    pub(super) certificate: PathBuf,
}

/// Held while a certificate is ordered: of several proxies with the same directory, one orders.
pub(super) struct Lock {
    _file: File,
}

impl SiteFiles {
    fn progress(&self) -> PathBuf {
        self.certificate.with_extension("json")
    }

    /// What is under way for `of`; nothing if the file can't be read.
    pub(super) fn read(&self, of: &str) -> Progress {
        let fresh = || Progress { of: of.to_owned(), ..Progress::default() };
        let Ok(text) = fs::read(self.progress()) else { return fresh() };
        match serde_json::from_slice::<Progress>(&text) {
            Ok(progress) if progress.of == of => progress,
            _ => fresh(),
        }
    }

    pub(super) fn write(&self, progress: &Progress) -> Result<(), Failure> {
        let text = serde_json::json!(progress).to_string();
        replace(&self.progress(), text.as_bytes(), 0o600, |_| Ok(()))
    }

    /// Puts a certificate in the place of the one before, if `check` likes it.
    pub(super) fn install(
        &self,
        chain: &str,
        check: impl FnOnce(&Path) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        replace(&self.certificate, chain.as_bytes(), 0o644, check)
    }

    /// Takes the lock; `None` if somebody else has it. It is free when its holder has ended, however he ends.
    pub(super) fn lock(&self) -> Result<Option<Lock>, Failure> {
        let path = self.certificate.with_extension("lock");
        let failed = |source| Failure::File { path: path.clone(), source };
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(failed)?;
        }
        let mut options = OpenOptions::new();
        let file =
            options.create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(failed(error.into())),
        }
    }
}

/// Writes a file beside it, has it checked, and moves it there: readers see the old content or the new.
fn replace(
    path: &Path,
    content: &[u8],
    mode: u32,
    check: impl FnOnce(&Path) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let new = path.with_extension("new");
    let failed = |source: io::Error| Failure::File { path: new.clone(), source };
    let written = || {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(mode).open(&new)?;
        // Whatever the umask is, and whoever left the file.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(content)?;
        file.sync_all()
    };
    written().map_err(failed)?;
    check(&new).inspect_err(|_| drop(fs::remove_file(&new)))?;
    fs::rename(&new, path).map_err(failed)?;
    if let Some(directory) = path.parent() {
        // The rename is on disk then, too; if not, the old file is as good as before.
        let _ = File::open(directory).and_then(|directory| directory.sync_all());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_whole_and_locked_by_one() {
        let directory = tempfile::tempdir().unwrap();
        let files = SiteFiles { certificate: directory.path().join("sub/a.example.pem") };
        let lock = files.lock().unwrap().unwrap();
        assert!(files.lock().unwrap().is_none());
        drop(lock);
        assert!(files.lock().unwrap().is_some());

        files.install("one", |_| Ok(())).unwrap();
        let refused = files.install("two", |_| Err(Failure::OtherKey));
        assert!(refused.is_err());
        assert_eq!(fs::read_to_string(&files.certificate).unwrap(), "one");
        assert_eq!(fs::metadata(&files.certificate).unwrap().permissions().mode() & 0o777, 0o644);
        assert!(!files.certificate.with_extension("new").exists());
    }

    #[test]
    fn progress_is_kept_for_what_it_is_of() {
        let directory = tempfile::tempdir().unwrap();
        let files = SiteFiles { certificate: directory.path().join("a.example.pem") };
        let order = Some("https://ca.example/1".to_owned());
        let progress = Progress { of: "a".to_owned(), order, failures: 3, not_before: 100 };
        files.write(&progress).unwrap();
        assert_eq!(files.read("a"), progress);
        assert_eq!(files.read("b"), Progress { of: "b".to_owned(), ..Progress::default() });
        assert_eq!(progress.pause(UNIX_EPOCH + Duration::from_secs(40)), Duration::from_secs(60));
        assert_eq!(progress.pause(SystemTime::now()), Duration::ZERO);
        let mut fresh = Progress { of: "a".to_owned(), ..Progress::default() };
        fresh.heed(&progress);
        assert_eq!((fresh.failures, fresh.not_before, &fresh.order), (3, 100, &None));
        let far = Progress { not_before: u64::MAX, ..Progress::default() };
        assert_eq!(far.pause(SystemTime::now()), LONGEST_PAUSE);
        fs::write(files.progress(), "{").unwrap();
        assert_eq!(files.read("a").failures, 0);
    }
}
