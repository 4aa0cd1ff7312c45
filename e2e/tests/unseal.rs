//! A cluster whose custodians unseal it: the real engines start sealed, and signatures go on elsewhere meanwhile.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hsm_e2e::{Finished, Program, binary, run, wait};
use keycore_client::blocking::Client;
use keycore_client::{Endpoint, Identity};
use keycore_wire::{
    Attributes, ClusterInfo, GenerateKey, IdempotencyKey, KeyAlgorithm, KeyTemplate, Secret, Sign,
    SignatureScheme,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);
const REPLICAS: usize = 2;

struct Site {
    directory: tempfile::TempDir,
    engines: Option<Program>,
}

impl Site {
    fn start(unseal: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for user in ["alice", "web"] {
            write_private(&root.join(user), &format!("the password of {user}\n"));
        }
        let configuration = format!(
            "state-dir = \"{root}/state\"\nsocket-dir = \"{root}/run\"\nreplicas = {REPLICAS}\n{}\n",
            unseal.replace("ROOT", &root.display().to_string()),
            root = root.display()
        );
        fs::write(root.join("engine.toml"), configuration).unwrap();
        Self { directory, engines: None }
    }

    fn run_engines(&mut self) {
        let mut engine = Command::new(binary("hsm-engine"));
        engine.args(["run", "--config"]).arg(self.path("engine.toml")).stdin(Stdio::null());
        engine.env_remove("CREDENTIALS_DIRECTORY");
        self.engines = Some(Program::start(&mut engine));
        for replica in 0..REPLICAS {
            wait::until("the engine listens", PATIENCE, || {
                std::os::unix::net::UnixStream::connect(self.socket(replica)).ok()
            });
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn socket(&self, replica: usize) -> PathBuf {
        self.path(&format!("run/engine-{replica}.sock"))
    }

    /// `hsm` at some of the replicas.
    fn hsm_at(&self, replicas: &[usize], arguments: &[&str]) -> Command {
        let mut hsm = Command::new(binary("hsm"));
        hsm.env("XDG_RUNTIME_DIR", self.directory.path()).current_dir(self.directory.path());
        for &replica in replicas {
            hsm.arg("--engine").arg(self.socket(replica));
        }
        hsm.args(arguments);
        hsm
    }

    fn hsm(&self, arguments: &[&str]) -> Finished {
        run(&mut self.hsm_at(&[0, 1], arguments))
    }

    fn as_user(&self, user: &str, arguments: &[&str]) -> Finished {
        let password = self.path(user).display().to_string();
        self.hsm(&[&["--user", user, "--password-file", &password], arguments].concat())
    }

    fn activate(&self) {
        let password = |user| self.path(user).display().to_string();
        let (alice, web) = (password("alice"), password("web"));
        let activate = ["cluster", "activate", "--admin", "alice", "--new-password-file", &alice];
        run(&mut self.hsm_at(&[0], &activate)).success();
        let create = ["user", "create", "web", "--role", "crypto-user", "--new-password-file", &web];
        self.as_user("alice", &create).success();
    }

    fn state(&self, replica: usize) -> Option<String> {
        let told = run(&mut self.hsm_at(&[replica], &["--output", "json", "cluster", "info"]));
        let told: Value = serde_json::from_str(&told.stdout).ok()?;
        told["data"]["engines"][0]["state"].as_str().map(str::to_owned)
    }

    fn await_state(&self, replica: usize, state: &str) {
        wait::until(&format!("replica {replica} is {state}"), PATIENCE, || {
            (self.state(replica).as_deref() == Some(state)).then_some(())
        });
    }

    fn kill(&self, replica: usize) {
        let file = self.path(&format!("run/engine-{replica}.pid"));
        let pid: i32 = fs::read_to_string(file).unwrap().trim().parse().unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        wait::until("the replica is gone", PATIENCE, || (!wait::is_running(pid)).then_some(()));
    }

    fn client(&self) -> Client {
        let endpoints: Vec<_> = (0..REPLICAS).map(|replica| Endpoint::Unix(self.socket(replica))).collect();
        let mut client = Client::connect(&endpoints, PATIENCE).unwrap();
        let password = Secret::new(b"the password of web".to_vec());
        client.login(&Identity::with_password("web".parse().unwrap(), password)).unwrap();
        client
    }
}

fn write_private(path: &Path, content: &str) {
    let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(content.as_bytes()).unwrap();
}

/// A test that fails does not wait for a thread that signs on.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A signature of a new key, made over and over.
fn sign_until(client: &mut Client, stop: &AtomicBool, made: &AtomicU64) {
    let template = KeyTemplate::new("key".parse().unwrap(), Attributes::SIGN);
    let idempotency_key = IdempotencyKey([7; 16]);
    let key = client.call(&GenerateKey { idempotency_key, algorithm: KeyAlgorithm::Ed25519, template });
    let key = key.unwrap().id;
    while !stop.load(Ordering::SeqCst) {
        client.call(&Sign { key, scheme: SignatureScheme::Ed25519, message: b"message" }).unwrap();
        made.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn custodians_unseal_each_replica_and_signatures_go_on_meanwhile() {
    let mut site = Site::start("unseal = \"custodians\"");
    site.run_engines();
    let init = ["cluster", "init", "--custodians", "2/3", "--share-out", "share"];
    let said = run(&mut site.hsm_at(&[0], &init)).success();
    assert!(said.contains("share-3.share") && !said.contains("hsm-unseal-share-1-"), "{said}");
    site.activate();
    site.await_state(1, "sealed");

    // A typing error is told before any engine sees it; so is a wrong file.
    let mut text = fs::read_to_string(site.path("share-1.share")).unwrap();
    let last = text.trim_end().len() - 1;
    let other = if text.as_bytes()[last] == b'a' { "b" } else { "a" };
    text.replace_range(last..=last, other);
    write_private(&site.path("typo"), &text);
    let refused = run(&mut site.hsm_at(&[1], &["cluster", "unseal", "--share-file", "typo"]));
    assert_eq!(refused.code, Some(65), "{}", refused.stderr);
    assert!(refused.stderr.contains("typing error"), "{}", refused.stderr);

    // One from a file, one from standard input, to all replicas at once: one is open already.
    let said = site.hsm(&["cluster", "unseal", "--share-file", "share-1.share"]).success();
    assert!(said.contains("1 of 2 shares are in") && said.contains("was not sealed"), "{said}");
    let info = site.hsm(&["cluster", "info"]).success();
    assert!(info.contains("sealed") && info.contains("1 of 2 shares are in"), "{info}");
    let mut piped = site.hsm_at(&[1], &["cluster", "unseal", "--share-file", "-"]);
    let mut piped = piped.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let share = fs::read(site.path("share-3.share")).unwrap();
    piped.stdin.take().unwrap().write_all(&share).unwrap();
    assert!(piped.wait().unwrap().success());
    assert_eq!(site.state(1).as_deref(), Some("active"));

    // Each replica in turn is killed, comes back sealed, and is unsealed; not one signature fails.
    let (stop, made) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut client = site.client();
    std::thread::scope(|scope| {
        let signing = scope.spawn(|| sign_until(&mut client, &stop, &made));
        let _stops = Stops(&stop);
        for replica in [0, 1, 0] {
            let await_more = |what: &str| {
                let before = made.load(Ordering::SeqCst);
                wait::until(what, PATIENCE, || {
                    assert!(!signing.is_finished(), "a signature failed");
                    (made.load(Ordering::SeqCst) > before + 100).then_some(())
                });
            };
            await_more("signatures before the kill");
            site.kill(replica);
            site.await_state(replica, "sealed");
            await_more("signatures while a replica is sealed");
            for share in ["share-2.share", "share-3.share"] {
                let give = ["cluster", "unseal", "--share-file", share];
                run(&mut site.hsm_at(&[replica], &give)).success();
            }
            site.await_state(replica, "active");
        }
        stop.store(true, Ordering::SeqCst);
        signing.join().unwrap();
    });
}

/// Two replicas sign while the cluster key is rotated; the one that seals records anew is killed on the way.
#[test]
fn the_cluster_key_is_rotated_under_load_and_a_kill_on_the_way_costs_nothing() {
    const KEYS: u32 = 1500;
    let mut site = Site::start("unseal-file = \"ROOT/unseal\"");
    write_private(&site.path("unseal"), "correct horse battery staple\n");
    site.run_engines();
    run(&mut site.hsm_at(&[0], &["cluster", "init"])).success();
    site.activate();
    let mut maker = site.client();
    for n in 0..KEYS {
        let mut key = [9; 16];
        key[..4].copy_from_slice(&n.to_be_bytes());
        let template = KeyTemplate::new(format!("many-{n}").parse().unwrap(), Attributes::SIGN);
        let algorithm = KeyAlgorithm::Ed25519;
        maker.call(&GenerateKey { idempotency_key: IdempotencyKey(key), algorithm, template }).unwrap();
    }
    drop(maker);

    let unseal = || {
        let info = site.hsm(&["--output", "json", "cluster", "info"]).success();
        let info: Value = serde_json::from_str(&info).unwrap();
        let engines = info["data"]["engines"].as_array().unwrap().clone();
        engines.into_iter().map(|engine| engine["unseal"].clone()).collect::<Vec<_>>()
    };
    let (stop, made) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut client = site.client();
    std::thread::scope(|scope| {
        let signing = scope.spawn(|| sign_until(&mut client, &stop, &made));
        let _stops = Stops(&stop);
        let alive = || assert!(!signing.is_finished(), "a signature failed");
        wait::until("signatures", PATIENCE, || (made.load(Ordering::SeqCst) > 100).then_some(()));
        site.as_user("alice", &["cluster", "rotate-key"]).success();
        // Asked without a program in between: it is a matter of seconds.
        let mut asking = Client::connect(&[Endpoint::Unix(site.socket(0))], PATIENCE).unwrap();
        let progress = wait::until("the first records are sealed anew", PATIENCE, || {
            let resealing = asking.call(&ClusterInfo).unwrap().unseal.unwrap().resealing;
            resealing.filter(|resealing| resealing.done > 0)
        });
        assert!(progress.done < progress.total, "{progress:?}");
        // Whichever is at it: one after the other.
        for replica in [0, 1] {
            site.kill(replica);
            site.await_state(replica, "active");
            alive();
        }
        wait::until("the rotation is complete", 2 * PATIENCE, || {
            alive();
            let engines = unseal();
            let complete = |engine: &Value| engine["generation"] == 2 && engine["resealing"].is_null();
            (engines.len() == REPLICAS && engines.iter().all(complete)).then_some(())
        });
        let after = made.load(Ordering::SeqCst);
        wait::until("signatures after it", PATIENCE, || (made.load(Ordering::SeqCst) > after).then_some(()));
        stop.store(true, Ordering::SeqCst);
        signing.join().unwrap();
    });
    let logged = site.hsm(&["audit", "tail", "--dir", "state/audit", "--count", "100000"]).stdout;
    assert!(logged.contains("RotateClusterKey") && logged.contains("ClusterKeyRotated"), "no record of it");

    // The method is changed as well, and a replica that starts takes the new secret only.
    write_private(&site.path("new"), "another passphrase of some length\n");
    let change = ["cluster", "change-unseal", "--unseal", "passphrase", "--new-secret-file", "new"];
    // Not in the seconds behind the beginning of a rotation.
    wait::until("the method may change", PATIENCE, || {
        let changed = site.as_user("alice", &change);
        assert!(
            changed.code == Some(0) || changed.stderr.contains("try again in half a minute"),
            "{}",
            changed.stderr
        );
        (changed.code == Some(0)).then_some(())
    });
    fs::remove_file(site.path("unseal")).unwrap();
    fs::rename(site.path("new"), site.path("unseal")).unwrap();
    site.kill(0);
    site.await_state(0, "active");
    assert_eq!(site.state(1).as_deref(), Some("active"));
}

/// A pipe whose reader is gone, and a file that is there, are no place for shares; nothing is changed by what reached nobody.
#[test]
fn what_unseals_stays_until_the_new_shares_are_kept() {
    let mut site = Site::start("unseal-file = \"ROOT/unseal\"");
    write_private(&site.path("unseal"), "correct horse battery staple\n");
    site.run_engines();
    run(&mut site.hsm_at(&[0], &["cluster", "init"])).success();
    site.activate();
    let password = site.path("alice").display().to_string();
    let alice = ["--user", "alice", "--password-file", &password];
    let change = [&alice[..], &["cluster", "change-unseal", "--custodians", "2/3"]].concat();
    let kept = [&change[..], &["--share-out", "share"]].concat();

    // Nothing is asked of the engine if a file can't be made, and none that was made stays.
    write_private(&site.path("share-2.share"), "another's");
    let refused = site.hsm(&kept);
    assert_eq!(refused.code, Some(73), "{}", refused.stderr);
    assert!(!site.path("share-1.share").exists());
    for share in [1, 3] {
        write_private(&site.path(&format!("share-{share}.share")), "\n\n");
    }
    let refused = site.hsm(&kept);
    assert_eq!(refused.code, Some(65), "{}", refused.stderr);
    let method = || {
        let info = site.hsm(&["--output", "json", "cluster", "info"]).success();
        let info: Value = serde_json::from_str(&info).unwrap();
        info["data"]["engines"][0]["unseal"]["method"].clone()
    };

    let mut hsm = site.hsm_at(&[0], &change);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let told = hsm.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    let stderr = String::from_utf8_lossy(&told.stderr);
    assert_eq!(told.status.code(), Some(73), "{stderr}");
    assert!(stderr.contains("nothing was changed"), "{stderr}");
    assert_eq!(method(), "passphrase");

    // As if hsm had been killed between the two steps; and then all engines are.
    let printed = site.hsm(&[&["--output", "json"], &change[..]].concat()).success();
    let printed: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(printed["data"]["confirmed"], false);
    let shares = printed["data"]["shares"].as_array().unwrap();
    for (at, share) in shares.iter().enumerate() {
        let path = site.path(&format!("share-{}.share", at + 1));
        let _earlier = fs::remove_file(&path);
        write_private(&path, &format!("{}\n", share.as_str().unwrap()));
    }
    for replica in [0, 1] {
        site.kill(replica);
        site.await_state(replica, "active");
    }
    assert_eq!(method(), "passphrase");
    // The same command goes on, and is done once more without harm.
    for _ in 0..2 {
        site.hsm(&kept).success();
        assert_eq!(method(), "custodians");
    }
    let confirm = ["cluster", "change-unseal", "--confirm", "--share-file", "share-3.share", "--share-file"];
    site.hsm(&[&alice[..], &confirm, &["share-1.share"]].concat()).success();
    let unknown = site.hsm(&[&alice[..], &confirm, &["share-3.share"]].concat());
    assert_eq!(unknown.code, Some(1), "one share is too few: {}", unknown.stderr);

    // A replica that starts is sealed, and they open it.
    site.kill(1);
    site.await_state(1, "sealed");
    for share in [1, 2] {
        let file = format!("share-{share}.share");
        run(&mut site.hsm_at(&[1], &["cluster", "unseal", "--share-file", &file])).success();
    }
    site.await_state(1, "active");

    // And in one go, to others.
    wait::until("replicas know of the change before", PATIENCE, || {
        let changed = site.hsm(&[&change[..], &["--share-out", "others"]].concat());
        assert!(
            changed.code == Some(0) || changed.stderr.contains("try again in half a minute"),
            "{}",
            changed.stderr
        );
        (changed.code == Some(0)).then_some(())
    });
    for share in 1..=3 {
        let text = fs::read_to_string(site.path(&format!("others-{share}.share"))).unwrap();
        assert!(text.starts_with("hsm-unseal-share-1-") && text.ends_with('\n'), "{text}");
    }
}

#[test]
fn a_passphrase_is_stretched_and_a_wrong_one_starts_nothing() {
    let mut site = Site::start("unseal-file = \"ROOT/unseal\"");
    write_private(&site.path("unseal"), "correct horse battery staple\n");
    site.run_engines();
    let refused = site.hsm(&["cluster", "init", "--unseal", "secret"]);
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    site.hsm(&["cluster", "init"]).success();
    let info = site.hsm(&["--output", "json", "cluster", "info"]).success();
    let info: Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["data"]["engines"][0]["unseal"]["method"], "passphrase");
    site.activate();
    site.kill(0);
    site.await_state(0, "active");
}
