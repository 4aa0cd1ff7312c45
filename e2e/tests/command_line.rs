//! `hsm` as an administrator uses it, from an empty store to a chain that openssl accepts.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::Command;
use std::time::Duration;

use hsm_e2e::{Site, SiteOptions, run, tool, wait, write_private};
use keycore_client::blocking::Client;
use keycore_client::{Endpoint, Error, Identity};
use keycore_wire::{Random, Secret, UserName};
use rustix::process::Signal;
use serde_json::Value;

/// A cluster with its users.
fn active_cluster() -> Site {
    let unseal = Some("an unseal secret for this test\n");
    let cluster = Site::start(SiteOptions { unseal, ..SiteOptions::default() });
    cluster.hsm(&["cluster", "init"]).success();
    cluster.activate();
    cluster
}

#[test]
fn from_an_empty_store_to_a_chain_that_openssl_accepts() {
    let Some(openssl) = tool::find("openssl") else { return };
    let cluster = active_cluster();
    let again = cluster.hsm(&["cluster", "init"]);
    assert_ne!(again.code, Some(0), "a cluster is initialized once");

    cluster
        .as_user("ca", &["key", "generate-asymmetric-pair", "ec", "--curve", "p384", "--label", "root"])
        .success();
    cluster
        .as_user(
            "ca",
            &[
                "key",
                "generate-asymmetric-pair",
                "rsa",
                "--modulus-size-bits",
                "3072",
                "--label",
                "intermediate",
            ],
        )
        .success();
    cluster
        .as_user(
            "web",
            &[
                "key",
                "generate-asymmetric-pair",
                "ec",
                "--curve",
                "p256",
                "--label",
                "www",
                "--usage",
                "tls-server",
            ],
        )
        .success();
    cluster
        .as_user("ca", &["cert", "ca-init", "--key", "root", "--cn", "Root", "--out", "root.pem"])
        .success();
    cluster
        .as_user(
            "ca",
            &[
                "cert",
                "ca-init",
                "--key",
                "intermediate",
                "--cn",
                "Intermediate",
                "--issuer",
                "root.pem",
                "--issuer-key",
                "root",
                "--out",
                "intermediate.pem",
            ],
        )
        .success();
    cluster
        .as_user("web", &["cert", "csr", "--key", "www", "--dns", "www.example.org", "--out", "www.csr"])
        .success();
    cluster
        .as_user(
            "ca",
            &[
                "cert",
                "issue",
                "--csr",
                "www.csr",
                "--issuer",
                "intermediate.pem",
                "--issuer-key",
                "intermediate",
                "--out",
                "www.pem",
            ],
        )
        .success();
    let verified = run(Command::new(&openssl)
        .args(["verify", "-x509_strict", "-verify_hostname", "www.example.org", "-CAfile"])
        .arg(cluster.path("root.pem"))
        .arg("-untrusted")
        .arg(cluster.path("intermediate.pem"))
        .arg(cluster.path("www.pem")));
    assert_eq!(verified.success().trim(), format!("{}: OK", cluster.path("www.pem").display()));

    let audit = cluster.path("state/audit").display().to_string();
    cluster.hsm(&["audit", "verify", "--dir", &audit]).success();
}

#[test]
fn what_one_replica_does_the_other_knows() {
    let cluster = active_cluster();
    let ask = |replica, arguments: &[&str]| {
        let web = ["--user", "web", "--password-file", "web"];
        run(&mut cluster.hsm_at(&[replica], &[&web, arguments].concat()))
    };
    ask(0, &["key", "generate-asymmetric-pair", "ed25519", "--label", "one"]).success();
    ask(1, &["key", "info", "one"]).success();
    ask(1, &["key", "delete", "one", "--yes"]).success();
    assert_ne!(ask(0, &["key", "info", "one"]).code, Some(0));
}

#[test]
fn answers_for_programs_are_json_and_refusals_have_codes() {
    let cluster = active_cluster();
    let users = cluster.json("alice", &["user", "list"]);
    let names: Vec<_> =
        users["users"].as_array().unwrap().iter().map(|user| user["name"].as_str().unwrap()).collect();
    assert!(["alice", "web", "ca"].iter().all(|name| names.contains(name)), "{names:?}");

    let refused = cluster.as_user(
        "alice",
        &["--output", "json", "key", "generate-asymmetric-pair", "ec", "--curve", "p256", "--label", "x"],
    );
    assert_ne!(refused.code, Some(0), "an admin has no keys");
    let answer: Value = serde_json::from_str(&refused.stdout).unwrap();
    assert_ne!(answer["error_code"], 0);
}

