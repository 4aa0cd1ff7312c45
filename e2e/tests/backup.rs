//! A cluster is lost and comes back elsewhere; and an engine is killed while it makes a backup.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hsm_e2e::needle::forms;
use hsm_e2e::{SelfMadeKey, Site, SiteOptions, binary, files, run, tool, wait};
use rustix::process::Signal;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

/// Engines with an unseal secret of their own.
fn start(unseal: &str, backup: &str) -> Site {
    Site::start(SiteOptions { unseal: Some(unseal), configuration: backup, ..SiteOptions::default() })
}

fn initialize(site: &Site) {
    site.hsm(&["cluster", "init"]).success();
    site.activate();
}

/// Shares of an identity, and the table of the configuration for its recipient.
fn keygen(directory: &Path, backups: &Path) -> (Vec<String>, String) {
    let mut keygen = Command::new(binary("hsm"));
    keygen
        .current_dir(directory)
        .args(["--output", "json", "backup", "keygen", "--shares", "2/3", "--out", "key"]);
    let made = run(&mut keygen).json();
    let recipient = made["data"]["recipient"].as_str().unwrap();
    let shares = (1..4).map(|n| directory.join(format!("key-{n}.share")).display().to_string()).collect();
    (
        shares,
        format!("[backup]\ndirectory = {backups:?}\nrecipients = [\"{recipient}\"]\nevery = \"never\"\n"),
    )
}

#[test]
fn a_cluster_comes_back_in_another_directory_under_another_secret() {
    let Some(openssl) = tool::find("openssl") else { return };
    let safe = tempfile::tempdir().unwrap();
    let (shares, backup) = keygen(safe.path(), &safe.path().join("backups"));
    let two = ["--share", &shares[2], "--share", &shares[0]];
    let mut old = start("the unseal secret of the old engines\n", &backup);
    initialize(&old);
    let generate = ["key", "generate-asymmetric-pair", "ec", "--curve", "p256", "--label", "www"];
    old.as_user("web", &generate).success();
    let public = old.as_user("web", &["key", "public", "www"]).success();
    fs::write(safe.path().join("public.pem"), &public).unwrap();

    let made = old.json("alice", &["backup", "create"]);
    let file = safe.path().join("backups").join(made["name"].as_str().unwrap()).display().to_string();
    let listed = old.json("alice", &["backup", "list"]);
    assert_eq!((&listed["backups"][0], listed["backups"].as_array().unwrap().len()), (&made, 1));
    old.as_user("alice", &[&["backup", "verify", &file][..], &two].concat()).success();
    assert_eq!(old.as_user("web", &["backup", "create"]).code, Some(77), "an admin's");
    old.stop_engines(Signal::TERM);

    let mut new = start("the unseal secret of the new engines\n", "");
    let restore = |arguments: &[&str]| new.hsm(&[&["backup", "restore"][..], arguments].concat());
    let few = restore(&[&file, "--share", &shares[0]]);
    assert!(few.stderr.contains("1 shares are too few: 2 different"), "{}", few.stderr);
    let (others, _) = keygen(&new.path(""), &new.path("backups"));
    let wrong = restore(&[&file, "--share", &others[0], "--share", &others[1]]);
    assert!(
        wrong.stderr.contains("does not open this backup") && wrong.stderr.contains(&file),
        "{}",
        wrong.stderr
    );
    let content = fs::read(&file).unwrap();
    for (name, damaged) in
        [("cut.age", content[..content.len() - 1].to_vec()), ("flipped.age", flip(&content))]
    {
        let path = new.path(name).display().to_string();
        fs::write(&path, damaged).unwrap();
        let refused = restore(&[&[path.as_str()][..], &two].concat());
        assert_eq!(refused.code, Some(65), "{}", refused.stderr);
        assert!(refused.stderr.contains(name), "{}", refused.stderr);
    }
    new.hsm(&[&["backup", "verify", &file][..], &two].concat()).success();
    restore(&[&[file.as_str()][..], &two].concat()).success();
    let again = restore(&[&[file.as_str()][..], &two].concat());
    assert_ne!(again.code, Some(0), "once");

    for life in ["restored", "started anew"] {
        assert_eq!(new.as_user("web", &["key", "public", "www"]).success(), public, "{life}");
        fs::write(new.path("message"), life).unwrap();
        let signature = new.path(&format!("{life}.sig")).display().to_string();
        let sign = ["crypto", "sign", "--key", "www", "--data-file", "message", "--out", &signature];
        new.as_user("web", &sign).success();
        let verified = run(Command::new(&openssl)
            .args(["dgst", "-sha256", "-verify"])
            .arg(safe.path().join("public.pem"))
            .args(["-signature", &signature])
            .arg(new.path("message")));
        assert!(verified.success().contains("Verified OK"));
        assert_eq!(
            new.as_user("web", &["user", "delete", "alice"]).code,
            Some(77),
            "{life}: the same policies"
        );
        let info = new.json("alice", &["cluster", "info"]);
        assert_eq!(info["cluster"], made["cluster"]);
        assert_eq!(info["engines"][0]["restored"]["revision"], made["revision"], "{info}");
        new.stop_engines(Signal::TERM);
        new.start_engines();
    }
    let audit = new.path("state/audit").display().to_string();
    new.as_user("alice", &["audit", "verify", "--dir", &audit, "--live"]).success();
}

