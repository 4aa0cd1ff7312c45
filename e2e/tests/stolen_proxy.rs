//! The thief of the proxy: its credentials, its socket, and what the engine makes of him.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use hsm_e2e::front::configuration;
use hsm_e2e::needle::{Needle, forms};
use hsm_e2e::{SelfMadeKey, Stack, address, binary, files, memory, run, tool};
use keycore_client::blocking::Client;
use keycore_client::{Endpoint, Error, Identity};
use keycore_wire::{
    Attribute, FindKey, KeyLabel, KeySelector, ListKeys, PublicKey, RefusalCode, Sign, SignatureScheme,
    TlsSign,
};

fn log_in(stack: &Stack, user: &str) -> Client {
    let identity = Identity::from_file(user.parse().unwrap(), &stack.password_file(user)).unwrap();
    let endpoints = [Endpoint::Unix(stack.engine_socket(0)), Endpoint::Unix(stack.engine_socket(1))];
    let mut client = Client::connect(&endpoints, Duration::from_secs(10)).unwrap();
    client.login(&identity).unwrap();
    client
}

fn refusal<T>(answer: Result<T, Error>) -> RefusalCode {
    match answer {
        Err(Error::Refused(refusal)) => refusal.code,
        Err(other) => panic!("not a refusal: {other}"),
        Ok(_) => panic!("the engine did it"),
    }
}

#[test]
fn a_tls_bound_key_signs_no_certificate_no_token_no_client_authentication_no_digest() {
    let stack = Stack::start();
    let mut thief = log_in(&stack, "web");
    let label: KeyLabel = "localhost".parse().unwrap();
    let key = thief.call(&FindKey { key: KeySelector::Label(label) }).unwrap();
    assert!(key.attributes.has(Attribute::TlsServer));

    let certificate = std::fs::read_to_string(stack.state_dir().join("localhost.pem")).unwrap();
    let client_verify = [&[0x20; 64][..], b"TLS 1.3, client CertificateVerify\0", &[7; 32]].concat();
    let server_verify = [&[0x20; 64][..], b"TLS 1.3, server CertificateVerify\0", &[7; 32]].concat();
    let attempts: [(&str, Vec<u8>); 4] = [
        ("a TBSCertificate", tbs_certificate(&certificate)),
        ("a JWT", b"eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhZG1pbiIsImF1ZCI6InBheW1lbnRzIn0".to_vec()),
        ("a client CertificateVerify", client_verify),
        ("a bare digest", vec![0xab; 32]),
    ];
    let scheme = SignatureScheme::EcdsaP256Sha256;
    for (what, message) in &attempts {
        let tls = TlsSign { key: key.spki_sha256.unwrap(), scheme, site: "localhost", message };
        assert_eq!(refusal(thief.call(&tls)), RefusalCode::NotATlsHandshake, "{what} by TlsSign");
        let sign = Sign { key: key.id, scheme, message };
        assert_eq!(refusal(thief.call(&sign)), RefusalCode::NotATlsHandshake, "{what} by Sign");
    }
    let good = TlsSign { key: key.spki_sha256.unwrap(), scheme, site: "localhost", message: &server_verify };
    thief.call(&good).expect("the real thing is signed: the refusals above are not for another reason");

    // All of it is on record, as soon as the log's bounded delay is over.
    hsm_e2e::wait::until("every refusal is in the audit log", Duration::from_secs(5), || {
        let audit = run(Command::new(binary("hsm"))
            .args(["--output", "json", "audit", "tail", "--count", "200", "--dir"])
            .arg(stack.state_dir().join("engine/audit")))
        .success();
        (audit.matches("NotATlsHandshake").count() == 2 * attempts.len()).then_some(())
    });
}

#[test]
fn another_users_key_is_out_of_reach() {
    let stack = Stack::start();
    let mut ca = log_in(&stack, "ca");
    let keys = ca.call(&ListKeys { after: None, limit: 10 }).unwrap().keys;
    let [ca_key] = &keys[..] else { panic!("the CA has one key, not {}", keys.len()) };
    let mut thief = log_in(&stack, "web");
    let sign = Sign { key: ca_key.id, scheme: SignatureScheme::EcdsaP256Sha256, message: b"anything" };
    assert_eq!(refusal(thief.call(&sign)), RefusalCode::NotFound);
    let by_certificate = PublicKey { key: KeySelector::SpkiSha256(ca_key.spki_sha256.unwrap()) };
    assert_eq!(refusal(thief.call(&by_certificate)), RefusalCode::NotFound);
    assert!(
        thief.call(&ListKeys { after: None, limit: 10 }).unwrap().keys.iter().all(|key| key.id != ca_key.id)
    );
}

