//! Where engines of a benchmark keep their configuration and their state.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Pid;

use crate::error::Error;
use crate::process::Server;

const STARTING: Duration = Duration::from_secs(60);

/// Taken for a key, as those of engines in service are: a passphrase would be stretched at each start, which is not what is measured.
const UNSEAL_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// A directory with what a supervisor is started with.
#[derive(Clone)]
pub(crate) struct EngineDirectory(PathBuf);

impl EngineDirectory {
    /// One that was prepared before, or will be.
    pub(crate) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Writes what engines need to start: their configuration, with these lines more, and the secret that unseals them.
    pub(crate) fn prepare(&self, settings: &str) -> Result<(), Error> {
        let text = format!(
            "state-dir = {:?}\nsocket-dir = {:?}\nunseal-file = {:?}\n{settings}\n",
            self.path("state"),
            self.path("run"),
            self.path("unseal"),
        );
        fs::write(self.configuration(), text).map_err(Error::file(self.configuration()))?;
        self.write_secret("unseal", UNSEAL_KEY)
    }

    /// Writes a file that its owner alone may read.
    pub(crate) fn write_secret(&self, name: &str, secret: &str) -> Result<(), Error> {
        let path = self.path(name);
        fs::write(&path, secret).map_err(Error::file(&path))?;
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).map_err(Error::file(&path))
    }

    /// Makes directories that their owner alone may enter.
    pub(crate) fn make_directories(&self, names: &[&str]) -> Result<(), Error> {
        for path in names.iter().map(|name| self.path(name)) {
            fs::create_dir(&path).map_err(Error::file(&path))?;
            fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).map_err(Error::file(&path))?;
        }
        Ok(())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn configuration(&self) -> PathBuf {
        self.path("engine.toml")
    }

    pub(crate) fn socket(&self, replica: u16) -> PathBuf {
        self.path(&format!("run/engine-{replica}.sock"))
    }

    /// Process id of a replica.
    pub(crate) fn replica(&self, index: u16) -> Result<Pid, Error> {
        let path = self.path(&format!("run/engine-{index}.pid"));
        let text = fs::read_to_string(&path).map_err(Error::file(&path))?;
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        pid.ok_or_else(|| Error::LoadReport(format!("{} holds no process id", path.display())))
    }

    /// Waits until the first `replicas` accept.
    pub(crate) fn await_ready(&self, engines: &mut Server, replicas: u16) -> Result<(), Error> {
        (0..replicas).try_for_each(|index| {
            let socket = self.socket(index);
            let accepts = || UnixStream::connect(&socket).is_ok();
            engines.await_ready("hsm-engine", &socket.display(), STARTING, accepts)
        })
    }
}
