//! The two judges: what browsers-like clients written in Rust use, and OpenSSL at its strictest.

use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use hsm_certs::{Certificate, ServerNames, Validity};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};

pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

pub(crate) fn validity(days: u32) -> Validity {
    Validity::starting(time::OffsetDateTime::now_utc(), hsm_certs::Days::new(days).unwrap())
}

pub(crate) fn names(names: &[&str]) -> ServerNames {
    ServerNames::new(names.iter().map(|name| name.parse().unwrap())).unwrap()
}

/// Verifies a server's chain for `name` at now + `later`.
pub(crate) fn webpki(
    server: &Certificate,
    root: &Certificate,
    name: &str,
    later: Duration,
) -> Result<(), webpki::Error> {
    verify(server, root, KeyUsage::server_auth(), later)?;
    let der = CertificateDer::from(server.der());
    EndEntityCert::try_from(&der)?.verify_is_valid_for_subject_name(&ServerName::try_from(name).unwrap())
}

/// Verifies a client's chain.
pub(crate) fn webpki_client(client: &Certificate, root: &Certificate) -> Result<(), webpki::Error> {
    verify(client, root, KeyUsage::client_auth(), Duration::ZERO)
}

fn verify(
    certificate: &Certificate,
    root: &Certificate,
    usage: KeyUsage,
    later: Duration,
) -> Result<(), webpki::Error> {
    let root = CertificateDer::from(root.der());
    let chain: Vec<_> = certificate.chain().map(CertificateDer::from).collect();
    let leaf = EndEntityCert::try_from(&chain[0])?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    leaf.verify_for_usage(
        ALL_VERIFICATION_ALGS,
        &[anchor_from_trusted_cert(&root)?],
        &chain[1..],
        UnixTime::since_unix_epoch(now + later),
        usage,
        None,
        None,
    )
    .map(drop)
}

/// `openssl verify -x509_strict` of a server's chain for `name`; true too where there is no openssl.
pub(crate) fn openssl(server: &Certificate, root: &Certificate, name: &str) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, content: String| {
        std::fs::write(dir.path().join(name), content).unwrap();
    };
    file("root.pem", root.pem());
    file("leaf.pem", server.pem());
    let rest: String = server.chain().skip(1).map(|der| hsm_certs::to_pem("CERTIFICATE", der)).collect();
    let mut arguments = vec!["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "root.pem"];
    if !rest.is_empty() {
        file("chain.pem", rest);
        arguments.extend(["-untrusted", "chain.pem"]);
    }
    arguments.extend([if name.parse::<std::net::IpAddr>().is_ok() {
        "-verify_ip"
    } else {
        "-verify_hostname"
    }]);
    arguments.extend([name, "leaf.pem"]);
    let Some(mut command) = openssl_command() else { return true };
    let output = command.args(&arguments).current_dir(dir.path()).output().unwrap();
    if !output.status.success() {
        eprintln!("openssl: {}", String::from_utf8_lossy(&output.stderr));
    }
    output.status.success()
}

/// The openssl program, or none after saying so; where `HSM_TEST_REQUIRE_TOOLS` is set, its absence is a failure.
pub(crate) fn openssl_command() -> Option<Command> {
    let found = Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_ok();
    if !found {
        assert!(
            std::env::var_os("HSM_TEST_REQUIRE_TOOLS").is_none(),
            "openssl is required and not installed"
        );
        println!("SKIPPED: openssl is not installed");
    }
    found.then(|| Command::new("openssl"))
}
