//! The same proxy with its key in its own memory: what an engine can cost at most.

use std::process::Command;

use super::{Kind, Peer, Program, Setting, free_address, home, ours, write};
use crate::bench::cores::version_of;
use crate::bench::scenario::Site;
use crate::error::Error;

pub(super) fn start(setting: &Setting<'_>) -> Result<Peer, Error> {
    let home = home(setting, "in-process")?;
    let (address, config) = (free_address()?, home.join("hsm-proxy.toml"));
    let mut text = format!(
        "[proxy]\nlisten = [\"{address}\"]\nadmin-listen = \"{admin}\"\n[tls]\nticket-keys = \"process\"\n[log]\naccess = {log:?}\nformat = \"combined\"\n",
        admin = free_address()?,
        log = home.join("access.log"),
    );
    text.push_str(&ours::sites(setting, &[Site::P256]));
    write(&config, &text)?;
    let program = setting.programs.join("hsm-bench-inprocess");
    let version = version_of(&program, "--version");
    let mut command = Command::new(program);
    command.arg("--config").arg(&config).arg("--key").arg(&setting.certificates.p256.key);
    let proxy = Program::start("hsm-bench-inprocess", command, setting, &home.join("log"))?;
    let ca = setting.certificates.ca.clone();
    Peer { kind: Kind::InProcess, version, programs: vec![proxy], address, ca }.ready()
}
