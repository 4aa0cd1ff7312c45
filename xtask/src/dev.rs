//! `cargo xtask dev`

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use clap::Args;

use crate::cargo::Workspace;
use crate::error::Error;

/// The options of `hsm-proxy dev`; their defaults are there.
#[derive(Args)]
pub(crate) struct Dev {
    /// Forward requests to this server, like http://127.0.0.1:3000, instead of serving a built-in page.
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// Address and port to serve on.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where the cluster, its keys and certificates are kept.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// How many engines.
    #[arg(long, value_name = "N")]
    replicas: Option<u16>,
}

/// What runs, and what one wants at hand while it does.
const PACKAGES: [&str; 4] = ["hsm-proxy", "hsm-engine", "hsm-cli", "hsm-loadtest"];

impl Dev {
    /// Returns only if it fails: on success this process has become the proxy, so that signals reach it.
    pub(crate) fn run(&self) -> Result<(), Error> {
        let workspace = Workspace::find()?;
        workspace.build_release(&PACKAGES)?;
        let program = workspace.release().join("hsm-proxy");
        let mut command = Command::new(&program);
        command.arg("dev");
        if let Some(to) = &self.to {
            command.arg("--to").arg(to);
        }
        if let Some(listen) = &self.listen {
            command.arg("--listen").arg(listen);
        }
        if let Some(directory) = &self.state_dir {
            command.arg("--state-dir").arg(directory);
        }
        if let Some(replicas) = self.replicas {
            command.arg("--replicas").arg(replicas.to_string());
        }
        Err(Error::Start { program: program.display().to_string(), source: command.exec() })
    }
}
