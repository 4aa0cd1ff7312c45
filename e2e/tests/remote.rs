//! Engines that serve other machines: certificates made by openssl as the manual says, foreign clients at the port, and an
//! engine that is killed.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use hsm_e2e::{Program, binary, run, tool, wait};
use keycore_client::blocking::Client;
use keycore_client::{Identity, TlsFiles};
use keycore_wire::{
    Attributes, GenerateKey, IdempotencyKey, KeyAlgorithm, KeyTemplate, Secret, Sign, SignatureScheme,
};
use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(30);

/// Two replicas with a port each, in a directory with all their files.
struct Site {
    directory: tempfile::TempDir,
    openssl: PathBuf,
    ports: [u16; 2],
    _engines: Program,
}

impl Site {
    /// None without openssl.
    fn start() -> Option<Self> {
        let openssl = tool::find("openssl")?;
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for (file, content) in [
            ("unseal", "d41d8cd98f00b204e9800998ecf8427ed41d8cd98f00b204e9800998ecf8427e\n"),
            ("alice", "the password of alice\n"),
            ("web", "the password of web\n"),
        ] {
            fs::write(root.join(file), content).unwrap();
            fs::set_permissions(root.join(file), fs::Permissions::from_mode(0o600)).unwrap();
        }
        // Free a moment ago; the configuration takes no port that nobody knows.
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = listeners.each_ref().map(|listener| listener.local_addr().unwrap().port());
        drop(listeners);
        let configuration = format!(
            "state-dir = \"{root}/state\"\nsocket-dir = \"{root}/run\"\nunseal-file = \"{root}/unseal\"\n\
             listen-tcp = [\"127.0.0.1:{}\", \"127.0.0.1:{}\"]\n",
            ports[0],
            ports[1],
            root = root.display()
        );
        fs::write(root.join("engine.toml"), configuration).unwrap();
        let mut engine = Command::new(binary("hsm-engine"));
        engine.args(["run", "--config"]).arg(root.join("engine.toml")).stdin(Stdio::null());
        let engines = Program::start(engine.env_remove("CREDENTIALS_DIRECTORY"));
        for replica in 0..2 {
            wait::until("the engine listens", PATIENCE, || {
                std::os::unix::net::UnixStream::connect(root.join(format!("run/engine-{replica}.sock"))).ok()
            });
        }
        Some(Self { directory, openssl, ports, _engines: engines })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.directory.path()).env("XDG_RUNTIME_DIR", self.directory.path());
        command.args(arguments);
        command
    }

    fn hsm(&self, arguments: &[&str]) -> String {
        let mut hsm = self.command(&binary("hsm"), &["--engine", "run/engine-0.sock"]);
        run(hsm.args(arguments)).success()
    }

    fn openssl(&self, arguments: &[&str]) -> String {
        run(&mut self.command(&self.openssl, arguments)).success()
    }

    /// A CA, the cluster's certificate and a client's: the commands of docs/operations.md.
    fn certify(&self) {
        let ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let ca = ["req", "-x509", "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=a CA", "-days", "30"];
        self.openssl(&[&ca[..], &ec].concat());
        self.hsm(&["cluster", "csr", "--dns", "localhost", "--ip", "127.0.0.1", "--out", "cluster.csr"]);
        fs::write(self.path("server.ext"), "extendedKeyUsage=serverAuth\n").unwrap();
        fs::write(self.path("client.ext"), "extendedKeyUsage=clientAuth\n").unwrap();
        let sign = ["x509", "-req", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30"];
        let cluster = [
            "-in",
            "cluster.csr",
            "-out",
            "cluster.crt",
            "-copy_extensions",
            "copy",
            "-extfile",
            "server.ext",
        ];
        self.openssl(&[&sign[..], &cluster].concat());
        self.hsm(&[
            "cluster",
            "set-certificate",
            "--signed-certificate",
            "cluster.crt",
            "--trust-anchor",
            "ca.crt",
        ]);
        let request = ["req", "-new", "-keyout", "client.key", "-out", "client.csr", "-subj", "/CN=proxy-1"];
        self.openssl(&[&request[..], &ec].concat());
        fs::set_permissions(self.path("client.key"), fs::Permissions::from_mode(0o600)).unwrap();
        self.openssl(
            &[&sign[..], &["-in", "client.csr", "-out", "client.crt", "-extfile", "client.ext"]].concat(),
        );
    }

    /// What `openssl s_client` says of the first replica's port, on both its outputs.
    fn s_client(&self, arguments: &[&str]) -> String {
        let address = format!("localhost:{}", self.ports[0]);
        let connect = ["s_client", "-connect", &address, "-CAfile", "ca.crt", "-verify_return_error"];
        let said = run(self.command(&self.openssl, &connect).args(arguments));
        said.stdout + &said.stderr
    }

    fn client(&self) -> Client {
        let files = TlsFiles {
            ca: Some(self.path("ca.crt")),
            certificate: Some(self.path("client.crt")),
            key: Some(self.path("client.key")),
        };
        let addresses = self.ports.map(|port| format!("tcp://localhost:{port}").parse().unwrap());
        let mut client = Client::connect(&files.endpoints(addresses.to_vec()).unwrap(), PATIENCE).unwrap();
        let password = Secret::new(b"the password of web".to_vec());
        client.login(&Identity::with_password("web".parse().unwrap(), password)).unwrap();
        client
    }

    fn pid(&self, replica: usize) -> Option<i32> {
        fs::read_to_string(self.path(&format!("run/engine-{replica}.pid"))).ok()?.trim().parse().ok()
    }

    /// Its process id.
    fn kill(&self, replica: usize) -> i32 {
        let pid = self.pid(replica).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        pid
    }

    fn await_another(&self, replica: usize, killed: i32) {
        wait::until("another replica in its place listens", PATIENCE, || {
            let now = self.pid(replica)?;
            (now != killed && std::net::TcpStream::connect(("127.0.0.1", self.ports[replica])).is_ok())
                .then_some(())
        });
    }
}