#[test]
fn a_login_is_kept_until_the_logout() {
    let cluster = active_cluster();
    cluster.hsm(&["login", "--user", "web", "--password-file", "web"]).success();
    cluster.hsm(&["--user", "web", "key", "list"]).success();
    let kept = std::fs::read_dir(cluster.path("hsm")).unwrap().next().unwrap().unwrap().path();
    let copy = cluster.path("copy");
    std::fs::copy(&kept, &copy).unwrap();
    let told = cluster.hsm(&["--user", "web", "logout"]).success();
    assert!(told.contains("web is logged out"), "{told}");
    assert_ne!(cluster.hsm(&["--user", "web", "key", "list"]).code, Some(0));
    // One that ended already is not said to be ended now.
    std::fs::copy(&copy, &kept).unwrap();
    let told = cluster.hsm(&["--user", "web", "logout"]).success();
    assert!(!told.contains("logged out") && told.contains("hsm user logout web"), "{told}");
    assert!(!kept.exists());
}

#[test]
fn a_session_is_listed_with_its_replicas_and_ended_on_all_of_them() {
    let cluster = active_cluster();
    let web = || "web".parse::<UserName>().unwrap();
    let connect = |n, identity: &_| {
        let socket = Endpoint::Unix(cluster.socket(n));
        let mut client = Client::connect(&[socket], Duration::from_secs(20)).unwrap();
        client.login(identity).unwrap();
        client
    };
    let password = Secret::new(b"the password of web".to_vec());
    let proxy = Identity::with_password(web(), password);
    let mut clients = vec![connect(0, &proxy)];
    // Of a thief, who has the token and not the password.
    let thief = Identity::with_token(proxy.token().unwrap());
    clients.extend([0, 1].map(|n| connect(n, &thief)));

    let listed = cluster.json("alice", &["session", "list", "--of", "web"]);
    let [session] = &listed["sessions"].as_array().unwrap()[..] else { panic!("{listed}") };
    assert_eq!((&session["user"], &session["current"]), (&"web".into(), &false.into()));
    let engines = session["engines"].as_array().unwrap();
    let connections: Vec<_> = engines.iter().map(|engine| engine["connections"].as_u64().unwrap()).collect();
    assert_eq!(connections, [2, 1]);
    for engine in engines {
        assert_eq!(engine["peers"][0]["pid"], std::process::id());
    }
    let handle = session["session"].as_str().unwrap();
    // Who is no admin sees his own, of which this command is one, and ends no other's.
    let own = cluster.json("web", &["session", "list"]);
    assert_eq!(own["sessions"].as_array().unwrap().len(), 2);
    assert_ne!(cluster.as_user("ca", &["session", "list", "--all"]).code, Some(0));
    let refused = cluster.as_user("ca", &["session", "end", handle]);
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    clients[2].call(&Random { length: 1 }).unwrap();

    let text = cluster.as_user("alice", &["session", "list", "--all"]).success();
    assert!(text.contains(handle) && text.contains(" (this one)"), "{text}");
    cluster.as_user("alice", &["session", "end", handle]).success();
    for client in &mut clients[1..] {
        wait::until("the thief is out", Duration::from_secs(20), || {
            matches!(client.call(&Random { length: 1 }), Err(Error::Login(_) | Error::Refused(_)))
                .then_some(())
        });
    }
    assert_eq!(cluster.as_user("alice", &["session", "end", handle]).code, Some(1));
    let audit = cluster.path("state/audit").display().to_string();
    let tail = cluster.hsm(&["audit", "tail", "--dir", &audit, "--count", "200"]).success();
    assert!(tail.contains(&format!("session {handle}; of web")), "{tail}");
}

#[test]
fn a_changed_byte_in_the_audit_log_is_found() {
    let mut cluster = active_cluster();
    cluster.stop_engines(Signal::TERM);
    let audit = cluster.path("state/audit");
    let directory = audit.display().to_string();
    cluster.hsm(&["audit", "verify", "--dir", &directory]).success();

    let segment = std::fs::read_dir(audit.join("engine-0"))
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "log"));
    let segment = segment.expect("a segment");
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let verified = cluster.hsm(&["audit", "verify", "--dir", &directory]);
    assert_ne!(verified.code, Some(0));
    assert!(verified.stderr.contains("engine-0"), "names the file: {}", verified.stderr);
}

