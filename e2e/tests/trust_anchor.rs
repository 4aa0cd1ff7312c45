//! Who has no CA gets the cluster's whole identity from `hsm`; and a proxy on another machine serves by it while an engine dies.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use hsm_e2e::{Finished, Program, Site, SiteOptions, Upstream, address, binary, run, tool};

/// The trust anchor, the cluster's certificate and a client's: the commands of docs/operations.md.
fn certify(site: &Site) {
    site.hsm(&["cluster", "init"]).success();
    site.activate();
    site.as_user("ca", &["cert", "trust-anchor", "--cn", "HSM CA", "--out", "ca.crt"]).success();
    site.as_user("alice", &["cluster", "csr", "--dns", "localhost", "--out", "cluster.csr"]).success();
    let issuer = ["--issuer", "ca.crt", "--issuer-key", "trust-anchor"];
    let cluster = ["cert", "issue", "--csr", "cluster.csr", "--days", "365", "--out", "cluster.crt"];
    site.as_user("ca", &[&cluster[..], &issuer].concat()).success();
    let set =
        ["cluster", "set-certificate", "--signed-certificate", "cluster.crt", "--trust-anchor", "ca.crt"];
    site.as_user("alice", &set).success();
    // On the client's machine, where no engine is.
    let request =
        ["cert", "client-request", "--cn", "proxy-1", "--key-out", "client.key", "--out", "client.csr"];
    run(&mut site.command(&binary("hsm"), &request)).success();
    let client = ["cert", "issue-client", "--csr", "client.csr", "--days", "30", "--out", "client.crt"];
    site.as_user("ca", &[&client[..], &issuer].concat()).success();
}

/// `hsm` as web over the network.
fn remote(site: &Site, arguments: &[&str]) -> Finished {
    let [first, second] = site.addresses();
    let engines = ["--engine", &first, "--engine", &second];
    let files = ["--tls-ca", "ca.crt", "--tls-certificate", "client.crt", "--tls-key", "client.key"];
    let user = ["--user", "web", "--password-file", "web"];
    run(&mut site.command(&binary("hsm"), &[&engines[..], &files, &user, arguments].concat()))
}

#[test]
fn a_cluster_gets_its_whole_identity_from_hsm_and_a_client_signs_by_it() {
    let site = Site::start(SiteOptions { ports: true, ..SiteOptions::default() });
    certify(&site);
    let mode = fs::metadata(site.path("client.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let key = ["key", "generate-asymmetric-pair", "ec", "--curve", "p256", "--label", "remote"];
    remote(&site, &key).success();
    fs::write(site.path("text"), "text").unwrap();
    let sign = ["crypto", "sign", "--key", "remote", "--data-file", "text", "--out", "signature"];
    remote(&site, &sign).success();
    remote(&site, &["key", "public", "remote", "--out", "remote.pub"]).success();

    // Neither a key nor a request that is there is replaced, the key not by force either.
    let before = fs::read(site.path("client.key")).unwrap();
    let again =
        ["cert", "client-request", "--cn", "x", "--key-out", "client.key", "--out", "client.csr", "--force"];
    for (arguments, said) in
        [(&again[..8], "client.csr exists already"), (&again[..], "no private key is ever replaced")]
    {
        let refused = run(&mut site.command(&binary("hsm"), arguments));
        assert_eq!(refused.code, Some(73));
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    }
    assert_eq!(fs::read(site.path("client.key")).unwrap(), before);

    let Some(openssl) = tool::find("openssl") else { return };
    let openssl = |arguments: &[&str]| run(&mut site.command(&openssl, arguments));
    for (purpose, certificate) in [("sslserver", "cluster.crt"), ("sslclient", "client.crt")] {
        let verify = ["verify", "-x509_strict", "-purpose", purpose, "-CAfile", "ca.crt", certificate];
        assert_eq!(openssl(&verify).success().trim(), format!("{certificate}: OK"));
    }
    let other = openssl(&["verify", "-purpose", "sslserver", "-CAfile", "ca.crt", "client.crt"]);
    assert_ne!(other.code, Some(0), "a client's certificate makes no server");
    let anchor = openssl(&["x509", "-in", "ca.crt", "-noout", "-text"]).success();
    assert!(anchor.contains("CA:TRUE, pathlen:0") && anchor.contains("X509v3 Basic Constraints: critical"));
    let verify = ["dgst", "-sha256", "-verify", "remote.pub", "-signature", "signature", "text"];
    openssl(&verify).success();
}

/// A site's key, and its certificate by another CA; then the proxy's configuration, with the engines at their ports.
fn serve(site: &Site, upstream: &Upstream, address: SocketAddr) {
    let ec = ["key", "generate-asymmetric-pair", "ec", "--curve", "p256"];
    site.as_user("ca", &[&ec[..], &["--label", "root"]].concat()).success();
    site.as_user("ca", &["cert", "ca-init", "--key", "root", "--cn", "Root", "--out", "ca.pem"]).success();
    site.as_user("web", &[&ec[..], &["--label", "www", "--usage", "tls-server"]].concat()).success();
    site.as_user("web", &["cert", "csr", "--key", "www", "--dns", "localhost", "--out", "www.csr"]).success();
    let issue = ["cert", "issue", "--csr", "www.csr", "--issuer", "ca.pem", "--issuer-key", "root"];
    site.as_user("ca", &[&issue[..], &["--out", "www.pem"]].concat()).success();
    let [first, second] = site.addresses();
    let root = site.path("");
    let root = root.display();
    let configuration = format!(
        "[proxy]\nlisten = [\"{address}\"]\n[hsm]\nengines = [\"{first}\", \"{second}\"]\n\
         user = \"web\"\npassword-file = \"{root}/web\"\ntls-ca = \"{root}/ca.crt\"\n\
         tls-certificate = \"{root}/client.crt\"\ntls-key = \"{root}/client.key\"\n\
         [[site]]\nhost = \"localhost\"\ncert = \"{root}/www.pem\"\nto = \"{}\"\n",
        upstream.url()
    );
    fs::write(site.path("proxy.toml"), configuration).unwrap();
}

#[test]
fn a_proxy_over_two_tcp_engines_loses_no_handshake_when_one_is_killed() {
    let site = Site::start(SiteOptions { ports: true, ..SiteOptions::default() });
    certify(&site);
    let upstream = Upstream::start();
    let [address] = address::free();
    serve(&site, &upstream, address);
    let check = site.command(&binary("hsm-proxy"), &["check", "--config", "proxy.toml"]).output().unwrap();
    assert!(check.status.success(), "{check:?}");
    let mut proxy = site.command(&binary("hsm-proxy"), &["run", "--config", "proxy.toml"]);
    let _proxy = Program::start(proxy.stdin(Stdio::null()));
    address::await_port("the proxy", address);

    // The drill fails if any handshake does, or if the engine was not killed on the way.
    for victim in ["0", "1"] {
        let connect = address.to_string();
        let drill = ["drill", "--connect", &connect, "--state-dir", ".", "--concurrency", "32"];
        let killed = ["--kill", victim, "--at", "50%", "--count", "1000", "--max-latency", "5s"];
        let report = run(&mut site.command(&binary("hsm-loadtest"), &[&drill[..], &killed].concat()));
        println!("{}{}", report.stdout, report.stderr);
        report.success();
    }
}