#[test]
fn certificates_by_openssl_let_clients_in_and_a_killed_engine_costs_no_signature() {
    let Some(site) = Site::start() else { return };
    site.hsm(&["cluster", "init"]);
    site.certify();
    site.hsm(&["cluster", "activate", "--admin", "alice", "--new-password-file", "alice"]);
    let create = ["user", "create", "web", "--role", "crypto-user", "--new-password-file", "web"];
    site.hsm(&[&["--user", "alice", "--password-file", "alice"], &create[..]].concat());

    let mine = ["-cert", "client.crt", "-key", "client.key"];
    let said = site.s_client(&mine);
    assert!(said.contains("Verification: OK") && said.contains("TLSv1.3, Cipher is"), "{said}");
    // The client is done before the server has looked at what it lacks, so it waits for the end.
    let said = site.s_client(&["-ign_eof"]);
    assert!(said.contains("alert certificate required"), "{said}");
    let said = site.s_client(&[&mine[..], &["-tls1_2"]].concat());
    assert!(said.contains("alert protocol version"), "{said}");

    let mut client = site.client();
    let template = KeyTemplate::new("key".parse().unwrap(), Attributes::SIGN);
    let idempotency_key = IdempotencyKey([7; 16]);
    let generate = GenerateKey { idempotency_key, algorithm: KeyAlgorithm::Ed25519, template };
    let key = client.call(&generate).unwrap().id;
    let mut sign = |count| {
        for _ in 0..count {
            client.call(&Sign { key, scheme: SignatureScheme::Ed25519, message: b"message" }).unwrap();
        }
    };
    sign(100);
    for replica in [0, 1] {
        let killed = site.kill(replica);
        sign(100);
        site.await_another(replica, killed);
        sign(100);
    }
}
