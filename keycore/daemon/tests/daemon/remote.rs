//! Clients of other machines, through the real binary: the cluster's certificate, a port, TLS on both sides.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use keycore_client::blocking::Client;
use keycore_client::{Error, Identity, TlsFiles};
use keycore_wire::{
    ActivateCluster, ClusterCsr, ClusterInfo, ClusterName, InitializeCluster, Secret, SetClusterCertificate,
    UserList,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair,
};

use crate::fixture::{Daemon, PATIENCE};

const PASSWORD: &[u8] = b"a password of a test";

fn ca() -> (Issuer<'static, KeyPair>, rcgen::Certificate) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "CA of a test");
    let certificate = params.self_signed(&key).unwrap();
    (Issuer::new(params, key), certificate)
}

#[test]
fn a_confined_engine_serves_other_machines_once_the_cluster_has_a_certificate() {
    // Free a moment ago; the configuration takes no port that nobody knows.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let daemon =
        Daemon::start(&format!("replicas = 1\nsandbox = 'required'\nlisten-tcp = ['127.0.0.1:{port}']\n"));
    let (issuer, anchor) = ca();
    let path = |name: &str| daemon.site().path(name);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["proxy-1".to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    fs::write(path("ca.pem"), anchor.pem()).unwrap();
    fs::write(path("client.pem"), params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
    fs::write(path("client-key.pem"), key.serialize_pem()).unwrap();
    fs::set_permissions(path("client-key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    let files = TlsFiles {
        ca: Some(path("ca.pem")),
        certificate: Some(path("client.pem")),
        key: Some(path("client-key.pem")),
    };
    let connect = |host: &str, timeout| {
        let address = format!("tcp://{host}:{port}").parse().unwrap();
        Client::connect(&files.endpoints(vec![address]).unwrap(), timeout)
    };

    let mut local = daemon.connect(0).greet();
    local.call(&InitializeCluster).unwrap();
    assert!(matches!(connect("127.0.0.1", Duration::from_secs(5)), Err(Error::NoEngine { .. })));
    daemon.await_log("the cluster has no certificate for TCP yet");

    let csr = local.call(&ClusterCsr { names: vec![ClusterName::Ip("127.0.0.1".parse().unwrap())] }).unwrap();
    let mut csr = CertificateSigningRequestParams::from_der(&csr.der.into()).unwrap();
    csr.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let chain = vec![csr.signed_by(&issuer).unwrap().der().to_vec()];
    local.call(&SetClusterCertificate { chain, trust_anchor: anchor.der().to_vec() }).unwrap();
    let (admin, password) = ("admin".parse().unwrap(), Secret::new(PASSWORD.to_vec()));
    local.call(&ActivateCluster { admin, password }).unwrap();

    let mut remote = connect("127.0.0.1", PATIENCE).unwrap();
    assert_eq!(remote.call(&ClusterInfo).unwrap().users, 1);
    let by_uid = Identity::of_this_process("admin".parse().unwrap());
    assert!(matches!(remote.login(&by_uid), Err(Error::Login(_))));
    let by_password = Identity::with_password("admin".parse().unwrap(), Secret::new(PASSWORD.to_vec()));
    remote.login(&by_password).unwrap();
    assert_eq!(remote.call(&UserList { after: None, limit: 10 }).unwrap().users.len(), 1);

    // The name that was asked for must be in the certificate.
    let Err(Error::NoEngine { engines }) = connect("localhost", Duration::from_secs(5)) else {
        panic!("a certificate for 127.0.0.1 was taken for localhost")
    };
    assert!(engines[0].reason.contains("certificate"), "{engines:?}");
}
