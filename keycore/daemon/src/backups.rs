//! The directory of backups.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use keycore_engine::{BackupFile, BackupPlace, BackupPlan};
use rustix::fs::RenameFlags;

use crate::config::Config;

/// The plan that the configuration has for replica `index`, if it has one.
pub(crate) fn plan(config: &Config, index: u16) -> Option<BackupPlan> {
    let backup = &config.backup;
    let directory = backup.directory.clone()?;
    Some(BackupPlan {
        place: Box::new(Directory { directory, replica: index }),
        recipients: backup.recipients.clone(),
        every: backup.every,
        keep: backup.keep.get(),
    })
}

/// A directory that the replicas share.
struct Directory {
    directory: PathBuf,
    replica: u16,
}

/// A backup under a name that is none of a backup, one for each replica: what a killed engine leaves, its successor
/// removes.
struct Unfinished {
    file: File,
    path: PathBuf,
    published: bool,
}

impl BackupPlace for Directory {
    fn create(&self) -> io::Result<Box<dyn BackupFile>> {
        let path = self.directory.join(format!(".unfinished-{}", self.replica));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Box::new(Unfinished { file, path, published: false }))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(&self.directory)?;
        entries
            .filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose())
            .collect()
    }

    fn open(&self, name: &str) -> io::Result<(Box<dyn Read>, u64)> {
        let file = File::open(self.directory.join(plain(name)?))?;
        let size = file.metadata()?.len();
        Ok((Box::new(file), size))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.directory.join(plain(name)?))?;
        sync_directory(&self.directory)
    }
}

impl BackupFile for Unfinished {
    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn publish(mut self: Box<Self>, name: &str) -> io::Result<()> {
        let target = self.path.with_file_name(plain(name)?);
        // Never over one that is there.
        rustix::fs::renameat_with(
            rustix::fs::CWD,
            &self.path,
            rustix::fs::CWD,
            &target,
            RenameFlags::NOREPLACE,
        )?;
        self.published = true;
        target.parent().map_or(Ok(()), sync_directory)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.published {
            // Its successor would remove it.
            let _stays = fs::remove_file(&self.path);
        }
    }
}

impl Read for Unfinished {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.file.read(bytes)
    }
}

impl Write for Unfinished {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Unfinished {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// A name that leads out of no directory.
fn plain(name: &str) -> io::Result<&str> {
    if name.contains('/') { Err(io::ErrorKind::InvalidFilename.into()) } else { Ok(name) }
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_backup_has_its_name_when_it_is_whole_or_never() {
        let root = tempfile::tempdir().unwrap();
        let place = Directory { directory: root.path().to_owned(), replica: 3 };
        let mut file = place.create().unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert_eq!(place.names().unwrap(), [""; 0]);
        // As a killed engine leaves it.
        fs::write(root.path().join(".unfinished-3"), b"much longer than what comes").unwrap();
        let mut file = place.create().unwrap();
        file.write_all(b"whole").unwrap();
        file.sync().unwrap();
        file.publish("hsm-1.age").unwrap();
        assert_eq!(place.names().unwrap(), ["hsm-1.age"]);
        let path = root.path().join("hsm-1.age");
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let again = place.create().unwrap().publish("hsm-1.age").unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert!(place.create().unwrap().publish("../hsm-2.age").is_err());
        assert_eq!(place.names().unwrap(), ["hsm-1.age"]);
        place.remove("hsm-1.age").unwrap();
        assert!(place.remove("../../etc/passwd").is_err());
    }
}
