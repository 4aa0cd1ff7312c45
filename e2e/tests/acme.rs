//! `hsm-proxy run` has its certificates from an authority: Debian's `pebble`, which refuses good nonces on purpose.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hsm_e2e::{
    Authority, AuthorityOptions, AuthorityTools, Program, Stack, Upstream, address, binary, run, tool, wait,
};
use rustix::process::Signal;

/// Longest wait for a certificate: seconds, on a machine that does nothing else.
const PATIENCE: Duration = Duration::from_secs(120);

const HOST: &str = "by-itself.example";

struct Front {
    directory: PathBuf,
    tls: SocketAddr,
    plain: SocketAddr,
    admin: SocketAddr,
    curl: PathBuf,
    program: Option<Program>,
}

impl Front {
    fn new(directory: &Path) -> Option<Self> {
        let [tls, plain, admin] = address::free();
        let curl = tool::find("curl")?;
        Some(Self { directory: directory.to_owned(), tls, plain, admin, curl, program: None })
    }

    fn options(&self) -> AuthorityOptions {
        let (http_port, tls_port) = (self.plain.port(), self.tls.port());
        AuthorityOptions { http_port, tls_port, lifetime: 3600, bad_nonces: 30, slowness: 0 }
    }

    /// In front of one site from a file, localhost, and one by ACME.
    fn configure(&self, stack: &Stack, to: &str, acme: &str) {
        let state = stack.state_dir().display();
        let text = format!(
            "[proxy]\nlisten = [\"{}\"]\nredirect-listen = [\"{}\"]\nadmin-listen = \"{}\"\n\
             [hsm]\nengines = [\"{state}/run/engine-0.sock\", \"{state}/run/engine-1.sock\"]\n\
             user = \"web\"\npassword-file = \"{state}/secrets/web-password\"\n{acme}\n\
             [[site]]\nhost = \"localhost\"\ncert = \"{state}/localhost.pem\"\nto = \"{to}\"\n\
             [[site]]\nhost = [\"{HOST}\", \"www.{HOST}\"]\ncert = \"acme\"\nto = \"{to}\"\n",
            self.tls, self.plain, self.admin,
        );
        std::fs::write(self.directory.join("proxy.toml"), text).unwrap();
    }

    fn start(&mut self) {
        let mut command = Command::new(binary("hsm-proxy"));
        command.arg("run").arg("--config").arg(self.directory.join("proxy.toml")).env("RUST_LOG", "info");
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        self.program = Some(Program::start(command.stderr(log)));
        address::await_port("the proxy", self.tls);
    }

    fn log_file(&self) -> PathBuf {
        self.directory.join("proxy.log")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap()
    }

    fn certificate(&self) -> Option<String> {
        std::fs::read_to_string(self.directory.join(format!("acme/{HOST}.pem"))).ok()
    }

    fn curl(&self, host: &str, root: &Path) -> Command {
        let port = self.tls.port();
        let mut curl = Command::new(&self.curl);
        curl.args(["--silent", "--show-error", "--max-time", "60", "--noproxy", "*", "--cacert"]).arg(root);
        curl.args(["--resolve", &format!("{host}:{port}:127.0.0.1"), &format!("https://{host}:{port}/")]);
        curl
    }

    /// Waits until both hosts are served with a certificate of this root.
    #[track_caller]
    fn await_served(&self, root: &Path) {
        for host in [HOST.to_owned(), format!("www.{HOST}")] {
            wait::until("the site is served with its certificate", PATIENCE, || {
                let served = run(&mut self.curl(&host, root));
                (served.code == Some(0)).then_some(())
            });
        }
    }

    fn metrics(&self) -> String {
        let mut curl = Command::new(&self.curl);
        curl.args([
            "--silent",
            "--max-time",
            "60",
            "--noproxy",
            "*",
            &format!("http://{}/metrics", self.admin),
        ]);
        run(&mut curl).success()
    }
}

/// The public key of the first certificate, by openssl.
fn public_key(certificate: &str, directory: &Path) -> String {
    let file = directory.join("looked-at.pem");
    std::fs::write(&file, certificate).unwrap();
    let openssl = tool::find("openssl").unwrap();
    run(Command::new(openssl).args(["x509", "-noout", "-pubkey", "-in"]).arg(file)).success()
}

