//! Debian's Chromium, without a window.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program::{Finished, run};
use crate::tool;

/// A browser with a directory for its things.
#[derive(Debug)]
pub struct Browser {
    program: PathBuf,
    directory: tempfile::TempDir,
}

impl Browser {
    /// None as with [`tool::find`].
    ///
    /// # Panics
    ///
    /// If it is missing and required, or there is no directory for it.
    pub fn find() -> Option<Self> {
        let program = tool::find("chromium")?;
        Some(Self { program, directory: tempfile::tempdir().expect("a temporary directory") })
    }

    /// Looks at a page for some seconds of its own time, which pass as fast as the page lets them, in a window of `size`:
    /// `WIDTH,HEIGHT` in pixels.
    pub fn look(&self, size: &str, url: &str, arguments: &[&str]) -> Finished {
        let mut command = Command::new("timeout");
        command.arg("120").arg(&self.program).args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--no-proxy-server",
            "--virtual-time-budget=4000",
        ]);
        command.arg(format!("--user-data-dir={}", self.directory.path().display()));
        command.arg(format!("--window-size={size}")).args(arguments).arg(url);
        run(command.env("HOME", self.directory.path()))
    }

    /// What the page has become.
    ///
    /// # Panics
    ///
    /// If the browser fails.
    pub fn document(&self, size: &str, url: &str) -> String {
        self.look(size, url, &["--dump-dom"]).success()
    }

    /// A picture in PNG. Where `HSM_E2E_SCREENSHOTS` names a directory, it is left there, too, as `name`.
    ///
    /// # Panics
    ///
    /// If the browser fails.
    pub fn screenshot(&self, name: &str, size: &str, url: &str, arguments: &[&str]) -> Vec<u8> {
        let file = self.directory.path().join(name);
        let to = format!("--screenshot={}", file.display());
        self.look(size, url, &[&[&*to], arguments].concat()).success();
        if let Some(directory) = std::env::var_os("HSM_E2E_SCREENSHOTS") {
            std::fs::copy(&file, Path::new(&directory).join(name)).expect("it is copied");
        }
        std::fs::read(file).expect("a picture")
    }
}