#[test]
fn the_key_is_in_no_file_and_not_in_the_proxys_memory() {
    let Some(openssl) = tool::find("openssl") else { return };
    let directory = tempfile::tempdir().unwrap();
    let key = SelfMadeKey::generate(&openssl, directory.path());
    let stack = Stack::start();
    let import = ["key", "import", "--label", "self-made", "--usage", "tls-server", "--file"];
    run(stack.hsm_as("web").args(import).arg(&key.pem)).success();

    // A proxy that serves it, so that it has been used.
    let (proxy, address) = serve(&stack, directory.path(), &key);
    run(Command::new(binary("hsm-loadtest"))
        .args(["handshakes", "--count", "200", "--concurrency", "8", "--connect", &address.to_string()])
        .arg("--ca")
        .arg(&key.certificate))
    .success();

    let hexadecimal: String = key.scalar.iter().map(|byte| format!("{byte:02x}")).collect();
    let pid = proxy.pid().as_raw_nonzero().get();
    let mut needles = forms("the key", &key.scalar);
    let pem = std::fs::read_to_string(&key.pem).unwrap();
    needles.push(Needle { what: "the key as PEM".into(), bytes: pem.lines().nth(1).unwrap().into() });
    for needle in &needles {
        match memory::occurrences(pid, &needle.bytes) {
            Ok(count) => assert_eq!(count, 0, "the key is in the proxy's memory"),
            Err(error) => {
                println!("SKIPPED: this user may not read the proxy's memory: {error}");
                assert!(std::env::var_os("HSM_TEST_REQUIRE_TOOLS").is_none(), "CI may");
                return;
            }
        }
    }
    let none: [String; 0] = [];
    assert_eq!(files::hits(stack.state_dir(), None, &needles), none);

    // The same searches find it where it is planted: in a header that the proxy has read but not the end of, and in
    // a file; and in the engine, where it belongs.
    let _held = plant(address, &key);
    hsm_e2e::wait::until("the search finds the planted key", Duration::from_secs(10), || {
        (memory::occurrences(pid, hexadecimal.as_bytes()).unwrap() > 0).then_some(())
    });
    let engines = [stack.engine_pid(0), stack.engine_pid(1)];
    let found =
        |needle: &[u8]| engines.iter().any(|&engine| memory::occurrences(engine, needle).unwrap() > 0);
    assert!(
        needles.iter().any(|needle| found(&needle.bytes)),
        "the engines hold the key in a form that the search misses"
    );
    std::fs::write(stack.state_dir().join("planted"), key.scalar).unwrap();
    assert_eq!(files::hits(stack.state_dir(), None, &needles).len(), 1);
}

/// A second proxy, with the imported key's certificate, and where it listens.
fn serve(stack: &Stack, directory: &std::path::Path, key: &SelfMadeKey) -> (hsm_e2e::Program, SocketAddr) {
    let [address] = address::free();
    let file = directory.join("second.toml");
    std::fs::write(&file, configuration(stack, &key.certificate, address, "http://127.0.0.1:9")).unwrap();
    let proxy =
        hsm_e2e::Program::start(Command::new(binary("hsm-proxy")).arg("run").arg("--config").arg(&file));
    address::await_port("the second proxy", address);
    (proxy, address)
}

/// Leaves the key's bytes, as hexadecimal, in an unfinished request's header.
fn plant(
    address: SocketAddr,
    key: &SelfMadeKey,
) -> rustls::StreamOwned<rustls::ClientConnection, std::net::TcpStream> {
    use rustls_pki_types::pem::PemObject;
    use std::io::{Read, Write};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls_pki_types::CertificateDer::from_pem_file(&key.certificate).unwrap()).unwrap();
    let client = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connection =
        rustls::ClientConnection::new(std::sync::Arc::new(client), "localhost".try_into().unwrap()).unwrap();
    let mut held = rustls::StreamOwned::new(connection, std::net::TcpStream::connect(address).unwrap());
    // One whole request first: its answer proves that the connection is served.
    held.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let _first_bytes = held.read(&mut [0; 512]).unwrap();
    let scalar: String = key.scalar.iter().map(|byte| format!("{byte:02x}")).collect();
    write!(held, "GET / HTTP/1.1\r\nhost: localhost\r\nx-planted: {scalar}\r\n").unwrap();
    held.flush().unwrap();
    held
}

/// The first element of the certificate's outer SEQUENCE: what its issuer signed (RFC 5280, section 4.1).
fn tbs_certificate(pem: &str) -> Vec<u8> {
    use rustls_pki_types::pem::PemObject;
    let certificate = rustls_pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let bytes = certificate.as_ref();
    let (header, _) = der_header(bytes);
    let inner = &bytes[header..];
    let (inner_header, length) = der_header(inner);
    inner[..inner_header + length].to_vec()
}

fn der_header(bytes: &[u8]) -> (usize, usize) {
    assert_eq!(bytes[0], 0x30, "a SEQUENCE");
    match bytes[1] {
        short @ 0..0x80 => (2, short.into()),
        long => {
            let count = usize::from(long & 0x7f);
            (2 + count, bytes[2..2 + count].iter().fold(0, |length, &byte| length << 8 | usize::from(byte)))
        }
    }
}
