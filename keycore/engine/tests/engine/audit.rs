use std::sync::atomic::Ordering;
use std::time::Duration;

use keycore_audit::{Outcome, Subject};
use keycore_wire::{
    Attributes, ClusterInfo, InitializeCluster, KeyAlgorithm, ListKeys, Logout, Ping, Random, RefusalCode,
    Resume, SessionToken, SignatureScheme, TlsSign,
};

use crate::harness::{PASSWORD, PEER, World, generate, handshake};

/// What `hsm audit verify` holds announcements against outcomes by.
#[test]
fn both_records_of_a_change_have_the_same_connection_operation_and_time() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    web.generate(KeyAlgorithm::P256, Attributes::TLS_SERVER, "tls");
    let records = replica.audit.map(&replica.engine, |entry| {
        (entry.outcome == Outcome::Begun, (entry.connection, entry.opcode, entry.time_micros))
    });
    let begun: Vec<_> = records.iter().filter(|(begun, _)| *begun).collect();
    assert!(begun.len() >= 3, "the cluster, the first admin, a user and a key: {}", begun.len());
    for (_, of) in begun {
        assert!(records.iter().any(|(begun, other)| !begun && other == of), "{of:?} has no outcome");
    }
}

#[test]
fn a_signature_is_recorded_with_site_user_key_and_hash() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let info = web.generate(KeyAlgorithm::P256, Attributes::TLS_SERVER, "tls");
    let message = handshake();
    let scheme = SignatureScheme::EcdsaP256Sha256;
    web.call(&TlsSign { key: info.spki_sha256.unwrap(), scheme, site: "www.example.org", message: &message })
        .unwrap();
    let mut hash = [0; 32];
    hash.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &message).as_ref());
    let last = replica.audit.map(&replica.engine, |entry| {
        let expected = Subject::Signature {
            key: Some(info.id),
            spki: info.spki_sha256,
            site: "www.example.org",
            scheme: Some(scheme),
            message_sha256: hash,
        };
        entry.operation == "TlsSign"
            && entry.subject == expected
            && entry.outcome == Outcome::Done
            && entry.peer == Some(PEER)
            && entry.user.is_some_and(|user| user.name == "web" && user.id == Some(info.owner))
    });
    assert_eq!(last.last(), Some(&true));
}

#[test]
fn every_operation_leaves_its_record() {
    let (_world, replica) = World::active();
    let mut client = replica.client();
    let _refused = client.login("web", "wrong one");
    let _refused = client.login("nobody", "wrong one");
    client.login("web", PASSWORD).unwrap();
    client.generate(KeyAlgorithm::P256, Attributes::SIGN, "k");
    client.call(&ListKeys { after: None, limit: 1 }).unwrap();
    client.call(&Random { length: 1 }).unwrap();
    client.call(&Ping).unwrap();
    client.call(&ClusterInfo).unwrap();
    client.call(&Logout).unwrap();
    let seen = replica.audit.map(&replica.engine, |entry| {
        let user = entry.user.map_or("", |user| user.name);
        let outcome = match entry.outcome {
            Outcome::Begun => "begun",
            Outcome::Done => "done",
            Outcome::Refused(code) => code.name(),
        };
        format!("{} {user} {outcome} {}", entry.operation, entry.detail).trim_end().to_owned()
    });
    assert_eq!(
        seen,
        [
            "InitializeCluster  begun",
            "InitializeCluster  done",
            "ActivateCluster  begun",
            "ActivateCluster  done",
            "Login root done",
            "UserCreate root begun",
            "UserCreate root done",
            "Login web BadCredentials wrong password",
            "Login nobody BadCredentials no such user",
            "Login web done",
            "GenerateKey web begun",
            "GenerateKey web done",
            "ListKeys web done",
            "Random web done",
            "Logout web done",
        ]
    );
}

#[test]
fn management_is_synced_before_its_answer_and_signatures_are_not() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let before = replica.audit.syncs();
    let info = web.generate(KeyAlgorithm::P256, Attributes::TLS_SERVER, "tls");
    assert_eq!(replica.audit.syncs(), before + 2, "before the change is made, and before it is answered");
    let message = handshake();
    let scheme = SignatureScheme::EcdsaP256Sha256;
    for _ in 0..3 {
        web.call(&TlsSign { key: info.spki_sha256.unwrap(), scheme, site: "www", message: &message })
            .unwrap();
    }
    assert_eq!(replica.audit.syncs(), before + 2);
}