#[test]
fn two_admins_approve_with_openssl_and_with_hsm_and_a_second_factor_is_asked_for() {
    let Some(openssl) = tool::find("openssl") else { return };
    let cluster = active_cluster();
    let openssl = |arguments: &[&str]| run(&mut cluster.command(&openssl, arguments)).success();
    openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "ec.pem"]);
    openssl(&["genpkey", "-algorithm", "ED25519", "-out", "ed.pem"]);
    openssl(&["pkey", "-in", "ed.pem", "-pubout", "-out", "ed.pub"]);
    for user in ["bob", "carol"] {
        write_private(&cluster.path(user), &format!("password of {user}\n"));
        cluster
            .as_user("alice", &["user", "create", user, "--role", "admin", "--new-password-file", user])
            .success();
    }
    let register = ["user", "change-quorum", "token-sign", "register"];
    cluster.as_user("bob", &[&register[..], &["--key", "ec.pem"]].concat()).success();
    let text = [&register[..], &["--public-key", "ed.pub", "--print-text"]].concat();
    std::fs::write(cluster.path("proof.txt"), cluster.as_user("carol", &text).success()).unwrap();
    openssl(&["pkeyutl", "-sign", "-rawin", "-inkey", "ed.pem", "-in", "proof.txt", "-out", "proof.sig"]);
    let proof = ["--public-key", "ed.pub", "--signature", "proof.sig"];
    cluster.as_user("carol", &[&register[..], &proof].concat()).success();

    let set = ["quorum", "token-sign", "set-quorum-value", "--service", "user", "--value", "2"];
    cluster.as_user("alice", &set).success();
    cluster.hsm(&["login", "--user", "alice", "--password-file", "alice"]).success();
    let delete = ["--user", "alice", "user", "delete", "web"];
    assert_eq!(cluster.hsm(&delete).code, Some(77));
    let generate = [
        "--user",
        "alice",
        "--output",
        "json",
        "quorum",
        "token-sign",
        "generate",
        "--out",
        "token.txt",
        "--",
        "user",
        "delete",
        "web",
    ];
    let proposed = cluster.hsm(&generate).json();
    let token = proposed["data"]["token"].as_str().unwrap();
    cluster.as_user("bob", &["quorum", "approve", token, "--key", "ec.pem"]).success();
    openssl(&["pkeyutl", "-sign", "-rawin", "-inkey", "ed.pem", "-in", "token.txt", "-out", "token.sig"]);
    let carols =
        ["--user", "alice", "quorum", "approve", token, "--approver", "carol", "--signature", "token.sig"];
    cluster.hsm(&carols).success();
    cluster.hsm(&delete).success();
    assert_eq!(cluster.hsm(&["--user", "alice", "user", "delete", "ca"]).code, Some(77));

    cluster.as_user("bob", &["user", "change-mfa", "register", "--key", "ec.pem"]).success();
    assert_eq!(cluster.hsm(&["login", "--user", "bob", "--password-file", "bob"]).code, Some(77));
    let login = ["login", "--user", "bob", "--password-file", "bob"];
    cluster.hsm(&[&login[..], &["--mfa-key", "ec.pem"]].concat()).success();
    cluster.hsm(&[&login[..], &["--mfa-sign-with", "openssl dgst -sha256 -sign ec.pem"]].concat()).success();
    cluster.hsm(&["--user", "bob", "user", "list"]).success();

    // The key may be elsewhere: its owner gets the challenge as a file, and gives the signature as one.
    cluster.hsm(&["--user", "bob", "logout"]).success();
    cluster.hsm(&[&login[..], &["--mfa-challenge-out", "challenge.txt"]].concat()).success();
    assert_ne!(cluster.hsm(&["--user", "bob", "user", "logout", "carol"]).code, Some(0));
    openssl(&["dgst", "-sha256", "-sign", "ec.pem", "-out", "challenge.sig", "challenge.txt"]);
    let signed = |user| {
        cluster.hsm(&[
            "login",
            "--user",
            user,
            "--mfa-challenge",
            "challenge.txt",
            "--mfa-signature",
            "challenge.sig",
        ])
    };
    assert_ne!(signed("carol").code, Some(0));
    signed("bob").success();
    cluster.hsm(&["--user", "bob", "user", "list"]).success();
    // Once.
    assert_eq!(signed("bob").code, Some(77));
}

