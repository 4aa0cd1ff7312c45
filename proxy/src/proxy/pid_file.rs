use std::path::PathBuf;

use super::StartError;

/// A file with our process id; removed at the end, unless another process has written its own by then.
pub(super) struct PidFile(PathBuf);

impl PidFile {
    pub(super) fn write(path: PathBuf) -> Result<Self, StartError> {
        match std::fs::write(&path, Self::content()) {
            Ok(()) => Ok(Self(path)),
            Err(source) => Err(StartError::PidFile { path, source }),
        }
    }

    fn content() -> String {
        format!("{}\n", std::process::id())
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Somebody else removed it, or its directory: fine.
        if std::fs::read_to_string(&self.0).is_ok_and(|content| content == Self::content()) {
            let _ = std::fs::remove_file(&self.0);
        }
    }
}
