//! `hsm-proxy run` gets another certificate and another configuration while it serves.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hsm_e2e::{Program, Stack, Upstream, binary, run, tool, wait};
use rustix::process::Signal;

/// `hsm-proxy run` beside the `dev` that made its cluster, and what it tells its service manager.
struct Proxy {
    program: Program,
    file: PathBuf,
    certificate: PathBuf,
    listen: u16,
    notified: UnixDatagram,
}

impl Proxy {
    fn start(stack: &Stack, directory: &Path, to: &str) -> Self {
        let listen = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let certificate = directory.join("localhost.pem");
        std::fs::copy(stack.state_dir().join("localhost.pem"), &certificate).unwrap();
        let file = directory.join("proxy.toml");
        std::fs::write(&file, configuration(stack, &certificate, listen, to)).unwrap();
        let notified = UnixDatagram::bind(directory.join("notify")).unwrap();
        notified.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut command = Command::new(binary("hsm-proxy"));
        command.arg("run").arg("--config").arg(&file).env("NOTIFY_SOCKET", directory.join("notify"));
        let proxy = Self { program: Program::start(&mut command), file, certificate, listen, notified };
        assert_eq!(proxy.told(), "READY=1");
        proxy
    }

    fn told(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.notified.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// What it says after a reload, having said that one began.
    fn reloaded(&self) -> String {
        let began = self.told();
        let microseconds = began.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        assert!(microseconds.is_some_and(|number| number.parse::<u64>().is_ok()), "{began}");
        self.told()
    }

    fn get(&self, stack: &Stack, curl: &Path) -> String {
        let url = format!("https://localhost:{}/hello", self.listen);
        run(stack.curl(curl).arg(url)).success()
    }
}

fn configuration(stack: &Stack, certificate: &Path, listen: u16, to: &str) -> String {
    format!(
        "[proxy]\nlisten = [\"127.0.0.1:{listen}\"]\n[hsm]\nengines = [\"{run}/engine-0.sock\", \"{run}/engine-1.sock\"]\n\
         user = \"web\"\npassword-file = \"{state}/secrets/web-password\"\n\
         [[site]]\nhost = \"localhost\"\ncert = \"{cert}\"\nto = \"{to}\"\n",
        run = stack.state_dir().join("run").display(),
        state = stack.state_dir().display(),
        cert = certificate.display(),
    )
}

/// Puts `content` under the name in one step.
fn replace(path: &Path, content: impl AsRef<[u8]>) {
    let new = path.with_extension("new");
    std::fs::write(&new, content).unwrap();
    std::fs::rename(&new, path).unwrap();
}

#[test]
fn a_change_is_served_by_signal_and_by_itself_and_a_mistake_changes_nothing() {
    let Some(curl) = tool::find("curl") else { return };
    let (stack, directory) = (Stack::start(), tempfile::tempdir().unwrap());
    let (one, other) = (Upstream::start(), Upstream::start());
    let proxy = Proxy::start(&stack, directory.path(), &one.url());
    assert!(!proxy.get(&stack, &curl).is_empty());
    let seen = one.requests();

    // By SIGHUP: another upstream.
    replace(&proxy.file, configuration(&stack, &proxy.certificate, proxy.listen, &other.url()));
    proxy.program.signal(Signal::HUP);
    assert_eq!(proxy.reloaded(), "READY=1\nSTATUS=reloaded");
    proxy.get(&stack, &curl);
    assert_eq!((one.requests(), other.requests()), (seen, 1));

    // By itself: the certificate is renewed. A restart would lose tickets; the proxy is the same process.
    let intermediate = std::fs::read_to_string(&proxy.certificate).unwrap();
    replace(&proxy.certificate, format!("{intermediate}\n"));
    assert_eq!(proxy.reloaded(), "READY=1\nSTATUS=reloaded");

    // A mistake in the file, and in the certificate of a site that is new.
    replace(&proxy.file, "[proxy]\nlisten = 5\n");
    let said = proxy.reloaded();
    assert!(said.contains("the last reload failed") && said.contains("proxy.toml:2:"), "{said}");
    let missing = directory.path().join("missing.pem");
    replace(&proxy.file, configuration(&stack, &missing, proxy.listen, &one.url()));
    let said = proxy.reloaded();
    assert!(said.contains("the last reload failed") && said.contains("missing.pem"), "{said}");
    proxy.get(&stack, &curl);
    assert_eq!(other.requests(), 2);

    // The certificate comes: that is enough.
    replace(&missing, intermediate);
    assert_eq!(proxy.reloaded(), "READY=1\nSTATUS=reloaded");
    wait::until("the first upstream is asked again", Duration::from_secs(10), || {
        proxy.get(&stack, &curl);
        (one.requests() > seen).then_some(())
    });
}
