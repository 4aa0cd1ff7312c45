//! The audit log is signed and anchored in the store, and an engine does not go on with another one.

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keycore_audit::{
    AuditKey, Chain, Log, Outlived, Retention, Sink, Trust, VerifyError, Wrong, file, verify,
};
use keycore_engine::{
    Engine, FollowError, LifeEvent, NotaryError, OpenError, Options, PasswordCost, UnsealSecret,
};
use keycore_secmem::SecretBytes;
use keycore_store::Kind;
use keycore_wire::{ActivateCluster, AuditAnchors, ClusterState, InitializeCluster, ListKeys, RefusalCode};

use crate::harness::{PASSWORD, World, name, secret};
use crate::hooked::{Hook, Hooked};

/// An engine of replica 0 whose log is in `dir`; the store is the world's.
fn open(world: &World, dir: &Path, losses: &[(u16, u64)]) -> Result<Engine, OpenError> {
    let (chain, sink, _) = file::open(dir, 0).unwrap();
    let unseal = UnsealSecret::new(SecretBytes::copy_from(&mut [7; 32]).unwrap()).unwrap();
    let options = Options {
        password_cost: PasswordCost::insecure_for_tests(),
        unseal_cost: PasswordCost::insecure_for_tests(),
        accepted_audit_losses: losses.to_vec(),
        ..Options::new(0, 1)
    };
    let log = Log::new(chain, Box::new(sink));
    Engine::open(world.store(), world.store(), log, unseal, options, world.now())
}

/// Some records: of a stranger who is refused, a second apart.
fn act(world: &World, engine: &Engine, times: usize) {
    for _ in 0..times {
        world.pass(Duration::from_secs(2));
        let mut connection = engine.connect(crate::harness::PEER);
        let _refused =
            engine.begin(&mut connection, world.now(), b"GET / HTTP/1.1", keycore_engine::Leisure::Busy);
    }
}

#[test]
fn checkpoints_are_signed_anchored_and_told() {
    let (world, replica) = World::active();
    let sibling = world.replica(1);
    replica.engine.checkpoint_audit(replica.now()).unwrap();
    let mut web = replica.client_of("web");
    let list = web.call(&AuditAnchors).unwrap();
    let [anchor] = &list.anchors[..] else { panic!("{} anchors", list.anchors.len()) };
    assert_eq!((anchor.replica, anchor.boot), (0, 1));
    assert!(AuditKey(list.public_key).signed(list.cluster, anchor));
    let further = keycore_wire::AuditAnchor { sequence: anchor.sequence + 1, ..anchor.clone() };
    assert!(!AuditKey(list.public_key).signed(list.cluster, &further));
    // Nothing new but the login and this: the next one covers them; a sibling signs with the same key.
    replica.engine.checkpoint_audit(replica.now()).unwrap();
    let mut other = sibling.client_of("web");
    other.call(&ListKeys { after: None, limit: 1 }).unwrap();
    sibling.engine.checkpoint_audit(sibling.now()).unwrap();
    let later = web.call(&AuditAnchors).unwrap();
    assert_eq!((later.public_key, later.anchors.len()), (list.public_key, 2));
    assert!(later.anchors[0].sequence > anchor.sequence);
    assert!(AuditKey(later.public_key).signed(later.cluster, &later.anchors[1]));
    // A stranger gets nothing.
    assert_eq!(replica.client().refused(&AuditAnchors), RefusalCode::NotLoggedIn);
}

#[test]
fn without_activity_nothing_is_signed_and_nothing_committed() {
    let (world, replica) = World::active();
    replica.engine.checkpoint_audit(replica.now()).unwrap();
    let revision = world.store().revision().unwrap();
    let records = replica.audit.map(&replica.engine, |_| ()).len();
    replica.engine.checkpoint_audit(replica.now()).unwrap();
    assert_eq!(world.store().revision().unwrap(), revision);
    assert_eq!(replica.audit.map(&replica.engine, |_| ()).len(), records);
}

