//! Engines that serve other machines: certificates made by openssl as the manual says, foreign clients at the port, and an
//! engine that is killed.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use hsm_e2e::{OpensslAuthority, Site, SiteOptions, run, tool};
use keycore_client::TlsFiles;
use keycore_client::blocking::Client;
use keycore_wire::{
    Attributes, GenerateKey, IdempotencyKey, KeyAlgorithm, KeyTemplate, Sign, SignatureScheme,
};

struct Remote {
    site: Site,
    openssl: PathBuf,
}

impl Remote {
    /// A CA, the cluster's certificate and a client's: the commands of docs/operations.md.
    fn certify(&self) {
        let directory = self.path("");
        let authority = OpensslAuthority::create(&self.openssl, &directory);
        let request = ["cluster", "csr", "--dns", "localhost", "--ip", "127.0.0.1", "--out", "cluster.csr"];
        self.hsm(&request).success();
        authority.sign("cluster", "serverAuth", &["-copy_extensions", "copy"]);
        let set = ["cluster", "set-certificate", "--signed-certificate", "cluster.crt"];
        self.hsm(&[&set[..], &["--trust-anchor", "ca.crt"]].concat()).success();
        let request = ["req", "-new", "-keyout", "client.key", "-out", "client.csr", "-subj", "/CN=proxy-1"];
        let ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        run(&mut self.command(&self.openssl, &[&request[..], &ec].concat())).success();
        fs::set_permissions(self.path("client.key"), fs::Permissions::from_mode(0o600)).unwrap();
        authority.sign("client", "clientAuth", &[]);
    }

    /// What `openssl s_client` says of the first replica's port, on both its outputs.
    fn s_client(&self, arguments: &[&str]) -> String {
        let [address, _] = self.addresses();
        let address = address.strip_prefix("tcp://").unwrap();
        let connect = ["s_client", "-connect", address, "-CAfile", "ca.crt", "-verify_return_error"];
        let said = run(self.command(&self.openssl, &connect).args(arguments));
        said.stdout + &said.stderr
    }

    fn client(&self) -> Client {
        let files = TlsFiles {
            ca: Some(self.path("ca.crt")),
            certificate: Some(self.path("client.crt")),
            key: Some(self.path("client.key")),
        };
        let addresses = self.addresses().map(|address| address.parse().unwrap());
        self.site.client(&files.endpoints(addresses.to_vec()).unwrap())
    }
}

impl Deref for Remote {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

#[test]
fn certificates_by_openssl_let_clients_in_and_a_killed_engine_costs_no_signature() {
    let Some(openssl) = tool::find("openssl") else { return };
    let site = Site::start(SiteOptions { ports: true, ..SiteOptions::default() });
    let site = Remote { site, openssl };
    site.hsm(&["cluster", "init"]).success();
    site.certify();
    site.activate();

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
