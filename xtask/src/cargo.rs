//! Cargo, and where it puts things.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;
use crate::process::{find, output_of, run};

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

    /// Where programs are put as they are shipped.
    pub(crate) fn shipped(&self) -> PathBuf {
        self.target.join("shipped")
    }

    /// Where builds by a profile are, and their profile.
    pub(crate) fn profiled(&self) -> PathBuf {
        self.target.join("profiled")
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
        build(self.cargo(&["build"]), packages)
    }

    /// Builds these packages for release.
    pub(crate) fn build_release(&self, packages: &[&str]) -> Result<(), Error> {
        build(self.cargo(&["build", "--release", "--locked"]), packages)
    }

    /// Builds these packages for release with one more flag for the compiler, in a directory of their own; gives where the programs are.
    /// Build scripts and macros don't get the flag.
    pub(crate) fn build_release_with(
        &self,
        packages: &[&str],
        flag: &OsStr,
        directory: &Path,
    ) -> Result<PathBuf, Error> {
        let host = host()?;
        let mut flags = given_flags();
        if !flags.is_empty() {
            flags.push("\x1f");
        }
        flags.push(flag);
        let mut command = self.cargo(&["build", "--release", "--locked", "--target", &host]);
        command.arg("--target-dir").arg(directory).env("CARGO_ENCODED_RUSTFLAGS", flags);
        build(command, packages)?;
        Ok(directory.join(host).join("release"))
    }
}

/// The flags for the compiler that the environment has, as cargo reads them: one after the other, with 0x1f between.
fn given_flags() -> OsString {
    if let Some(encoded) = std::env::var_os("CARGO_ENCODED_RUSTFLAGS") {
        return encoded;
    }
    let plain = std::env::var("RUSTFLAGS").unwrap_or_default();
    plain.split_ascii_whitespace().collect::<Vec<_>>().join("\x1f").into()
}

/// Ends a command of cargo's with its packages, and runs it.
fn build(mut command: Command, packages: &[&str]) -> Result<(), Error> {
    for package in packages {
        command.args(["--package", package]);
    }
    run(command, "the build")
}

/// A program of LLVM's that comes with the compiler, as rustup's component llvm-tools.
pub(crate) fn llvm_tool(name: &'static str) -> Result<PathBuf, Error> {
    let mut command = Command::new("rustc");
    command.args(["--print", "sysroot"]);
    let sysroot = PathBuf::from(output_of(command)?.trim());
    let tool = sysroot.join("lib/rustlib").join(host()?).join("bin").join(name);
    if !tool.is_file() && find("rustup").is_some() {
        let mut command = Command::new("rustup");
        command.args(["component", "add", "llvm-tools"]);
        run(command, "rustup component add llvm-tools")?;
    }
    if tool.is_file() { Ok(tool) } else { Err(Error::MissingLlvmTool(tool)) }
}

/// The target that the compiler is for.
fn host() -> Result<String, Error> {
    let mut command = Command::new("rustc");
    command.arg("-vV");
    let text = output_of(command)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or(Error::Metadata("host"))
}

/// The cargo that runs us, so that the toolchain stays the same.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
}