#[test]
fn a_log_that_was_put_back_is_refused_until_the_loss_is_accepted() {
    let (world, replica) = World::active();
    drop(replica);
    let (dir, old) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let life = |losses: &[(u16, u64)], records| -> Result<(), OpenError> {
        let engine = open(&world, dir.path(), losses)?;
        act(&world, &engine, records);
        engine.checkpoint_audit(world.now()).unwrap();
        Ok(())
    };
    life(&[], 3).unwrap();
    copy_log(dir.path(), old.path());
    life(&[], 4).unwrap();
    life(&[], 1).unwrap();

    // Put back, and removed: both are refused, and what was accepted is for this anchor only.
    copy_log(old.path(), dir.path());
    let Err(OpenError::AuditRolledBack(lost)) = life(&[], 1) else { panic!("went on") };
    assert_eq!((lost.replica, lost.anchored), (0, 10));
    assert!(lost.to_string().contains("ends at record 4"), "{lost}");
    assert!(lost.to_string().contains("accept-audit-loss = [\"0@10\"]"), "{lost}");
    std::fs::remove_dir_all(dir.path().join("engine-0")).unwrap();
    assert!(matches!(life(&[], 1), Err(OpenError::AuditRolledBack(_))));
    assert!(matches!(life(&[(0, 9), (1, 10)], 1), Err(OpenError::AuditRolledBack(_))));
    copy_log(old.path(), dir.path());
    life(&[(0, 10)], 1).unwrap();
    life(&[], 1).unwrap();

    let mut told = Vec::new();
    keycore_audit::read(dir.path(), Some(0), 1, &mut |record| {
        if record.entry.operation == "AuditLoss" {
            told.push(record.entry.detail.to_owned());
        }
    })
    .unwrap();
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("accepted: the log ends at record 4, and was anchored at 10"), "{}", told[0]);
}

#[test]
fn a_whole_log_written_anew_leads_to_another_head_than_its_anchor() {
    let (world, replica) = World::active();
    drop(replica);
    let (dir, forged) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let engine = open(&world, dir.path(), &[]).unwrap();
    act(&world, &engine, 3);
    engine.checkpoint_audit(world.now()).unwrap();
    drop(engine);
    // As long as the true one, by a log of a cluster of the forger's.
    let (world_of_forger, _replica) = World::active();
    world_of_forger.pass(Duration::from_secs(1));
    let engine = open(&world_of_forger, forged.path(), &[]).unwrap();
    act(&world_of_forger, &engine, 3);
    engine.checkpoint_audit(world_of_forger.now()).unwrap();
    act(&world_of_forger, &engine, 9);
    engine.sync_audit().unwrap();
    drop(engine);
    let Err(OpenError::AuditRolledBack(lost)) = open(&world, forged.path(), &[]) else { panic!("went on") };
    assert!(lost.to_string().contains("has another record there"), "{lost}");
    assert!(verify(forged.path(), Trust::default()).is_ok());
}

#[test]
fn the_verifier_takes_what_the_engine_tells() {
    let (world, replica) = World::active();
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&world, dir.path(), &[]).unwrap();
    act(&world, &engine, 3);
    engine.checkpoint_audit(world.now()).unwrap();
    drop(engine);
    let list = replica.client_of("web").call(&AuditAnchors).unwrap();
    let trust = Trust { key: Some(AuditKey(list.public_key)), anchors: &list.anchors };
    let report = verify(dir.path(), trust).unwrap();
    assert_eq!((report.replicas[0].checkpoints, report.replicas[0].signed_to), (1, 3));
    std::fs::remove_dir_all(dir.path().join("engine-0")).unwrap();
    drop(file::open(dir.path(), 0).unwrap());
    let error = verify(dir.path(), trust).unwrap_err();
    assert!(
        matches!(error, VerifyError::Broken { sequence: 1, wrong: Wrong::RolledBack { anchor: 3 }, .. }),
        "{error}"
    );
}

/// A store that was empty gets a cluster which knows more of this replica's log than there is.
#[test]
fn nothing_is_served_before_the_log_is_held_against_an_anchor_that_came_later() {
    let world = World::new();
    let late = world.replica(0);
    let other = world.replica(0);
    let mut client = other.client();
    client.call(&InitializeCluster).unwrap();
    client.call(&ActivateCluster { admin: name("root"), password: secret(PASSWORD) }).unwrap();
    other.engine.checkpoint_audit(other.now()).unwrap();
    let refused = late.client().login("root", PASSWORD).unwrap_err();
    assert_eq!(refused.code, RefusalCode::AuditUnavailable);
    let lost = late.engine.checkpoint_audit(late.now()).unwrap_err();
    assert!(matches!(lost, NotaryError::RolledBack(_)), "{lost}");
}

/// What is written behind the end of another log is evidence of nothing, and makes it look as if it were this one.
#[test]
fn a_log_that_is_another_one_takes_no_record_at_all() {
    let world = World::new();
    let (late, other) = (world.replica(0), world.replica(0));
    other.client().call(&InitializeCluster).unwrap();
    other.engine.checkpoint_audit(other.now()).unwrap();
    late.follow();
    let records = late.audit.map(&late.engine, |_| ()).len();
    world.pass(Duration::from_secs(2));
    let mut client = late.client();
    assert_eq!(client.login("root", PASSWORD).unwrap_err().code, RefusalCode::AuditUnavailable);
    assert_eq!(client.refused(&ListKeys { after: None, limit: 1 }), RefusalCode::AuditUnavailable);
    client.send(b"GET / HTTP/1.1");
    late.engine.note_life(LifeEvent::Stopped, late.now()).unwrap_err();
    assert_eq!(late.audit.map(&late.engine, |_| ()).len(), records);
}

