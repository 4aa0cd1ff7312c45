//! Cargo, and where it puts things.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;
use crate::process::{output_of, run};

/// The workspace as cargo sees it; `CARGO_TARGET_DIR` and configuration files are respected.
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    pub(crate) fn find() -> Result<Self, Error> {
        let mut command = cargo();
        command.args(["metadata", "--format-version=1", "--no-deps"]);
        let metadata: serde_json::Value =
            serde_json::from_str(&output_of(command)?).map_err(|_| Error::Metadata("JSON"))?;
        let path =
            |name: &'static str| metadata[name].as_str().map(PathBuf::from).ok_or(Error::Metadata(name));
        Ok(Self { root: path("workspace_root")?, target: path("target_directory")? })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where binaries of the dev profile are.
    pub(crate) fn debug(&self) -> PathBuf {
        self.target.join("debug")
    }

    /// Where binaries of the release profile are.
    pub(crate) fn release(&self) -> PathBuf {
        self.target.join("release")
    }

    /// `cargo …` at the workspace's root; its output goes where ours goes.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = cargo();
        command.current_dir(&self.root).args(arguments);
        command
    }

    /// Where scanners are installed, and their reports are.
    pub(crate) fn scan(&self) -> PathBuf {
        self.target.join("scan")
    }

    /// Builds these packages with the dev profile.
    pub(crate) fn build(&self, packages: &[&str]) -> Result<(), Error> {
        let mut command = self.cargo(&["build"]);
        for package in packages {
            command.args(["--package", package]);
        }
        run(command, "the build")
    }

    /// Builds these packages for release.
    pub(crate) fn build_release(&self, packages: &[&str]) -> Result<(), Error> {
        let mut command = self.cargo(&["build", "--release"]);
        for package in packages {
            command.args(["--package", package]);
        }
        run(command, "the build")
    }
}

/// The cargo that runs us, so that the toolchain stays the same.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
}
