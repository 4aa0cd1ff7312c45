//! The cluster's identity on the network: made inside, certified outside, followed by every replica.

use std::sync::atomic::Ordering;

use keycore_engine::{ClusterIdentity, Leisure};
use keycore_wire::{
    ActivateCluster, ClusterCsr, ClusterInfo, ClusterName, ClusterState, ClusterStatus, InitializeBy,
    InitializeCluster, NewUnseal, Refusal, RefusalCode, SetClusterCertificate, UnsealCluster, UnsealMethod,
};
use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{DerSignature, VerifyingKey};
use p256::pkcs8::DecodePublicKey;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, date_time_ymd,
};

use crate::harness::{Client, PASSWORD, PEER, Replica, World, name, secret};

/// A CA of the operator's.
pub(crate) struct Ca {
    der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    pub(crate) fn new() -> Self {
        Self::with(|_| {}, &rcgen::PKCS_ECDSA_P256_SHA256)
    }

    fn with(
        change: impl FnOnce(&mut CertificateParams),
        algorithm: &'static rcgen::SignatureAlgorithm,
    ) -> Self {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, "the operator's CA");
        change(&mut params);
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { der, issuer: Issuer::new(params, key) }
    }

    /// A CA below this one.
    fn below(&self) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "a CA below");
        let der = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        Self { der, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, csr: &[u8], change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut csr = CertificateSigningRequestParams::from_der(&csr.into()).unwrap();
        change(&mut csr.params);
        csr.params.signed_by(&csr.public_key, &self.issuer).unwrap().der().to_vec()
    }

    pub(crate) fn set(&self, client: &mut Client, csr: &[u8]) -> Result<ClusterStatus, Refusal> {
        client.call(&self.certificate(csr))
    }

    fn certificate(&self, csr: &[u8]) -> SetClusterCertificate {
        SetClusterCertificate { chain: vec![self.sign(csr, |_| {})], trust_anchor: self.der.clone() }
    }
}

fn asked() -> ClusterCsr {
    ClusterCsr { names: vec![ClusterName::Dns("hsm.example".into()), ClusterName::Ip([192, 0, 2, 7].into())] }
}

pub(crate) fn csr(client: &mut Client) -> Vec<u8> {
    client.call(&asked()).unwrap().der
}

fn identity(replica: &Replica) -> Option<std::sync::Arc<ClusterIdentity>> {
    replica.engine.cluster_identity()
}

fn signs_for(replica: &Replica, csr: &[u8]) -> bool {
    let spki =
        CertificateSigningRequestParams::from_der(&csr.into()).unwrap().public_key.subject_public_key_info();
    let key = VerifyingKey::from_public_key_der(&spki).unwrap();
    let signature = identity(replica).unwrap().sign(b"a handshake").unwrap();
    key.verify(b"a handshake", &DerSignature::try_from(&*signature).unwrap()).is_ok()
}