/// A sibling initializes the cluster between the question whether the log is ready and what it is asked for.
#[test]
fn nobody_becomes_admin_by_an_engine_whose_log_is_another_one() {
    let world = World::new();
    let other = world.replica(0);
    let hook = Hook::default();
    let store = Box::new(Hooked { store: world.store(), hook: hook.clone() });
    let late = world.open(store, 0, 7).unwrap();
    let mut client = late.client();
    let sibling = other.clone();
    hook.once(Kind(1), move || {
        sibling.client().call(&InitializeCluster).unwrap();
        sibling.engine.checkpoint_audit(sibling.now()).unwrap();
    });
    let activate = ActivateCluster { admin: name("mallory"), password: secret(PASSWORD) };
    assert_eq!(client.refused(&activate), RefusalCode::AuditUnavailable);
    assert!(hook.is_over());
    other.follow();
    assert_eq!(other.engine.cluster_state(), ClusterState::Initialized);
}

#[test]
fn a_log_that_can_t_be_read_for_a_moment_is_looked_at_again() {
    let world = World::new();
    let (late, other) = (world.replica(0), world.replica(0));
    act(&world, &late.engine, 9);
    other.client().call(&InitializeCluster).unwrap();
    other.engine.checkpoint_audit(other.now()).unwrap();
    late.audit.unreadable.store(true, Ordering::SeqCst);
    let unread = late.engine.follow(late.now());
    assert!(matches!(unread, Err(FollowError::Audit(_))), "{unread:?}");
    assert_eq!(late.engine.cluster_state(), ClusterState::Uninitialized);
    late.audit.unreadable.store(false, Ordering::SeqCst);
    assert!(late.follow());
    assert_eq!(late.engine.cluster_state(), ClusterState::Initialized);
}

fn copy_log(from: &Path, to: &Path) {
    let (from, to) = (from.join("engine-0"), to.join("engine-0"));
    let _absent = std::fs::remove_dir_all(&to);
    std::fs::create_dir_all(&to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// Has something to take away whenever it is asked, and tells what it is asked.
struct Forgetful(Arc<Mutex<Vec<String>>>);

impl Sink for Forgetful {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.windows(10).any(|name| name == b"AuditPrune") {
            self.0.lock().unwrap().push("recorded".into());
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn outlived(&mut self, keep: &Retention, now: u64, anchored: u64) -> io::Result<Option<Outlived>> {
        self.0.lock().unwrap().push(format!("asked {keep:?} {now} {anchored}"));
        let head = keycore_audit::Head([0; 32]);
        Ok(Some(Outlived { first_kept: anchored, head, segments: 1, bytes: 1 }))
    }

    fn remove_before(&mut self, first: u64) -> io::Result<()> {
        self.0.lock().unwrap().push(format!("removed {first}"));
        Ok(())
    }
}

#[test]
fn what_is_anchored_may_go_and_a_record_says_so_first() {
    let (world, replica) = World::active();
    let told = Arc::new(Mutex::new(Vec::new()));
    let unseal = UnsealSecret::new(SecretBytes::copy_from(&mut [7; 32]).unwrap()).unwrap();
    let keep = Retention { age: Some(Duration::from_secs(60)), bytes: None };
    let options = Options {
        password_cost: PasswordCost::insecure_for_tests(),
        unseal_cost: PasswordCost::insecure_for_tests(),
        audit_retention: keep,
        ..Options::new(5, 1)
    };
    let log = Log::new(Chain::new(5), Box::new(Forgetful(Arc::clone(&told))));
    let engine = Engine::open(world.store(), world.store(), log, unseal, options, world.now()).unwrap();
    act(&world, &engine, 3);
    assert!(told.lock().unwrap().is_empty(), "before it is anchored");
    engine.checkpoint_audit(world.now()).unwrap();
    let anchors = replica.client_of("web").call(&AuditAnchors).unwrap().anchors;
    let anchored = anchors.iter().find(|anchor| anchor.replica == 5).unwrap();
    let (now, last) = (anchored.at_micros, anchored.sequence);
    let expected = [format!("asked {keep:?} {now} {last}"), "recorded".into(), format!("removed {last}")];
    assert_eq!(*told.lock().unwrap(), expected);
}
