//! What `hsm-proxy dev` says to the person who started it.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use super::DevOptions;
use super::engines::{Engines, find_program};
use super::provision::{Provisioned, WEB_USER};
use super::state::StateDir;

/// Everything that the greeting mentions.
pub(super) struct Greeting<'a> {
    pub(super) address: SocketAddr,
    pub(super) admin: Option<SocketAddr>,
    pub(super) options: &'a DevOptions,
    pub(super) state: &'a StateDir,
    pub(super) engines: &'a Engines,
    pub(super) certificate: &'a Provisioned,
}

impl Greeting<'_> {
    /// Prints it. Nobody reading is no reason not to serve.
    pub(super) fn print(&self) {
        use std::io::Write;
        let mut out = std::io::stdout().lock();
        let _closed = out.write_all(self.text().as_bytes()).and_then(|()| out.flush());
    }

    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String can't fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let port = self.address.port();
        let root = display(self.state.root());
        let made = if self.certificate.is_new { "Made a new cluster" } else { "Using the cluster" };
        writeln!(text, "{made} in {root}: the keys are in the engines and nowhere else.\n")?;
        match &self.options.to {
            Some(to) => writeln!(text, "  https://localhost:{port}/   →  {to}\n")?,
            None => writeln!(
                text,
                "  https://localhost:{port}/   →  a page that shows who signed your handshake\n"
            )?,
        }
        writeln!(
            text,
            "  try it      curl --cacert {} https://localhost:{port}/",
            display(&self.state.ca())
        )?;
        if let Some(admin) = self.admin {
            writeln!(text, "  status      http://{admin}/   (engines, handshakes, failovers)")?;
        }
        for (number, socket) in self.engines.sockets().iter().enumerate() {
            let pid = std::fs::read_to_string(socket.with_extension("pid")).unwrap_or_default();
            let pid = pid.trim();
            writeln!(
                text,
                "  engine {number}    pid {pid:<8} kill -9 {pid}   (it comes back; no handshake is lost)"
            )?;
        }
        writeln!(
            text,
            "  under load  {} drill --state-dir {root} --connect {} --kill 0 --at 3s",
            program("hsm-loadtest"),
            self.address
        )?;
        if let Some(socket) = self.engines.sockets().first() {
            writeln!(
                text,
                "  the keys    {} --engine {} --user {WEB_USER} --password-file {} key list",
                program("hsm"),
                display(socket),
                display(&self.state.password_file(WEB_USER))
            )?;
        }
        writeln!(text)?;
        writeln!(text, "  CA          {}", display(&self.state.ca()))?;
        writeln!(
            text,
            "  certificate {}   key {} (p256, inside)",
            display(&self.state.certificate()),
            self.certificate.key.id
        )?;
        writeln!(text, "  passwords   {}", display(&self.state.root().join("secrets")))?;
        writeln!(text, "  engine log  {}", display(&self.state.root().join("engine.log")))?;
        writeln!(text, "  audit logs  {}", display(&self.state.engine().join("audit")))?;
        writeln!(
            text,
            "\nBrowsers don't know this CA and will warn; nothing was added to the system's trust store."
        )?;
        writeln!(text, "ready on {}; Ctrl-C stops everything", self.address)
    }
}

/// What to type to start a program of this product: its name where that is enough, else its path.
fn program(name: &str) -> String {
    let on_path = |found: &Path| {
        let directories = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&directories).find_map(|directory| {
            let candidate = directory.join(name);
            candidate.is_file().then_some(candidate)
        }) == Some(found.to_owned())
    };
    match find_program(name) {
        Ok(found) if !on_path(&found) => display(&found),
        _ => name.to_owned(),
    }
}

/// A path as a person would type it: relative to the working directory if it is below.
fn display(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    match path.strip_prefix(&here) {
        Ok(relative) if !relative.as_os_str().is_empty() => relative.display().to_string(),
        _ => path.display().to_string(),
    }
}
