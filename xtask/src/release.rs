//! `cargo xtask release`: the programs as they are shipped.
//!
//! hsm-proxy is built twice: once so that it counts where it goes, which it does under a load of everything that a client asks for,
//! and then optimized by these counts. Its engines are not: their time is aws-lc's, which is C and assembly.

use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::bench;
use crate::cargo::{Workspace, llvm_tool};
use crate::error::Error;
use crate::process::run;

/// Builds the programs as they are shipped: hsm-proxy, hsm-engine, hsm and hsm-loadtest.
#[derive(Args)]
pub(crate) struct Release {
    /// Where they are put [default: target/shipped]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What is shipped.
const PACKAGES: [&str; 4] = ["hsm-proxy", "hsm-engine", "hsm-cli", "hsm-loadtest"];

/// What is optimized by the profile of hsm-proxy: itself, and its code with another `main`.
const BY_PROFILE: [&str; 2] = ["hsm-proxy", "hsm-bench-inprocess"];

/// What a load takes besides hsm-proxy.
const FOR_LOAD: [&str; 3] = ["hsm-engine", "hsm-cli", "hsm-loadtest"];

impl Release {
    pub(crate) fn run(&self) -> Result<(), Error> {
        let workspace = Workspace::find()?;
        let out = self.out.clone().unwrap_or_else(|| workspace.shipped());
        build(&workspace, &PACKAGES, &out)?;
        println!("built: {}", out.display());
        Ok(())
    }
}

/// Builds these packages as they are shipped, and puts their programs into `out`.
pub(crate) fn build(workspace: &Workspace, packages: &[&'static str], out: &Path) -> Result<(), Error> {
    let (by_profile, mut plain): (Vec<_>, Vec<_>) =
        packages.iter().partition(|package| BY_PROFILE.contains(package));
    // What it needs is looked for before minutes of builds, not behind them.
    let profiled = if by_profile.is_empty() { None } else { Some(Profiled::new(workspace)?) };
    if profiled.is_some() {
        plain.extend(FOR_LOAD.iter().filter(|package| !packages.contains(package)));
    }
    workspace.build_release(&plain)?;
    put(&workspace.release(), &plain, out)?;
    profiled.map_or(Ok(()), |profiled| put(&profiled.build(&by_profile)?, &by_profile, out))
}

/// Builds by a profile.
struct Profiled<'a> {
    workspace: &'a Workspace,
    directory: PathBuf,
    /// llvm-profdata, which makes a profile of what was counted.
    merge: PathBuf,
}

impl<'a> Profiled<'a> {
    /// Fails if this machine lacks something for it.
    fn new(workspace: &'a Workspace) -> Result<Self, Error> {
        bench::can_exercise()?;
        Ok(Self { workspace, directory: workspace.profiled(), merge: llvm_tool("llvm-profdata")? })
    }

    /// Gives where the programs are.
    fn build(&self, packages: &[&'static str]) -> Result<PathBuf, Error> {
        let profile = self.profile()?;
        self.workspace.build_release_with(packages, &flag("-Cprofile-use=", &profile), &self.optimized())
    }

    fn optimized(&self) -> PathBuf {
        self.directory.join("optimized")
    }

    /// That of hsm-proxy as it is now. It is made once for each build that counts, and each of this program, which says what the load is.
    fn profile(&self) -> Result<PathBuf, Error> {
        let counts = self.directory.join("counts");
        let counting = self.workspace.build_release_with(
            &["hsm-proxy"],
            &flag("-Cprofile-generate=", &counts),
            &self.directory.join("counting"),
        )?;
        let program = counting.join("hsm-proxy");
        let builds = digest(&[&program, Path::new("/proc/self/exe")])?;
        let profile = self.directory.join(format!("{builds:016x}.profdata"));
        if profile.is_file() {
            return Ok(profile);
        }
        let training = self.directory.join("training");
        put(&self.workspace.release(), &FOR_LOAD, &training)?;
        put(&counting, &["hsm-proxy"], &training)?;
        empty(&counts)?;
        println!("hsm-proxy runs under load, for its profile");
        bench::exercise(&training)?;

        let mut raw = Vec::new();
        for entry in fs::read_dir(&counts).map_err(Error::file(&counts))? {
            raw.push(entry?.path());
        }
        if raw.is_empty() {
            return Err(Error::NoProfile(counts));
        }
        // What was built by an older one is of no use, and large.
        empty(&self.optimized())?;
        for entry in fs::read_dir(&self.directory).map_err(Error::file(&self.directory))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "profdata") {
                fs::remove_file(&path).map_err(Error::file(&path))?;
            }
        }
        // By another name first, so that what has the name is whole.
        let unfinished = profile.with_extension("unfinished");
        let mut command = Command::new(&self.merge);
        command.args(["merge", "-o"]).arg(&unfinished).args(raw);
        run(command, "llvm-profdata merge")?;
        fs::rename(&unfinished, &profile).map_err(Error::file(&profile))?;
        Ok(profile)
    }
}

fn flag(option: &str, path: &Path) -> OsString {
    let mut flag = OsString::from(option);
    flag.push(path);
    flag
}

/// Tells builds apart.
fn digest(programs: &[&Path]) -> Result<u64, Error> {
    let mut hasher = DefaultHasher::new();
    for program in programs {
        fs::read(program).map_err(Error::file(*program))?.hash(&mut hasher);
    }
    Ok(hasher.finish())
}

/// Makes the directory if it is not there, and removes what is in it.
fn empty(directory: &Path) -> Result<(), Error> {
    if directory.exists() {
        fs::remove_dir_all(directory).map_err(Error::file(directory))?;
    }
    fs::create_dir_all(directory).map_err(Error::file(directory))
}

/// Copies the programs of these packages from one directory to another.
fn put(from: &Path, packages: &[&'static str], to: &Path) -> Result<(), Error> {
    fs::create_dir_all(to).map_err(Error::file(to))?;
    for package in packages {
        let program = if *package == "hsm-cli" { "hsm" } else { package };
        let (source, copy) = (from.join(program), to.join(program));
        // By another name first: what has the name is whole, and one that runs goes on with what it is.
        let unfinished = to.join(format!("{program}.unfinished"));
        fs::copy(&source, &unfinished).map_err(Error::file(&source))?;
        fs::rename(&unfinished, &copy).map_err(Error::file(&copy))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_put_anew_under_their_names() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to/there"));
        fs::create_dir(&from).unwrap();
        for text in ["one", "another"] {
            fs::write(from.join("hsm"), text).unwrap();
            put(&from, &["hsm-cli"], &to).unwrap();
            assert_eq!(fs::read_to_string(to.join("hsm")).unwrap(), text);
        }
        assert!(
            matches!(put(&from, &["hsm-proxy"], &to), Err(Error::File { path, .. }) if path.ends_with("hsm-proxy"))
        );
    }

    #[test]
    fn another_build_has_another_digest() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("program");
        let of = |text: &str| {
            fs::write(&program, text).unwrap();
            digest(&[&program, &program]).unwrap()
        };
        assert_eq!(of("one"), of("one"));
        assert_ne!(of("one"), of("another"));
    }
}
