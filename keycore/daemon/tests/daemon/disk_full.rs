//! A disk that is really full: the audit log lies on a small file system of its own, in a mount namespace.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use keycore_wire::{
    ActivateCluster, ClusterInfo, IdempotencyKey, InitializeCluster, Login, Operation, RefusalCode,
    ReplyError, Role, Secret, UserCreate,
};

use rustix::thread::CapabilitySet;

use crate::fixture::{Site, await_some};
use crate::peer::Peer;

/// `$1`: where the audit log is, `$2`: the program, `$3`: its configuration, `$4`: where `save` copies the log to.
/// The namespace and all in it end with this script, and the script with its input.
const SCRIPT: &str = r#"
set -eu
mount -t tmpfs -o size=256k,mode=0700 audit "$1"
"$2" run --config "$3" 2>>"$5" & engine=$!
trap 'kill $engine 2>/dev/null; wait $engine || true' EXIT
while read -r what; do
    case $what in
        fill) dd if=/dev/zero of="$1/ballast" bs=4096 2>/dev/null || true ;;
        free) rm "$1/ballast" ;;
        save) cp -R "$1" "$4" ;;
    esac
    echo "$what"
done
"#;

/// An engine whose audit log lies on a disk of 256 KiB.
struct SmallDisk {
    site: Site,
    script: Child,
    orders: Option<ChildStdin>,
    done: BufReader<ChildStdout>,
}

impl SmallDisk {
    /// None if this machine lets nobody make a mount namespace.
    fn start() -> Option<Self> {
        let namespaces: &[&[&str]] = &[&["--mount"], &["--user", "--map-root-user", "--mount"]];
        let allowed = namespaces.iter().find(|flags| {
            let try_it = ["mount", "-t", "tmpfs", "none", "/mnt"];
            let output = Command::new("unshare").args(**flags).args(try_it).output();
            output.is_ok_and(|output| output.status.success())
        })?;
        let site = Site::new("replicas = 1");
        let audit = site.path("state/audit");
        std::fs::create_dir_all(&audit).unwrap();
        for directory in [site.path("state"), audit.clone()] {
            std::fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        }
        let mut script = Command::new("unshare")
            .args(*allowed)
            .args(["sh", "-c", SCRIPT, "sh"])
            .args([&audit, Path::new(env!("CARGO_BIN_EXE_hsm-engine")), &site.config()])
            .args([site.path("saved"), site.path("log")])
            .env_remove("CREDENTIALS_DIRECTORY")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = script.stdin.take();
        let done = BufReader::new(script.stdout.take().unwrap());
        Some(Self { site, script, orders, done })
    }

    fn order(&mut self, what: &str) {
        writeln!(self.orders.as_ref().unwrap(), "{what}").unwrap();
        let mut answer = String::new();
        self.done.read_line(&mut answer).unwrap();
        assert_eq!(answer.trim_end(), what, "the log:\n{}", self.site.log());
    }

    fn connect(&self) -> Peer {
        let socket = self.site.path("run/engine-0.sock");
        await_some("the engine to serve", || {
            let mut peer = Peer::connect(&socket).ok()?;
            peer.try_hello().ok().map(|_| peer)
        })
    }

    fn saved(&mut self) -> PathBuf {
        self.order("save");
        self.site.path("saved")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The script ends with its input, the supervisor with the script, the replicas with the supervisor.
        self.orders = None;
        let _reaped = self.script.wait();
    }
}

fn user(number: u8) -> UserCreate {
    UserCreate {
        name: format!("user-{number}").parse().unwrap(),
        role: Role::CryptoUser,
        password: Some(Secret::new(b"a password of a test".to_vec())),
        peer_uid: None,
        idempotency_key: IdempotencyKey([number; 16]),
    }
}

fn refusal<T: Operation>(answer: Result<T::Reply, ReplyError>) -> Option<keycore_wire::Refusal> {
    match answer {
        Ok(_) => None,
        Err(ReplyError::Refused(refusal)) => Some(refusal),
        Err(error) => panic!("{error}"),
    }
}

/// How often the engine's own log tells that records are kept in memory.
fn said(engine: &SmallDisk) -> usize {
    engine
        .site
        .log()
        .matches("ERROR audit records wait in memory: the audit log can't be written: No space")
        .count()
}

#[test]
fn a_full_disk_refuses_changes_says_why_and_is_over_when_there_is_room() {
    let Some(mut engine) = SmallDisk::start() else {
        // A container may lack what no tool can bring; whoever may mount must be able to.
        let may_mount = rustix::thread::capabilities(None)
            .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN));
        assert!(!may_mount, "no mount namespace can be made here, and the capability is there");
        println!("SKIPPED: no mount namespace can be made here");
        return;
    };
    let mut admin = engine.connect();
    admin.call(&InitializeCluster).unwrap();
    let password = || Secret::new(b"a password of a test".to_vec());
    admin.call(&ActivateCluster { admin: "admin".parse().unwrap(), password: password() }).unwrap();
    admin.call(&Login { user: "admin".parse().unwrap(), password: password() }).unwrap();
    admin.call(&user(0)).unwrap();

    engine.order("fill");
    // The last block of the file has room for some records yet.
    let refused =
        (1..100).find_map(|number| refusal::<UserCreate>(admin.call(&user(number))).map(|no| (number, no)));
    let (first, no) = refused.expect("a refusal when the disk is full");
    assert_eq!(no.code, RefusalCode::AuditUnavailable);
    assert!(no.detail.contains("the disk of the audit log is full"), "{}", no.detail);
    for number in first..first + 20 {
        assert_eq!(
            refusal::<UserCreate>(admin.call(&user(number))).map(|no| no.code),
            Some(RefusalCode::AuditUnavailable)
        );
    }
    // What needs no record is answered.
    admin.call(&ClusterInfo).unwrap();
    await_some("the log to tell", || said(&engine).ge(&1).then_some(()));

    engine.order("free");
    await_some("the engine to recover", || {
        refusal::<UserCreate>(admin.call(&user(first))).is_none().then_some(())
    });
    await_some("the log to tell that it is over", || {
        engine.site.log().contains("over: audit records wait in memory").then_some(())
    });
    assert_eq!(said(&engine), 1, "said once:\n{}", engine.site.log());

    let saved = engine.saved();
    let trust = keycore_audit::Trust::default();
    let report = keycore_audit::verify(&saved, trust).expect("no gap");
    assert!(report.records() >= u64::from(first) * 2, "{} records", report.records());
}