#[test]
fn two_users_approve_what_a_shared_key_signs() {
    let Some(openssl) = tool::find("openssl") else { return };
    let cluster = active_cluster();
    let as_user = |user: &str, line: &str| {
        let arguments: Vec<_> = line.split(' ').collect();
        cluster.as_user(user, &arguments)
    };
    let hsm = |line: &str| cluster.hsm(&line.split(' ').collect::<Vec<_>>());
    let openssl = |line: &str| {
        let arguments: Vec<_> = line.split(' ').collect();
        run(&mut cluster.command(&openssl, &arguments)).success()
    };
    for user in ["ann", "ben"] {
        write_private(&cluster.path(user), &format!("password of {user}\n"));
        let create = format!("user create {user} --role crypto-user --new-password-file {user}");
        as_user("alice", &create).success();
        openssl(&format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {user}.pem"));
        as_user(user, &format!("user change-quorum token-sign register --key {user}.pem")).success();
    }
    let generate = "key generate-asymmetric-pair ec --curve p256 --label release --usage sign";
    let lonely = as_user("web", &format!("{generate} --quorum-usage 2"));
    assert_ne!(lonely.code, Some(0));
    as_user("web", &format!("{generate} --quorum-usage 2 --share-with ann,ben")).success();
    as_user("web", "key public release --out release.pem").success();
    std::fs::write(cluster.path("build"), "what is to be signed").unwrap();

    hsm("login --user web --password-file web").success();
    let sign = "crypto sign --key release --mechanism ecdsa-sha256 --data-file build --out build.sig";
    assert_eq!(hsm(&format!("--user web {sign}")).code, Some(77));
    let propose = "--user web --output json quorum token-sign generate --out token.txt --";
    let proposed = hsm(&format!("{propose} {sign}")).json();
    let token = proposed["data"]["token"].as_str().unwrap();
    let sum = openssl("dgst -sha256 -r build");
    let text = std::fs::read_to_string(cluster.path("token.txt")).unwrap();
    assert!(text.contains(&format!("data-sha256: {}\n", sum.split(' ').next().unwrap())), "{text}");
    as_user("ann", &format!("quorum approve {token} --key ann.pem")).success();
    openssl("dgst -sha256 -sign ben.pem -out ben.sig token.txt");
    hsm(&format!("--user web quorum approve {token} --approver ben --signature ben.sig")).success();
    // Only who may use the key sees the token.
    assert!(hsm("--user web quorum token-sign list").success().contains(token));
    assert!(!as_user("alice", "quorum token-sign list").success().contains(token));
    hsm(&format!("--user web {sign}")).success();
    openssl("dgst -sha256 -verify release.pem -signature build.sig build");
    assert_eq!(hsm(&format!("--user web {sign}")).code, Some(77));
}

#[test]
fn what_keys_do_is_what_openssl_does() {
    let Some(openssl) = tool::find("openssl") else { return };
    let cluster = active_cluster();
    let web = |line: &str| {
        let arguments: Vec<_> = line.split(' ').collect();
        cluster.as_user("web", &arguments).success()
    };
    let openssl = |line: &str| {
        let arguments: Vec<_> = line.split(' ').collect();
        run(&mut cluster.command(&openssl, &arguments)).success()
    };
    std::fs::write(cluster.path("data"), "what is to be signed").unwrap();

    for (key, kind, mechanism, verified_with) in [
        ("pkcs1", "rsa", "rsa-pkcs1-sha384", "dgst -sha384"),
        (
            "pss",
            "rsa",
            "rsa-pss-sha512",
            "dgst -sha512 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest",
        ),
        ("p256", "ec --curve p256", "ecdsa-sha512", "dgst -sha512"),
        ("p384", "ec --curve p384", "ecdsa-sha256", "dgst -sha256"),
        ("p521", "ec --curve p521", "ecdsa-sha1", "dgst -sha1"),
        ("k256", "ec --curve secp256k1", "ecdsa-sha224", "dgst -sha224"),
        ("ed", "ed25519", "ed25519", "pkeyutl"),
    ] {
        web(&format!("key generate-asymmetric-pair {kind} --label {key}"));
        web(&format!("key public {key} --out {key}.pem"));
        web(&format!("crypto sign --key {key} --mechanism {mechanism} --data-file data --out {key}.sig"));
        let how = match verified_with {
            "pkeyutl" => {
                format!("pkeyutl -verify -rawin -pubin -inkey {key}.pem -in data -sigfile {key}.sig")
            }
            digest => format!("{digest} -verify {key}.pem -signature {key}.sig data"),
        };
        let said = openssl(&how);
        assert!(said.contains("Verified OK") || said.contains("Verified Successfully"), "{key}: {said}");
        web(&format!(
            "crypto verify --public-key {key}.pem --mechanism {mechanism} --data-file data --signature-file {key}.sig"
        ));
    }

    // What is longer than an engine takes is hashed here.
    std::fs::write(cluster.path("long"), vec![0x5a; 300_000]).unwrap();
    openssl("dgst -sha256 -binary -out digest long");
    web("key generate-asymmetric-pair ec --curve p256 --label long --usage sign");
    web("key public long --out long.pem");
    let sign = "crypto sign --key long --mechanism ecdsa-sha256";
    assert_ne!(
        cluster.as_user("web", &format!("{sign} --data-file long").split(' ').collect::<Vec<_>>()).code,
        Some(0)
    );
    web(&format!("{sign} --prehashed --data-file digest --out long.sig"));
    openssl("dgst -sha256 -verify long.pem -signature long.sig long");

    std::fs::write(cluster.path("aes"), [0x42; 32]).unwrap();
    web("key import --label aes --form aes --file aes --usage encrypt");
    web("crypto encrypt --key aes --mechanism aes-cbc-pad --data-file data --out cbc");
    let whole = std::fs::read(cluster.path("cbc")).unwrap();
    std::fs::write(cluster.path("cbc-only"), &whole[16..]).unwrap();
    let iv: String = whole[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let plain = openssl(&format!("enc -d -aes-256-cbc -K {} -iv {iv} -in cbc-only", "42".repeat(32)));
    assert_eq!(plain, "what is to be signed");
    web("crypto encrypt --key aes --data-file data --out gcm");
    web("crypto decrypt --key aes --data-file gcm --out gcm-plain");
    assert_eq!(std::fs::read(cluster.path("gcm-plain")).unwrap(), b"what is to be signed");

    // A secret that openssl wrapped, and one that both sides agree on, make openssl's codes.
    let code = |hexkey: &str| openssl(&format!("dgst -sha256 -mac HMAC -macopt hexkey:{hexkey} -r data"));
    let mac = |key: &str| {
        let answer = cluster.json("web", &["crypto", "mac", "--key", key, "--data-file", "data"]);
        answer["signature"].as_str().unwrap().to_owned()
    };
    let base64 = |hex: &str| {
        let digits = hex.split(' ').next().unwrap();
        let bytes: Vec<_> = (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
            .collect();
        std::fs::write(cluster.path("code"), bytes).unwrap();
        openssl("base64 -A -in code").trim().to_owned()
    };
    web("key generate-asymmetric-pair rsa --label wrapping --usage wrap");
    web("key public wrapping --out wrapping.pem");
    openssl(
        "pkeyutl -encrypt -pubin -inkey wrapping.pem -in aes -out wrapped -pkeyopt rsa_padding_mode:oaep \
         -pkeyopt rsa_oaep_md:sha256"
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .as_str(),
    );
    web(
        "key unwrap --wrapping-key wrapping --mechanism rsa-oaep-sha256 --form generic-secret --label in --file wrapped",
    );
    assert_eq!(mac("in"), base64(&code(&"42".repeat(32))));

    web("key generate-asymmetric-pair ec --curve p256 --label agree --usage derive");
    web("key public agree --out agree.pem");
    openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out theirs.key");
    openssl("pkey -in theirs.key -pubout -out theirs.pem");
    openssl("pkeyutl -derive -inkey theirs.key -peerkey agree.pem -out shared");
    web(
        "crypto derive --key agree --mechanism ecdh --peer-key theirs.pem --key-type generic-secret --label shared",
    );
    let shared = std::fs::read(cluster.path("shared")).unwrap();
    let shared: String = shared.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(mac("shared"), base64(&code(&shared)));

    let wrong = cluster.as_user(
        "web",
        &["crypto", "verify", "--key", "p384", "--data-file", "data", "--signature-file", "p256.sig"],
    );
    assert_eq!(wrong.code, Some(1), "{}", wrong.stderr);
}
