//! A site whose certificates are looked up in a directory, each with a key of its own in the engines, and an engine that dies.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::process::Command;

use hsm_e2e::{Front, OpensslAuthority, Stack, Upstream, binary, run, tool};

const NAMES: usize = 12;

/// An authority, and certificates whose keys go to the engines.
struct Maker<'a> {
    openssl: &'a Path,
    /// Where openssl writes.
    directory: &'a Path,
    authority: OpensslAuthority<'a>,
    stack: &'a Stack,
}

impl Maker<'_> {
    /// Makes the key and the certificate of the name with this number, and puts the certificate into `certificates`.
    fn make(&self, number: usize, certificates: &Path) {
        let host = format!("n{number}.example");
        let mut request = Command::new(self.openssl);
        request.current_dir(self.directory).args(["req", "-new", "-newkey", "ec", "-nodes"]);
        request.args(["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", &format!("/CN={host}")]);
        request.args(["-addext", &format!("subjectAltName=DNS:{host}")]);
        run(request.args(["-keyout", &format!("{host}.key"), "-out", &format!("{host}.csr")])).success();
        self.authority.sign(&host, "serverAuth", &["-copy_extensions", "copy"]);

        let key = self.directory.join(format!("{host}.key"));
        let import = ["key", "import", "--label", &host, "--usage", "tls-server", "--file"];
        run(self.stack.hsm_as("web").args(import).arg(key)).success();
        let made = self.directory.join(format!("{host}.crt"));
        std::fs::copy(made, certificates.join(format!("{host}.pem"))).unwrap();
    }
}

#[test]
fn names_of_a_directory_are_served_while_an_engine_dies_and_a_new_one_at_once() {
    let Some(openssl) = tool::find("openssl") else { return };
    let (stack, upstream) = (Stack::start(), Upstream::start());
    let (scratch, front_directory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let certificates = scratch.path().join("certificates");
    std::fs::create_dir(&certificates).unwrap();
    let authority = OpensslAuthority::create(&openssl, scratch.path());
    let maker = Maker { openssl: &openssl, directory: scratch.path(), authority, stack: &stack };
    (0..NAMES).for_each(|number| maker.make(number, &certificates));

    let front = Front::start(&stack, front_directory.path(), &upstream.url());
    let settings = std::fs::read_to_string(&front.file).unwrap();
    let site = format!(
        "\n[[site]]\nhost = \"*\"\ncert = \"{}/\"\nto = \"{}\"\n",
        certificates.display(),
        upstream.url()
    );
    hsm_e2e::front::replace(&front.file, settings + &site);
    front.reloaded();

    let load = |kind: &[&str], numbers: &str| {
        let mut command = Command::new(binary("hsm-loadtest"));
        command.args(kind).args(["--connect", &front.address.to_string(), "--ca"]);
        command.arg(scratch.path().join("ca.crt"));
        let report = run(command.args(["--server-name", "n{}.example", "--numbers", numbers]));
        println!("{}{}", report.stdout, report.stderr);
        report
    };
    let (all, state) = (format!("0..{NAMES}"), stack.state_dir().display().to_string());
    let drill = ["drill", "--state-dir", &state, "--at", "50%", "--count", "1500", "--max-latency", "5s"];
    for victim in ["0", "1"] {
        load(&[&drill[..], &["--kill", victim]].concat(), &all).success();
    }

    maker.make(NAMES, &certificates);
    let one = format!("{NAMES}..{}", NAMES + 1);
    load(&["handshakes", "--count", "1"], &one).success();
    // Nobody has that name.
    let nobody = format!("{}..{}", NAMES + 1, NAMES + 2);
    assert_ne!(load(&["handshakes", "--count", "1"], &nobody).code, Some(0));

    let checked = run(Command::new(binary("hsm-proxy")).arg("check").arg("--config").arg(&front.file));
    println!("{}", checked.stdout);
    checked.success();
}