#[test]
fn a_certificate_comes_by_tls_alpn_and_is_renewed_for_another_key_while_requests_go_on() {
    let Some(tools) = AuthorityTools::find() else { return };
    let (stack, directory, upstream) = (Stack::start(), tempfile::tempdir().unwrap(), Upstream::start());
    let Some(mut front) = Front::new(directory.path()) else { return };
    let options = AuthorityOptions { lifetime: 120, ..front.options() };
    let mut authority = Authority::prepare(tools, directory.path(), options);
    authority.start();
    front.configure(&stack, &upstream.url(), &authority.settings());
    front.start();
    let root = authority.root();
    front.await_served(&root);
    let first = front.certificate().unwrap();
    assert_eq!(first.matches("BEGIN CERTIFICATE").count(), 2, "the chain without the root");
    assert!(!first.contains("PRIVATE"));

    // At two thirds of its two minutes; sooner than a minute, sixty times `retry`, nothing is renewed.
    wait::until("it is renewed, and the site goes on", PATIENCE, || {
        run(&mut front.curl(HOST, &root)).success();
        front.certificate().filter(|now| *now != first)
    });
    let second = front.certificate().unwrap();
    assert_ne!(public_key(&first, directory.path()), public_key(&second, directory.path()), "another key");
    front.await_served(&root);
    let metrics = front.metrics();
    assert!(
        metrics.contains(&format!("hsm_proxy_acme_last_attempt_success{{site=\"{HOST}\"}} 1\n")),
        "{metrics}"
    );

    // Nothing but what was asked for is in the state directory, and no challenge's key is left.
    let mut names: Vec<_> = std::fs::read_dir(directory.path().join("acme"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["json", "lock", "pem"].map(|kind| format!("{HOST}.{kind}")));
}

#[test]
fn failures_leave_the_others_and_what_is_there_and_http_challenges_come_at_last() {
    let Some(tools) = AuthorityTools::find() else { return };
    let (stack, directory, upstream) = (Stack::start(), tempfile::tempdir().unwrap(), Upstream::start());
    let Some(mut front) = Front::new(directory.path()) else { return };
    let mut authority = Authority::prepare(tools, directory.path(), front.options());
    let settings = format!("{}challenge = \"http-01\"\n", authority.settings());
    front.configure(&stack, &upstream.url(), &settings);

    // Nobody is there to order from: the other site is served, and this one is refused.
    front.start();
    wait::until("the log says that the authority is not there", PATIENCE, || {
        front.log().contains("localhost can't be reached").then_some(())
    });
    run(&mut front.curl("localhost", &stack.ca())).success();
    assert_ne!(run(&mut front.curl(HOST, &stack.ca())).code, Some(0));
    assert!(front.log().contains("category=\"no-certificate\""), "{}", front.log());
    assert!(front.metrics().contains("hsm_proxy_handshakes_total{result=\"no-certificate\"} 1\n"));

    // It comes, and finds somebody else under one of the names.
    authority.let_name_have(&format!("www.{HOST}."), Some("127.0.0.2"));
    authority.start();
    wait::until("the log says that a name is not proven", PATIENCE, || {
        front.log().contains(&format!("could not see that www.{HOST} is ours")).then_some(())
    });
    assert!(front.certificate().is_none());
    authority.let_name_have(&format!("www.{HOST}."), None);
    front.await_served(&authority.root());

    // Without the authority what is there is served, after a restart, too.
    let root = authority.root();
    authority.stop();
    front.program = None;
    front.start();
    front.await_served(&root);
    let report = run(Command::new(binary("hsm-proxy"))
        .arg("check")
        .arg("--config")
        .arg(directory.path().join("proxy.toml")));
    assert_eq!(report.code, Some(0), "{report:?}");
    assert!(report.stdout.contains("acme.directory: localhost can't be reached"), "{report:?}");
    assert!(report.stdout.contains("key proven"), "{report:?}");
}

#[test]
fn an_order_outlives_a_killed_engine_and_a_killed_proxy() {
    let Some(tools) = AuthorityTools::find() else { return };
    let (stack, directory, upstream) = (Stack::start(), tempfile::tempdir().unwrap(), Upstream::start());
    let Some(mut front) = Front::new(directory.path()) else { return };
    let mut authority =
        Authority::prepare(tools, directory.path(), AuthorityOptions { slowness: 8, ..front.options() });
    authority.start();
    front.configure(&stack, &upstream.url(), &authority.settings());
    front.start();
    let order = || {
        let state = std::fs::read_to_string(directory.path().join(format!("acme/{HOST}.json"))).ok()?;
        state.contains("\"order\":\"https://").then_some(())
    };
    wait::until("an order is under way", PATIENCE, order);
    stack.signal_engine(0, Signal::KILL);
    front.program = None;
    let under_way = front.certificate().is_none();
    front.start();
    front.await_served(&authority.root());
    assert!(under_way, "the authority takes its time");
    assert!(front.log().contains("an order from before is followed"), "{}", front.log());
}
