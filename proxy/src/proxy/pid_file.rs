use std::path::PathBuf;

use super::StartError;

/// A file with our process id; removed at the end, unless another process has written its own by then.
pub(super) struct PidFile(PathBuf);

impl PidFile {
    /// Not written yet.
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn write(&self) -> Result<(), StartError> {
        std::fs::write(&self.0, Self::content())
            .map_err(|source| StartError::PidFile { path: self.0.clone(), source })
    }

    /// Removes it if it is ours.
    pub(super) fn remove(&self) {
        // Somebody else removed it, or its directory: fine.
        if std::fs::read_to_string(&self.0).is_ok_and(|content| content == Self::content()) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn content() -> String {
        format!("{}\n", std::process::id())
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        self.remove();
    }
}
