//! A cluster whose custodians unseal it: the real engines start sealed, and signatures go on elsewhere meanwhile.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hsm_e2e::{Site, SiteOptions, run, wait, write_private};
use keycore_client::Endpoint;
use keycore_client::blocking::Client;
use keycore_wire::{
    Attributes, ClusterInfo, GenerateKey, IdempotencyKey, KeyAlgorithm, KeyTemplate, Sign, SignatureScheme,
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

/// What unseals a site of the tests below that have no custodians.
const PASSPHRASE: &str = "correct horse battery staple\n";

fn start(unseal: Option<&str>) -> Site {
    Site::start(SiteOptions { unseal, ..SiteOptions::default() })
}

fn state(site: &Site, replica: u16) -> Option<String> {
    let told = run(&mut site.hsm_at(&[replica], &["--output", "json", "cluster", "info"]));
    let told: Value = serde_json::from_str(&told.stdout).ok()?;
    told["data"]["engines"][0]["state"].as_str().map(str::to_owned)
}

fn await_state(site: &Site, replica: u16, expected: &str) {
    wait::until(&format!("replica {replica} is {expected}"), PATIENCE, || {
        (state(site, replica).as_deref() == Some(expected)).then_some(())
    });
}

/// Kills a replica, and waits until another one in its place is in a state.
fn kill(site: &Site, replica: u16, expected: &str) {
    site.await_another(replica, site.kill(replica));
    await_state(site, replica, expected);
}

/// What each engine tells of its unsealing.
fn unsealing(site: &Site) -> Vec<Value> {
    let info = site.hsm(&["--output", "json", "cluster", "info"]).json();
    let engines = info["data"]["engines"].as_array().unwrap();
    engines.iter().map(|engine| engine["unseal"].clone()).collect()
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
    let site = start(None);
    let init = ["cluster", "init", "--custodians", "2/3", "--share-out", "share"];
    let said = run(&mut site.hsm_at(&[0], &init)).success();
    assert!(said.contains("share-3.share") && !said.contains("hsm-unseal-share-1-"), "{said}");
    site.activate();
    await_state(&site, 1, "sealed");

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
    assert_eq!(state(&site, 1).as_deref(), Some("active"));

    // Each replica in turn is killed, comes back sealed, and is unsealed; not one signature fails.
    let (stop, made) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut client = site.client(&site.endpoints());
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
            kill(&site, replica, "sealed");
            await_more("signatures while a replica is sealed");
            for share in ["share-2.share", "share-3.share"] {
                let give = ["cluster", "unseal", "--share-file", share];
                run(&mut site.hsm_at(&[replica], &give)).success();
            }
            await_state(&site, replica, "active");
        }
        stop.store(true, Ordering::SeqCst);
        signing.join().unwrap();
    });
}

/// Two replicas sign while the cluster key is rotated; the one that seals records anew is killed on the way.
#[test]
fn the_cluster_key_is_rotated_under_load_and_a_kill_on_the_way_costs_nothing() {
    const KEYS: u32 = 1500;
    let site = start(Some(PASSPHRASE));
    site.hsm(&["cluster", "init"]).success();
    site.activate();
    site.make_keys(KEYS);
    let (stop, made) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut client = site.client(&site.endpoints());
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
            kill(&site, replica, "active");
            alive();
        }
        wait::until("the rotation is complete", 2 * PATIENCE, || {
            alive();
            let engines = unsealing(&site);
            let complete = |engine: &Value| engine["generation"] == 2 && engine["resealing"].is_null();
            (engines.len() == 2 && engines.iter().all(complete)).then_some(())
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
    kill(&site, 0, "active");
    assert_eq!(state(&site, 1).as_deref(), Some("active"));
}

/// A pipe whose reader is gone, and a file that is there, are no place for shares; nothing is changed by what reached nobody.
#[test]
fn what_unseals_stays_until_the_new_shares_are_kept() {
    let site = start(Some(PASSPHRASE));
    site.hsm(&["cluster", "init"]).success();
    site.activate();
    let alice = ["--user", "alice", "--password-file", "alice"];
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
    let method = || unsealing(&site)[0]["method"].clone();

    let mut hsm = site.hsm_at(&[0], &change);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let told = hsm.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    let stderr = String::from_utf8_lossy(&told.stderr);
    assert_eq!(told.status.code(), Some(73), "{stderr}");
    assert!(stderr.contains("nothing was changed"), "{stderr}");
    assert_eq!(method(), "passphrase");

    // As if hsm had been killed between the two steps; and then all engines are.
    let printed = site.hsm(&[&["--output", "json"], &change[..]].concat()).json();
    assert_eq!(printed["data"]["confirmed"], false);
    let shares = printed["data"]["shares"].as_array().unwrap();
    for (at, share) in shares.iter().enumerate() {
        let path = site.path(&format!("share-{}.share", at + 1));
        let _earlier = fs::remove_file(&path);
        write_private(&path, &format!("{}\n", share.as_str().unwrap()));
    }
    for replica in [0, 1] {
        kill(&site, replica, "active");
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
    kill(&site, 1, "sealed");
    for share in [1, 2] {
        let file = format!("share-{share}.share");
        run(&mut site.hsm_at(&[1], &["cluster", "unseal", "--share-file", &file])).success();
    }
    await_state(&site, 1, "active");

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
    let site = start(Some(PASSPHRASE));
    let refused = site.hsm(&["cluster", "init", "--unseal", "secret"]);
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    site.hsm(&["cluster", "init"]).success();
    assert_eq!(unsealing(&site)[0]["method"], "passphrase");
    site.activate();
    kill(&site, 0, "active");
}