#[test]
fn the_request_has_the_clusters_name_and_the_operators() {
    let (_world, replica) = World::active();
    let mut root = replica.client_of("root");
    let der = csr(&mut root);
    let read = CertificateSigningRequestParams::from_der(&(&*der).into()).unwrap();
    let cluster = root.call(&ClusterInfo).unwrap().cluster.unwrap().to_string();
    let common_name = read.params.distinguished_name.get(&DnType::CommonName).unwrap();
    assert_eq!(*common_name, rcgen::DnValue::Utf8String(cluster));
    assert_eq!(read.params.extended_key_usages, [ExtendedKeyUsagePurpose::ServerAuth]);
    let names: Vec<_> = read.params.subject_alt_names.iter().map(|name| format!("{name:?}")).collect();
    assert_eq!(names, [r#"DnsName(Ia5String("hsm.example"))"#, "IpAddress(192.0.2.7)"]);
    // The key stays; only the signature is made anew.
    let again = csr(&mut root);
    let again = CertificateSigningRequestParams::from_der(&(&*again).into()).unwrap();
    assert_eq!(read.public_key.subject_public_key_info(), again.public_key.subject_public_key_info());
}

#[test]
fn a_certificate_is_set_and_renewed_and_followed_by_every_replica() {
    let (world, first) = World::active();
    let second = world.replica(1);
    let (ca, other_ca) = (Ca::new(), Ca::with(|_| {}, &rcgen::PKCS_ECDSA_P384_SHA384));
    let mut root = first.client_of("root");
    let csr = csr(&mut root);
    assert!(identity(&first).is_none());
    let status = ca.set(&mut root, &csr).unwrap();
    let told = status.certificate.unwrap();
    assert!(told.subject.contains(&status.cluster.unwrap().to_string()), "{}", told.subject);

    assert!(second.follow());
    for replica in [&first, &second] {
        let known = identity(replica).unwrap();
        assert_eq!(known.trust_anchor(), ca.der);
        assert_eq!(known.status(), &*told);
        assert!(signs_for(replica, &csr));
    }
    let before = identity(&second).unwrap().revision();
    other_ca.set(&mut root, &csr).unwrap();
    assert!(second.follow());
    let renewed = identity(&second).unwrap();
    assert!(renewed.revision() > before);
    assert_eq!(renewed.trust_anchor(), other_ca.der);
    // And by one that starts.
    assert!(signs_for(&world.replica(2), &csr));
    let details =
        first.audit.map(&first.engine, |entry| (entry.operation.to_owned(), entry.detail.to_owned()));
    assert!(details.iter().any(|(operation, detail)| operation == "SetClusterCertificate"
        && detail.starts_with("certificate sha256 ")));
}

#[test]
fn a_ca_in_between_belongs_into_the_chain() {
    let (_world, replica) = World::active();
    let mut root = replica.client_of("root");
    let csr = csr(&mut root);
    let ca = Ca::new();
    let below = ca.below();
    let certificate = below.sign(&csr, |_| {});
    let mut set = SetClusterCertificate { chain: vec![certificate], trust_anchor: ca.der.clone() };
    assert_eq!(root.refused(&set), RefusalCode::UntrustedCertificate);
    set.chain.push(below.der.clone());
    root.call(&set).unwrap();
    assert_eq!(identity(&replica).unwrap().certificate_chain(), set.chain);
}

#[test]
fn every_algorithm_of_a_trust_anchor_is_taken_that_is_offered() {
    let (_world, replica) = World::active();
    let mut root = replica.client_of("root");
    let csr = csr(&mut root);
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_RSA_SHA256]
    {
        Ca::with(|_| {}, algorithm).set(&mut root, &csr).unwrap();
    }
    let set = Ca::with(|_| {}, &rcgen::PKCS_ED25519).certificate(&csr);
    assert_eq!(root.refused(&set), RefusalCode::InvalidCertificate);
}

#[test]
fn what_no_client_would_take_is_refused_and_changes_nothing() {
    use RefusalCode::{CertificateOfAnotherKey, InvalidCertificate, Malformed, UntrustedCertificate};
    let (_world, replica) = World::active();
    let mut root = replica.client_of("root");
    let csr = csr(&mut root);
    let ca = Ca::new();
    ca.set(&mut root, &csr).unwrap();
    let good = identity(&replica).unwrap().revision();
    let leaf = |change: fn(&mut CertificateParams)| SetClusterCertificate {
        chain: vec![ca.sign(&csr, change)],
        trust_anchor: ca.der.clone(),
    };
    let anchored = |change: fn(&mut CertificateParams)| {
        Ca::with(change, &rcgen::PKCS_ECDSA_P256_SHA256).certificate(&csr)
    };
    let (_another, elsewhere) = World::active();
    let foreign_csr = self::csr(&mut elsewhere.client_of("root"));
    let mut forged = ca.certificate(&csr);
    *forged.chain[0].last_mut().unwrap() ^= 1;
    let mut forged_anchor = ca.certificate(&csr);
    *forged_anchor.trust_anchor.last_mut().unwrap() ^= 1;
    let cases = [
        ("of another key", ca.certificate(&foreign_csr), CertificateOfAnotherKey),
        (
            "of another CA",
            SetClusterCertificate { trust_anchor: Ca::new().der, ..ca.certificate(&csr) },
            UntrustedCertificate,
        ),
        ("forged", forged, UntrustedCertificate),
        ("forged anchor", forged_anchor, InvalidCertificate),
        ("expired", leaf(|params| params.not_after = date_time_ymd(2020, 1, 1)), InvalidCertificate),
        ("early", leaf(|params| params.not_before = date_time_ymd(2099, 1, 1)), InvalidCertificate),
        ("no name", leaf(|params| params.subject_alt_names.clear()), InvalidCertificate),
        ("any usage", leaf(|params| params.extended_key_usages.clear()), InvalidCertificate),
        (
            "for clients",
            leaf(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
            InvalidCertificate,
        ),
        (
            "expired anchor",
            anchored(|params| params.not_after = date_time_ymd(2020, 1, 1)),
            InvalidCertificate,
        ),
        ("no CA", anchored(|params| params.is_ca = IsCa::ExplicitNoCa), InvalidCertificate),
        (
            "no signer",
            anchored(|params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]),
            InvalidCertificate,
        ),
        (
            "no root",
            SetClusterCertificate { trust_anchor: ca.below().der, ..ca.certificate(&csr) },
            InvalidCertificate,
        ),
        (
            "no DER",
            SetClusterCertificate { trust_anchor: b"-----BEGIN".to_vec(), ..ca.certificate(&csr) },
            InvalidCertificate,
        ),
        ("nothing", SetClusterCertificate { chain: Vec::new(), ..ca.certificate(&csr) }, Malformed),
        (
            "too long",
            SetClusterCertificate { chain: vec![vec![0; 20_000]], ..ca.certificate(&csr) },
            Malformed,
        ),
    ];
    for (case, set, code) in cases {
        let refusal = root.call(&set).expect_err(case);
        assert_eq!(refusal.code, code, "{case}: {refusal}");
        println!("{case}: {refusal}");
    }
    assert_eq!(identity(&replica).unwrap().revision(), good);
}

#[test]
fn before_there_is_an_admin_it_is_the_pre_officers_to_set() {
    let world = World::new();
    let replica = world.replica(0);
    let mut officer = replica.client();
    assert_eq!(officer.refused(&asked()), RefusalCode::WrongClusterState);
    officer.call(&InitializeCluster).unwrap();
    let csr = csr(&mut officer);
    let ca = Ca::new();
    // Longer than what else a stranger may queue.
    let below = ca.below().below();
    let mut set = ca.certificate(&csr);
    set.chain.extend([below.der.clone(), below.der]);
    officer.call(&set).unwrap();
    officer.call(&ActivateCluster { admin: name("root"), password: secret(PASSWORD) }).unwrap();
    assert!(signs_for(&replica, &csr));

    assert_eq!(officer.refused(&asked()), RefusalCode::NotLoggedIn);
    let small = ca.certificate(&csr);
    assert_eq!(officer.refused(&small), RefusalCode::NotLoggedIn);
    ca.set(&mut replica.client_of("root"), &csr).unwrap();
}

#[test]
fn cluster_information_counts_connections_and_logins() {
    let (_world, replica) = World::active();
    let mut watcher = replica.client();
    let before = watcher.call(&ClusterInfo).unwrap();
    let first = replica.client_of("root");
    let second = replica.client_of("web");
    let during = watcher.call(&ClusterInfo).unwrap();
    assert_eq!((during.connections, during.sessions), (before.connections + 2, before.sessions + 2));
    let now = replica.now();
    replica.engine.disconnect(first.connection, now);
    let mut second = second;
    second.call(&keycore_wire::Logout).unwrap();
    let after = watcher.call(&ClusterInfo).unwrap();
    assert_eq!((after.connections, after.sessions), (before.connections + 1, before.sessions));
}

/// The last step before an engine is open may fail; until then nobody is shown the cluster's certificate.
#[test]
fn an_engine_that_stays_sealed_shows_no_certificate() {
    let world = World::new();
    let sealed = world.unsealed_by(0, None).unwrap();
    for _ in 0..40 {
        let _recorded =
            sealed.engine.begin(&mut sealed.engine.connect(PEER), sealed.now(), b"no hello", Leisure::Busy);
        world.pass(core::time::Duration::from_secs(2));
    }
    let maker = world.unsealed_by(0, None).unwrap();
    let method = UnsealMethod::Custodians { needed: 2, of: 2 };
    let NewUnseal { shares, .. } = maker.client().call(&InitializeBy { method }).unwrap();
    let (ca, mut client) = (Ca::new(), maker.client());
    let csr = csr(&mut client);
    ca.set(&mut client, &csr).unwrap();
    maker.engine.checkpoint_audit(maker.now()).unwrap();

    sealed.follow();
    let mut custodian = sealed.client();
    sealed.audit.unreadable.store(true, Ordering::SeqCst);
    custodian.call(&UnsealCluster { part: shares[0].duplicate() }).unwrap();
    custodian.call(&UnsealCluster { part: shares[1].duplicate() }).unwrap_err();
    assert_eq!(sealed.engine.cluster_state(), ClusterState::Sealed);
    assert!(identity(&sealed).is_none());
    sealed.audit.unreadable.store(false, Ordering::SeqCst);
    custodian.call(&UnsealCluster { part: shares[1].duplicate() }).unwrap();
    assert!(signs_for(&sealed, &csr));
}