fn flip(content: &[u8]) -> Vec<u8> {
    let mut flipped = content.to_vec();
    flipped[content.len() - 100] ^= 1;
    flipped
}

#[test]
fn no_secret_is_in_a_backup_or_left_behind_by_one() {
    let Some(openssl) = tool::find("openssl") else { return };
    let safe = tempfile::tempdir().unwrap();
    let key = SelfMadeKey::generate(&openssl, safe.path());
    let identity = safe.path().join("identity").display().to_string();
    let mut keygen = Command::new(binary("hsm"));
    keygen.args(["--output", "json", "backup", "keygen", "--out", &identity]);
    let printed = run(&mut keygen).json();
    let recipient = printed["data"]["recipient"].as_str().unwrap();
    let of = |directory: &Path| {
        format!("[backup]\ndirectory = {directory:?}\nrecipients = [\"{recipient}\"]\nevery = \"never\"\n")
    };
    let elsewhere = tempfile::tempdir().unwrap();
    let [backups, of_the_new] = ["backups", "of-the-new"].map(|name| elsewhere.path().join(name));

    let old = start("the unseal secret of the old engines\n", &of(&backups));
    initialize(&old);
    let pem = key.pem.display().to_string();
    old.as_user("web", &["key", "import", "--label", "self-made", "--file", &pem]).success();
    let made = old.json("alice", &["backup", "create"]);
    let file = backups.join(made["name"].as_str().unwrap()).display().to_string();
    old.as_user("alice", &["backup", "verify", &file, "--identity", &identity]).success();
    let new = start("the unseal secret of the new engines\n", &of(&of_the_new));
    new.hsm(&["backup", "restore", &file, "--identity", &identity]).success();
    new.as_user("web", &["crypto", "sign", "--key", "self-made", "--data-file", &pem]).success();
    new.json("alice", &["backup", "create"]);

    let text = fs::read_to_string(&identity).unwrap();
    let secret = text.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).unwrap();
    let needles: Vec<_> = [
        ("the key", &key.scalar[..]),
        ("the identity", secret.as_bytes()),
        ("a password", b"the password of web"),
        ("the old unseal secret", b"the unseal secret of the old engines"),
        ("the new unseal secret", b"the unseal secret of the new engines"),
    ]
    .into_iter()
    .flat_map(|(what, secret)| forms(what, secret))
    .collect();
    let none: [String; 0] = [];
    let (old_state, new_state) = (old.path("state"), new.path("state"));
    for directory in [&backups, &of_the_new, &old_state, &new_state] {
        assert_eq!(files::hits(directory, None, &needles), none);
    }
    // The search finds them where they belong.
    let belonging = files::hits(safe.path(), None, &needles);
    assert!(belonging.iter().any(|hit| hit.contains("the identity, as it is")), "{belonging:?}");
    let belonging = files::hits(&new.path(""), Some(&new_state), &needles);
    assert!(belonging.iter().any(|hit| hit.contains("the new unseal secret")), "{belonging:?}");
}

