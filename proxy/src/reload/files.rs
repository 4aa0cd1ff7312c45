use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::certificate_files::FileStamp;

/// How often files are looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looking takes no more than this part of the time: with a million files the interval grows.
const SHARE: u32 = 20;

/// Files whose changes matter. They are looked at again and again: that sees what a notification by the kernel misses, such
/// as another target of a symbolic link on the way to the file, and file systems of other machines.
pub(super) struct Files {
    /// When the configuration in service was read.
    loaded: Vec<Option<FileStamp>>,
    /// At the look before.
    last: Vec<Option<FileStamp>>,
    paths: Vec<PathBuf>,
    pub(super) interval: Duration,
}

impl Files {
    /// These files, in the state in which they are now: to be called before they are read.
    pub(super) fn new(paths: Vec<PathBuf>) -> Self {
        let now = stamps(&paths);
        Self { loaded: now.clone(), last: now, paths, interval: INTERVAL }
    }

    /// Takes the state at the last look for the one that was read: it is about to be.
    pub(super) fn read_again(&mut self) {
        self.last = stamps(&self.paths);
        self.loaded.clone_from(&self.last);
    }

    /// Whether one of them has changed and now rests: whoever writes several files, or one in several steps, is let finish.
    pub(super) fn look(&mut self) -> bool {
        let start = Instant::now();
        let now = stamps(&self.paths);
        self.interval = INTERVAL.max(start.elapsed() * SHARE);
        let rests = now == self.last;
        self.last = now;
        rests && self.last != self.loaded
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Option<FileStamp>> {
    paths.iter().map(PathBuf::as_path).map(FileStamp::of as fn(&Path) -> _).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_once_it_rests_however_it_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let [file, link, other] = ["file", "link", "other"].map(|name| directory.path().join(name));
        std::fs::write(&file, "one").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let mut files = Files::new(vec![link.clone()]);
        assert!(!files.look());

        std::fs::write(&file, "two, longer").unwrap();
        assert!(!files.look(), "somebody may be writing still");
        std::fs::write(&file, "two, longer still").unwrap();
        assert!(!files.look(), "somebody may be writing still");
        assert!(files.look());

        let mut files = Files::new(vec![link.clone()]);
        std::fs::write(&other, "two, longer still").unwrap();
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&other, &link).unwrap();
        assert!(!files.look());
        assert!(files.look(), "the link leads elsewhere");

        let mut files = Files::new(vec![link.clone()]);
        std::fs::rename(&file, &other).unwrap();
        assert!(!files.look());
        assert!(files.look(), "another file came under the name");
    }
}