#[test]
fn nothing_is_done_while_the_log_cannot_be_written() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let info = web.generate(KeyAlgorithm::P256, Attributes::TLS_SERVER, "tls");
    let message = handshake();
    let scheme = SignatureScheme::EcdsaP256Sha256;
    let sign = TlsSign { key: info.spki_sha256.unwrap(), scheme, site: "www", message: &message };
    web.call(&sign).unwrap();

    replica.audit.broken.store(true, Ordering::SeqCst);
    assert!(replica.engine.flush_audit().is_err());
    assert_eq!(web.refused(&sign), RefusalCode::AuditUnavailable);
    assert_eq!(replica.client().login("web", PASSWORD).unwrap_err().code, RefusalCode::AuditUnavailable);
    let request = generate(KeyAlgorithm::P256, Attributes::SIGN, "k");
    assert_eq!(web.refused(&request), RefusalCode::AuditUnavailable);

    // Nobody's request tries the disk again; the daemon does, by the clock.
    replica.audit.broken.store(false, Ordering::SeqCst);
    assert_eq!(web.refused(&sign), RefusalCode::AuditUnavailable);
    replica.engine.flush_audit().unwrap();
    web.call(&sign).unwrap();
    web.call(&request).unwrap();
    let signatures = replica.audit.map(&replica.engine, |entry| entry.operation == "TlsSign");
    assert_eq!(signatures.into_iter().filter(|signature| *signature).count(), 2);
}

#[test]
fn a_flood_of_bad_requests_makes_one_record_a_second() {
    let (world, replica) = World::active();
    let mut client = replica.client();
    let before = replica.audit.map(&replica.engine, |_| ()).len();
    for _ in 0..1000 {
        client.send(&[0xee, 1, 2, 3]);
    }
    assert_eq!(client.refused(&Random { length: 1 }), RefusalCode::NotLoggedIn);
    assert_eq!(replica.audit.map(&replica.engine, |_| ()).len(), before + 1);
    world.pass(Duration::from_secs(1));
    client.send(&[0xee]);
    client.send(&[0xee]);
    let now = replica.now();
    replica.engine.disconnect(client.connection, now);
    let details = replica.audit.map(&replica.engine, |entry| entry.detail.to_owned());
    assert_eq!(details.len(), before + 3);
    assert!(details[before + 1].contains("1000 refused before it"), "{}", details[before + 1]);
    assert!(details[before + 2].starts_with("1 requests more"), "{}", details[before + 2]);
}

#[test]
fn a_flood_of_connections_makes_few_records_and_counts_the_rest() {
    let (world, replica) = World::active();
    let before = replica.audit.map(&replica.engine, |_| ()).len();
    let revoked = {
        let mut client = replica.client();
        let token = client.login("web", PASSWORD).unwrap().token;
        client.call(&Logout).unwrap();
        token
    };
    for _ in 0..500 {
        let mut stranger = replica.stranger();
        stranger.send(b"GET / HTTP/1.1");
        stranger.send(b"GET / HTTP/1.1");
        let now = replica.now();
        replica.engine.disconnect(stranger.connection, now);
        // These go to a worker, whose refusals are as cheap.
        let mut client = replica.client();
        assert_eq!(client.refused(&InitializeCluster), RefusalCode::WrongClusterState);
        let resume = Resume { token: SessionToken(revoked.0.duplicate()) };
        assert_eq!(client.refused(&resume), RefusalCode::SessionEnded);
    }
    assert_eq!(replica.audit.map(&replica.engine, |_| ()).len(), before + 2 + 32);
    world.pass(Duration::from_secs(1));
    replica.stranger().send(b"GET / HTTP/1.1");
    let last = replica.audit.map(&replica.engine, |entry| entry.detail.to_owned()).pop().unwrap();
    assert!(last.contains(&format!("{} refused before it", 500 * 4 - 32)), "{last}");
}