#[test]
fn an_engine_killed_while_it_makes_a_backup_leaves_no_half_of_one() {
    let safe = tempfile::tempdir().unwrap();
    let backups = safe.path().join("backups");
    let (shares, backup) = keygen(safe.path(), &backups);
    let site = start("the unseal secret of these engines\n", &backup);
    initialize(&site);
    site.make_keys(400);
    let mut killed_in_the_middle = 0;
    for round in 0..8 {
        let arguments = ["--user", "alice", "--password-file", "alice", "backup", "create"];
        let mut create = site.hsm_at(&[0, 1], &arguments);
        let mut create = create.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        // The file grows from nothing: each round it is killed at another size.
        let size = || {
            let unfinished = [0, 1].into_iter().map(|replica| backups.join(format!(".unfinished-{replica}")));
            unfinished.filter_map(|path| fs::metadata(path).ok()).map(|found| found.len()).max()
        };
        while size().is_none_or(|size| size < round * 30_000) && begun.elapsed() < Duration::from_secs(10) {
            if create.try_wait().unwrap().is_some() {
                break;
            }
            std::hint::spin_loop();
        }
        let killed = [0, 1].map(|replica| (replica, site.kill(replica)));
        killed_in_the_middle += u32::from(size().is_some());
        create.wait().unwrap();
        for (replica, pid) in killed {
            site.await_another(replica, pid);
        }
    }
    let whole = site.json("alice", &["backup", "create"]);
    let listed = site.json("alice", &["backup", "list"]);
    assert_eq!(listed["damaged"].as_array().map(Vec::len), Some(0), "{listed}");
    for backup in listed["backups"].as_array().unwrap() {
        let file = backups.join(backup["name"].as_str().unwrap()).display().to_string();
        let verify = ["backup", "verify", &file, "--share", &shares[0], "--share", &shares[1]];
        site.as_user("alice", &verify).success();
    }
    assert_eq!(whole["keys"], 400);
    assert!(killed_in_the_middle > 0, "no backup was under way when an engine was killed");
    println!("{killed_in_the_middle} of 8 kills came while a backup was being written");
}

#[test]
fn a_backup_that_is_due_is_made_by_itself() {
    let safe = tempfile::tempdir().unwrap();
    let (_, backup) = keygen(safe.path(), &safe.path().join("backups"));
    let site = start("the unseal secret of these engines\n", &backup.replace("never", "24h"));
    initialize(&site);
    let made = wait::until("a backup is there", PATIENCE, || {
        site.json("alice", &["backup", "list"])["backups"].as_array()?.first().cloned()
    });
    let health = wait::until("the engines tell of it", PATIENCE, || {
        let info = site.json("alice", &["cluster", "info"]);
        Some(info["engines"][0]["backups"].clone()).filter(|health| health["name"] == made["name"])
    });
    assert_eq!((&health["failures"], &health["failure"]), (&Value::from(0), &Value::from("")));
}

/// Run by hand for the figures of `docs/backup.md`: `KEYCORE_BACKUP_KEYS=100000 cargo test -p hsm-e2e --test backup -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes; measures"]
fn what_a_backup_of_many_keys_costs() {
    let keys = std::env::var("KEYCORE_BACKUP_KEYS").map_or(1000, |text| text.parse().unwrap());
    // The keys are made in memory, if it can be had: their syncs are not what is measured.
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let safe = tempfile::tempdir().unwrap();
    let (shares, backup) = keygen(safe.path(), &safe.path().join("backups"));
    let two = ["--share", &shares[0], "--share", &shares[1]];
    let unseal = Some("the unseal secret of the old engines\n");
    let mut old = Site::start(SiteOptions {
        place: Some(&place),
        unseal,
        configuration: &backup,
        ..SiteOptions::default()
    });
    initialize(&old);
    old.make_keys(keys);
    old.stop_engines(Signal::TERM);
    old.start_engines();
    let peak = |site: &Site| [0, 1].into_iter().map(|replica| peak_kib(site.pid(replica))).max().unwrap();
    let (before, begun) = (peak(&old), Instant::now());
    let made = old.json("alice", &["--timeout", "3600", "backup", "create"]);
    println!("{keys} keys: {} bytes, made and verified in {:.2?}", made["bytes"], begun.elapsed());
    println!("peak of an engine's memory: {before} KiB before, {} KiB after", peak(&old));
    let file = safe.path().join("backups").join(made["name"].as_str().unwrap()).display().to_string();
    let mut new = start("the unseal secret of the new engines\n", "");
    let (before, begun) = (peak(&new), Instant::now());
    new.hsm(&[&["--timeout", "3600", "backup", "restore", &file][..], &two].concat()).success();
    println!("restored in {:.2?}, peak {before} KiB before, {} KiB after", begun.elapsed(), peak(&new));
    assert_eq!(new.json("alice", &["cluster", "info"])["engines"][0]["keys"], keys);
    new.stop_engines(Signal::TERM);
}

/// Most memory that a process ever had.
fn peak_kib(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
