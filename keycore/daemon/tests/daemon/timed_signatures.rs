//! What an engine says that its signatures took.

use std::io::Write;
use std::time::{Duration, Instant};

use keycore_wire::{
    ActivateCluster, Attributes, GenerateKey, IdempotencyKey, InitializeCluster, KeyAlgorithm, KeyTemplate,
    Login, Role, Secret, SignatureScheme, TimedSignature, TlsSign, TlsSignTimed, UserCreate, decode_reply,
};

use crate::fixture::Daemon;
use crate::peer::{Peer, request};

const COUNT: u32 = 64;

/// The event loop and its two workers. P-256 is signed by the loop, but for keys that are to be looked up again since
/// something was written.
const AT_ONCE: u32 = 3;

fn secret() -> Secret {
    Secret::new(b"a password of a test".to_vec())
}

/// A crypto user's connection.
fn web(daemon: &Daemon) -> Peer {
    let mut root = daemon.connect(0).greet();
    root.call(&InitializeCluster).unwrap();
    root.call(&ActivateCluster { admin: "root".parse().unwrap(), password: secret() }).unwrap();
    root.call(&Login { user: "root".parse().unwrap(), password: secret() }).unwrap();
    let (name, role) = ("web".parse().unwrap(), Role::CryptoUser);
    let (idempotency_key, password) = (IdempotencyKey([1; 16]), Some(secret()));
    root.call(&UserCreate { idempotency_key, name, role, password, peer_uid: None }).unwrap();
    let mut web = daemon.connect(0).greet();
    web.call(&Login { user: "web".parse().unwrap(), password: secret() }).unwrap();
    web
}

/// Asks for signatures all at once; what each took, in the order of the requests, and how long all took here.
fn sign(web: &mut Peer, algorithm: KeyAlgorithm, label: &str) -> (Vec<TimedSignature>, Duration) {
    let template = KeyTemplate::new(label.parse().unwrap(), Attributes::TLS_SERVER);
    let idempotency_key = IdempotencyKey([label.as_bytes()[0]; 16]);
    let key = web.call(&GenerateKey { idempotency_key, algorithm, template }).unwrap();
    let message = [&[b' '; 64], &b"TLS 1.3, server CertificateVerify"[..], &[0], &[0xab; 32]].concat();
    let (key, scheme) = (key.spki_sha256.unwrap(), algorithm.schemes()[0]);
    let sign = TlsSignTimed(TlsSign { key, scheme, site: "www.example.org", message: &message });
    // So that the key is loaded.
    web.call(&sign).unwrap();
    let first = 1_000_000;
    let bytes: Vec<u8> = (first..first + COUNT).flat_map(|id| request(id, &sign)).collect();
    let start = Instant::now();
    web.stream.write_all(&bytes).unwrap();
    let mut replies: Vec<_> = (0..COUNT).map(|_| web.receive().unwrap().unwrap()).collect();
    let took = start.elapsed();
    replies.sort_by_key(|(id, _)| *id);
    let signatures =
        replies.iter().map(|(_, body)| decode_reply::<TlsSignTimed<'_>>(body).unwrap()).collect();
    (signatures, took)
}

fn micros(time: u32) -> Duration {
    Duration::from_micros(time.into())
}

#[test]
fn a_signature_says_how_long_it_waited_in_the_engine_and_how_long_it_was_made() {
    let daemon = Daemon::start("replicas = 1");
    let mut web = web(&daemon);
    for algorithm in [KeyAlgorithm::P256, KeyAlgorithm::Rsa2048] {
        assert!(algorithm.schemes()[0] != SignatureScheme::Ed25519);
        let (signatures, took) = sign(&mut web, algorithm, &algorithm.to_string());
        let computing: Duration = signatures.iter().map(|timed| micros(timed.computing_us)).sum();
        for timed in &signatures {
            assert!(timed.computing_us > 0, "{timed:?}");
            assert!(micros(timed.queued_us) + micros(timed.computing_us) <= took, "{timed:?} of {took:?}");
        }
        assert!(computing <= took * AT_ONCE, "{computing:?} in {took:?}");
        // Somebody was the last, and waited for those before.
        let longest = signatures.iter().map(|timed| timed.queued_us).max().unwrap();
        let shortest = signatures.iter().map(|timed| timed.computing_us).min().unwrap();
        assert!(longest > shortest, "{longest} µs queued, {shortest} µs computing");
    }
}
