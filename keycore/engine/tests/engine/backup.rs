//! Backups made, listed, verified and restored into another cluster, or not.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keycore_audit::Outcome;
use keycore_backup::Identity;
use keycore_engine::{BackupFile, BackupPlace, BackupPlan, OpenError, Resealed};
use keycore_store::Kind;
use keycore_wire::{
    Attributes, AuditAnchors, BackupChunk, BackupContent, BackupCreate, BackupEnd, BackupEndBy, BackupInfo,
    BackupList, BackupRestore, BackupVerify, ClusterInfo, ClusterState, ClusterStatus, InitializeCluster,
    KeyAlgorithm, KeyPurpose, KeySelector, PublicKey, QuorumApprove, QuorumService, QuorumSetValue, Refusal,
    RefusalCode, Resume, Role, RotateClusterKey, Secret, SessionToken, Sign, SignatureScheme, UnsealCluster,
    UnsealMethod, UserChangePassword, UserList, ZeroizeCluster,
};

use crate::harness::{Client, PASSWORD, Replica, World, name};
use crate::quorum::{OwnKey, propose, register};

/// Which logs are elsewhere.
const ELSEWHERE: Kind = Kind(56);

/// A directory of backups in memory.
#[derive(Clone, Default)]
struct Shelf {
    files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    full: Arc<AtomicBool>,
}

struct Unnamed {
    shelf: Shelf,
    content: Cursor<Vec<u8>>,
}

impl Shelf {
    fn names(&self) -> Vec<String> {
        self.files.lock().unwrap().keys().cloned().collect()
    }

    fn file(&self, name: &str) -> Vec<u8> {
        self.files.lock().unwrap()[name].clone()
    }
}

impl BackupPlace for Shelf {
    fn create(&self) -> io::Result<Box<dyn BackupFile>> {
        Ok(Box::new(Unnamed { shelf: self.clone(), content: Cursor::default() }))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(Self::names(self))
    }

    fn open(&self, name: &str) -> io::Result<(Box<dyn Read>, u64)> {
        let file = self.file(name);
        let size = file.len() as u64;
        Ok((Box::new(Cursor::new(file)), size))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.lock().unwrap().remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl BackupFile for Unnamed {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn publish(self: Box<Self>, name: &str) -> io::Result<()> {
        self.shelf.files.lock().unwrap().insert(name.to_owned(), self.content.into_inner());
        Ok(())
    }
}

impl Write for Unnamed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.shelf.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.content.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Unnamed {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.content.read(bytes)
    }
}

impl Seek for Unnamed {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.content.seek(to)
    }
}

fn identity(fill: u8) -> Identity {
    Identity::from_bytes(&mut [fill; 32])
}

fn identity_text(fill: u8) -> Secret {
    Secret::new(identity(fill).to_text().as_bytes().to_vec())
}

/// Lets a replica make backups for the identity 1.
fn enable(world: &World, replica: &mut Replica, shelf: &Shelf, every: Option<Duration>, keep: usize) {
    let recipients = vec![identity(1).recipient().unwrap()];
    let plan = BackupPlan { place: Box::new(shelf.clone()), recipients, every, keep };
    Arc::get_mut(&mut replica.engine).unwrap().enable_backups(world.archive(), Some(plan));
}

/// An active cluster with backups.
fn active() -> (World, Replica, Shelf) {
    let (world, replica) = World::active();
    drop(replica);
    let (mut replica, shelf) = (world.replica(0), Shelf::default());
    enable(&world, &mut replica, &shelf, None, 90);
    (world, replica, shelf)
}

/// An engine without a cluster, with an unseal secret of its own, that restores.
fn fresh() -> (World, Replica) {
    let world = World::new();
    let mut replica = world.open(world.store(), 0, 99).unwrap();
    Arc::get_mut(&mut replica.engine).unwrap().enable_backups(world.archive(), None);
    (world, replica)
}

/// Sends a file in chunks of `size`.
fn send(client: &mut Client, file: &[u8], size: usize) -> Result<(), Refusal> {
    let mut offset = 0;
    for bytes in file.chunks(size) {
        client.call(&BackupChunk { offset, bytes })?;
        offset += bytes.len() as u64;
    }
    Ok(())
}

/// The same, and that it is complete.
fn feed(client: &mut Client, file: &[u8], size: usize) -> Result<BackupContent, Refusal> {
    send(client, file, size)?;
    client.call(&BackupEnd)
}

fn restore(client: &mut Client, file: &[u8], fill: u8) -> Result<BackupContent, Refusal> {
    client.call(&BackupRestore { identity: identity_text(fill), rehearse: false })?;
    feed(client, file, 10_000)
}

fn state(replica: &Replica) -> ClusterStatus {
    replica.client().call(&ClusterInfo).unwrap()
}

fn backup(replica: &Replica, shelf: &Shelf) -> (BackupInfo, Vec<u8>) {
    let info = replica.client_of("root").call(&BackupCreate).unwrap();
    let file = shelf.file(&info.name);
    (info, file)
}

fn public_key(client: &mut Client, label: &str) -> Vec<u8> {
    client.call(&PublicKey { key: KeySelector::Label(label.parse().unwrap()) }).unwrap().spki
}

#[test]
fn a_restored_cluster_has_the_same_keys_users_and_policies() {
    let (_world, old, shelf) = active();
    let mut web = old.client_of("web");
    let key = web.generate(KeyAlgorithm::P256, Attributes::SIGN, "p");
    for n in 0..40 {
        web.generate(KeyAlgorithm::Ed25519, Attributes::SIGN, &format!("e{n}"));
    }
    for _ in 0..6 {
        assert!(old.client().login("web", "a wrong password").is_err());
    }
    old.engine.checkpoint_audit(old.now()).unwrap();
    let anchored = old.client_of("root").call(&AuditAnchors).unwrap();
    let (info, file) = backup(&old, &shelf);
    assert_eq!((info.content.users, info.content.keys), (2, 41));
    assert_eq!((info.size, shelf.names()), (file.len() as u64, vec![info.name.clone()]));
    let page = old.client_of("root").call(&BackupList { after: None, limit: 10 }).unwrap();
    assert_eq!((&page.backups[..], &page.damaged[..], page.more), (&[info.clone()][..], &[][..], false));
    let kept_session = web.login("web", PASSWORD).unwrap_err().code;
    assert_eq!(kept_session, RefusalCode::AccountLocked);
    let token = old.client().login("root", PASSWORD).unwrap().token;

    let (world, new) = fresh();
    let mut client = new.client();
    let content = restore(&mut client, &file, 1).unwrap();
    assert_eq!(content, *info.content);
    let restored = state(&new);
    assert_eq!((restored.cluster, restored.state), (state(&old).cluster, ClusterState::Active));
    assert_eq!((restored.users, restored.keys), (2, 41));
    let from = restored.restored.unwrap();
    assert_eq!((from.revision, from.made_at), (info.content.revision, info.content.made_at));
    assert!(restored.revision > info.content.revision);

    // The audit key and the anchors are the same, though the log that they are of is elsewhere.
    assert_eq!(new.client_of("root").call(&AuditAnchors).unwrap(), anchored);
    new.engine.checkpoint_audit(new.now()).unwrap();

    // The lock that wrong passwords put on the account came along; an admin takes it off.
    let mut root = new.client_of("root");
    assert_eq!(new.client().login("web", PASSWORD).unwrap_err().code, RefusalCode::AccountLocked);
    let users = root.call(&UserList { after: None, limit: 10 }).unwrap().users;
    assert_eq!(users.iter().filter(|user| user.locked).count(), 1);
    let change = UserChangePassword {
        name: Some("web".parse().unwrap()),
        current: None,
        new: crate::harness::secret(PASSWORD),
    };
    root.call(&change).unwrap();
    let mut restored_web = new.client_of("web");
    let spki = public_key(&mut restored_web, "p");
    assert_eq!(spki, public_key(&mut web, "p"));
    let sign =
        Sign { key: key.id, scheme: SignatureScheme::EcdsaP256Sha256, message: b"the same key signs this" };
    let signature = restored_web.call(&sign).unwrap();
    verify_p256(&spki, sign.message, &signature.bytes);

    // Who may not, still may not.
    assert_eq!(restored_web.create_user("eve", Role::Admin).unwrap_err().code, RefusalCode::PermissionDenied);
    assert_eq!(root.refused(&sign), RefusalCode::PermissionDenied);
    // A session from before is none, in the copy; in the original it goes on.
    let resume = || Resume { token: SessionToken(token.0.duplicate()) };
    assert_eq!(new.client().refused(&resume()), RefusalCode::SessionEnded);
    old.client().call(&resume()).unwrap();
    // A sibling, and the same engine started anew, see the same.
    let later = world.open(world.store(), 1, 99).unwrap();
    assert_eq!(later.client().refused(&resume()), RefusalCode::SessionEnded);
    let token = later.client().login("web", PASSWORD).unwrap().token;
    new.client().call(&Resume { token }).unwrap();

    let what = new.audit.map(&new.engine, |entry| (entry.operation.to_owned(), entry.detail.to_owned()));
    assert!(
        what.iter().any(|(operation, detail)| operation == "AuditRestored" && detail.contains("anchored at"))
    );
    let said = format!("cluster {} at revision {}", content.cluster, content.revision);
    assert!(what.contains(&("BackupEnd".to_owned(), said)), "{what:?}");
}

fn verify_p256(spki: &[u8], message: &[u8], signature: &[u8]) {
    use p256::ecdsa::signature::Verifier;
    use p256::pkcs8::DecodePublicKey;
    let key = p256::ecdsa::VerifyingKey::from_public_key_der(spki).unwrap();
    key.verify(message, &p256::ecdsa::Signature::from_der(signature).unwrap()).unwrap();
}

#[test]
fn what_is_no_whole_backup_leaves_the_store_empty_and_the_next_try_succeeds() {
    let (_world, old, shelf) = active();
    let mut web = old.client_of("web");
    for n in 0..300 {
        web.generate(KeyAlgorithm::Ed25519, Attributes::SIGN, &format!("e{n}"));
    }
    let (_, file) = backup(&old, &shelf);
    let (_world, new) = fresh();
    let mut client = new.client();
    let flipped = |at: usize| {
        let mut file = file.clone();
        file[at] ^= 1;
        file
    };
    // A digit stays one when its last bit is flipped.
    let time = file.windows(8).position(|bytes| bytes == b"time-ms=").unwrap() + 10;
    for (what, file, fill, code, said) in [
        ("another's", file.clone(), 2, RefusalCode::WrongIdentity, "does not open"),
        ("header", flipped(time), 1, RefusalCode::BadBackup, "header was changed"),
        ("first chunk", flipped(900), 1, RefusalCode::BadBackup, "at 0 bytes"),
        ("second chunk", flipped(70_000), 1, RefusalCode::BadBackup, "at 65552 bytes"),
        ("last byte", flipped(file.len() - 1), 1, RefusalCode::BadBackup, "truncated"),
        ("cut", file[..file.len() - 1].to_vec(), 1, RefusalCode::BadBackup, "truncated"),
        ("cut at a chunk", file[..100_000].to_vec(), 1, RefusalCode::BadBackup, "truncated"),
        ("junk", b"not a backup at all".to_vec(), 1, RefusalCode::BadBackup, "not a backup"),
        ("empty", Vec::new(), 1, RefusalCode::BadBackup, "truncated"),
    ] {
        let refusal = restore(&mut client, &file, fill).unwrap_err();
        assert_eq!(refusal.code, code, "{what}: {refusal}");
        assert!(refusal.detail.contains(said), "{what}: {refusal}");
        assert_eq!(client.refused(&BackupEnd), RefusalCode::BadBackup, "{what}: it is over");
        assert_eq!(state(&new).state, ClusterState::Uninitialized, "{what}");
    }
    let begin = BackupRestore { identity: identity_text(1), rehearse: false };
    client.call(&begin).unwrap();
    client.call(&BackupChunk { offset: 0, bytes: &file[..1000] }).unwrap();
    let gap = client.call(&BackupChunk { offset: 1001, bytes: &file[1001..2000] }).unwrap_err();
    assert!(gap.detail.contains("the bytes at 1000"), "{gap}");
    let malformed = Secret::new(b"AGE-SECRET-KEY-1".to_vec());
    let no_key = BackupRestore { identity: malformed, rehearse: false };
    assert_eq!(client.refused(&no_key), RefusalCode::WrongIdentity);

    // One that was left in the middle, by another connection that may or may not have ended.
    let mut left = new.client();
    left.call(&begin).unwrap();
    let sent = &file[..file.len() - 10];
    for (n, bytes) in sent.chunks(10_000).enumerate() {
        left.call(&BackupChunk { offset: n as u64 * 10_000, bytes }).unwrap();
    }
    client.call(&begin).unwrap();
    let rest = BackupChunk { offset: sent.len() as u64, bytes: &file[sent.len()..] };
    assert_eq!(left.refused(&rest), RefusalCode::BadBackup, "another has taken its place");
    restore(&mut client, &file, 1).unwrap();
    assert_eq!(left.refused(&BackupEnd), RefusalCode::BadBackup);
    assert_eq!(state(&new).keys, 300);
}

#[test]
fn a_connection_that_ends_leaves_nothing_behind() {
    let (_world, old, shelf) = active();
    let mut web = old.client_of("web");
    for n in 0..300 {
        web.generate(KeyAlgorithm::Ed25519, Attributes::SIGN, &format!("e{n}"));
    }
    let (_, file) = backup(&old, &shelf);
    let (_world, new) = fresh();
    let mut left = new.client();
    left.call(&BackupRestore { identity: identity_text(1), rehearse: false }).unwrap();
    let sent = &file[..file.len() - 10];
    for (n, bytes) in sent.chunks(10_000).enumerate() {
        left.call(&BackupChunk { offset: n as u64 * 10_000, bytes }).unwrap();
    }
    new.engine.disconnect(left.connection, new.now());
    new.follow();
    new.client().call(&InitializeCluster).unwrap();
}

#[test]
fn only_an_uninitialized_cluster_is_restored_and_a_rehearsal_restores_nothing() {
    let (_world, old, shelf) = active();
    let (info, file) = backup(&old, &shelf);
    let mut root = old.client_of("root");
    let begin = |rehearse| BackupRestore { identity: identity_text(1), rehearse };
    assert_eq!(old.client().refused(&begin(false)), RefusalCode::WrongClusterState);

    root.call(&BackupVerify { identity: identity_text(1) }).unwrap();
    assert_eq!(feed(&mut root, &file, 65_536).unwrap(), *info.content);
    root.call(&BackupVerify { identity: identity_text(2) }).unwrap();
    assert_eq!(feed(&mut root, &file, 65_536).unwrap_err().code, RefusalCode::WrongIdentity);

    let (_world, new) = fresh();
    let mut client = new.client();
    client.call(&begin(true)).unwrap();
    assert_eq!(feed(&mut client, &file, 65_536).unwrap(), *info.content);
    assert_eq!(state(&new).state, ClusterState::Uninitialized);
    // Somebody is faster.
    client.call(&begin(false)).unwrap();
    new.client().call(&InitializeCluster).unwrap();
    assert_eq!(feed(&mut client, &file, 65_536).unwrap_err().code, RefusalCode::WrongClusterState);
    // A stranger's long requests are refused but for these.
    let chunk = BackupChunk { offset: 0, bytes: &file };
    assert_eq!(new.client().refused(&chunk), RefusalCode::Malformed);
}

#[test]
fn a_cluster_that_was_destroyed_comes_back_in_its_place() {
    let (world, replica, shelf) = active();
    let (_, file) = backup(&replica, &shelf);
    let destroyed = state(&replica);
    let cluster = destroyed.cluster.unwrap();
    replica.client_of("root").call(&ZeroizeCluster { cluster }).unwrap();
    drop(replica);
    let mut anew = world.replica(0);
    enable(&world, &mut anew, &shelf, None, 90);
    restore(&mut anew.client(), &file, 1).unwrap();
    anew.client_of("web");
    assert!(state(&anew).revision > destroyed.revision, "never back");
}

#[test]
fn a_record_that_does_not_open_makes_no_backup() {
    let (world, replica, shelf) = active();
    let key = replica.client_of("web").generate(KeyAlgorithm::P256, Attributes::SIGN, "p");
    let mut store = world.store();
    let revision = store.revision().unwrap();
    let (kind, id) = (Kind(5), keycore_store::RecordId(key.id.0));
    let record = store.load(kind, id).unwrap().unwrap();
    let mut sealed = record.sealed;
    sealed[60] ^= 1;
    let (expect, index) = (Some(record.version), Vec::new());
    store
        .commit(revision, &[keycore_store::Change::Put { kind, id, expect, sealed, index, group: None }])
        .unwrap();
    let refusal = replica.client_of("root").call(&BackupCreate).unwrap_err();
    assert!(refusal.detail.contains("kind 5 does not open"), "{refusal}");
    assert!(shelf.names().is_empty());
}

#[test]
fn one_replica_at_a_time_makes_the_scheduled_backup_and_the_oldest_go() {
    let (world, replica) = World::active();
    drop(replica);
    let shelf = Shelf::default();
    let hour = Duration::from_hours(1);
    let replicas = [0, 1].map(|number| {
        let mut replica = world.replica(number);
        enable(&world, &mut replica, &shelf, Some(hour * 24), 3);
        replica
    });
    let turn = |number: usize| {
        let replica: &Replica = &replicas[number];
        replica.follow();
        replica.engine.backup_if_due(replica.now())
    };
    let mut first = turn(0).unwrap().unwrap();
    assert_eq!(turn(1).unwrap(), None, "the other one has made it");
    world.pass(hour * 23);
    assert_eq!((turn(0).unwrap(), turn(1).unwrap()), (None, None));
    for day in 1..6 {
        world.pass(hour * 24);
        let number = day % 2;
        let made = turn(number).unwrap().unwrap();
        assert!(made.name > first.name);
        first = made;
        assert_eq!(turn(1 - number).unwrap(), None);
    }
    assert_eq!(shelf.names().len(), 3);
    assert_eq!(shelf.names().last(), Some(&first.name));
    let healthy = state(&replicas[0]).backups.unwrap();
    assert_eq!((healthy.name, healthy.failures), (first.name.clone(), 0));

    shelf.full.store(true, Ordering::SeqCst);
    world.pass(hour * 24);
    assert_eq!(turn(0).unwrap_err().code, RefusalCode::BackupsUnavailable);
    assert_eq!(turn(1).unwrap(), None, "not tried again at once");
    world.pass(hour / 4);
    turn(1).unwrap_err();
    let failing = state(&replicas[0]).backups.unwrap();
    assert_eq!((failing.name, failing.failures), (first.name.clone(), 2));
    assert!(failing.failure.contains("no storage space"), "{}", failing.failure);
    assert_eq!(shelf.names().len(), 3, "what is there is kept");
    shelf.full.store(false, Ordering::SeqCst);
    world.pass(hour / 4);
    turn(0).unwrap().unwrap();
    assert_eq!(state(&replicas[1]).backups.unwrap().failures, 0);
    let recorded = replicas[0].audit.map(&replicas[0].engine, |entry| {
        (entry.operation == "BackupCreate").then(|| entry.detail.to_owned())
    });
    assert!(recorded.iter().flatten().any(|detail| detail.starts_with("scheduled: hsm-")), "{recorded:?}");
}

#[test]
fn an_engine_without_a_plan_says_so() {
    let (_world, replica) = World::active();
    let mut root = replica.client_of("root");
    assert_eq!(root.refused(&BackupCreate), RefusalCode::BackupsUnavailable);
    assert_eq!(root.refused(&BackupList { after: None, limit: 1 }), RefusalCode::BackupsUnavailable);
    assert_eq!(replica.engine.backup_if_due(replica.now()), Ok(None));
}

#[test]
fn a_backup_on_demand_is_made_once_when_it_is_approved() {
    let (_world, replica, shelf) = active();
    let mut root = replica.client_of("root");
    let keys = ["alice", "bob"].map(|user| {
        let key = OwnKey::p256();
        root.create_user(user, Role::Admin).unwrap();
        register(&mut replica.client_of(user), user, KeyPurpose::Approval, &key).unwrap();
        (user, key)
    });
    root.call(&QuorumSetValue { service: QuorumService::Cluster, value: 2 }).unwrap();
    assert_eq!(root.refused(&BackupCreate), RefusalCode::QuorumRequired);
    let token = propose(&mut root, &BackupCreate).unwrap();
    for (at, (user, key)) in keys.iter().enumerate() {
        assert_eq!(
            (shelf.names().len(), root.refused(&BackupCreate)),
            (0, RefusalCode::QuorumRequired),
            "{at}"
        );
        let signature = key.sign(&token.text);
        root.call(&QuorumApprove { token: token.id, approver: name(user), signature }).unwrap();
    }
    root.call(&BackupCreate).unwrap();
    assert_eq!(shelf.names().len(), 1);
    assert_eq!(root.refused(&BackupCreate), RefusalCode::QuorumRequired);
}

/// Seals everything anew.
fn finish_rotation(replica: &Replica) {
    for _ in 0..100 {
        if replica.engine.reseal(replica.now()).unwrap() == Resealed::Complete {
            return;
        }
    }
    panic!("the rotation does not end");
}

#[test]
fn a_backup_amid_a_rotation_is_whole_and_the_rotation_goes_on_where_it_is_restored() {
    let (_world, old, shelf) = active();
    let mut web = old.client_of("web");
    for n in 0..100 {
        web.generate(KeyAlgorithm::Ed25519, Attributes::SIGN, &format!("e{n}"));
    }
    old.client_of("root").call(&RotateClusterKey).unwrap();
    assert_eq!(old.engine.reseal(old.now()).unwrap(), Resealed::Batch);
    let (_, file) = backup(&old, &shelf);
    finish_rotation(&old);
    let (_, later) = backup(&old, &shelf);

    for file in [file, later] {
        let (world, new) = fresh();
        restore(&mut new.client(), &file, 1).unwrap();
        let unseal = state(&new).unseal.unwrap();
        assert_eq!(unseal.generation, Some(2));
        if unseal.resealing.is_some() {
            world.pass(Duration::from_secs(11));
            finish_rotation(&new);
        }
        assert_eq!(state(&new).unseal.unwrap().resealing, None);
        for label in ["e0", "e99"] {
            let (mut here, mut there) = (old.client_of("web"), new.client_of("web"));
            assert_eq!(public_key(&mut here, label), public_key(&mut there, label));
        }
        let again = world.open(world.store(), 1, 99).unwrap();
        assert_eq!(state(&again).keys, 100);
    }
}

/// Replicas 0 and 5 with anchors, and a hundred keys.
fn anchored() -> (World, Replica, Shelf) {
    let (world, old, shelf) = active();
    let sibling = world.replica(5);
    for replica in [&old, &sibling] {
        // Something that is to be signed.
        replica.client().login("web", "a wrong password").unwrap_err();
        replica.engine.checkpoint_audit(replica.now()).unwrap();
    }
    let mut web = old.client_of("web");
    for n in 0..100 {
        web.generate(KeyAlgorithm::Ed25519, Attributes::SIGN, &format!("e{n}"));
    }
    (world, old, shelf)
}

/// The log of replica 5 is elsewhere; the one of replica 0 is here, and must be.
fn check_logs(world: &World) {
    let fifth = world.open(world.store(), 5, 99).unwrap();
    assert_eq!(state(&fifth).state, ClusterState::Active);
    let cut_off = world.open(world.store(), 0, 99).err().unwrap();
    assert!(matches!(cut_off, OpenError::AuditRolledBack(_)), "{cut_off}");
}

#[test]
fn no_moment_of_a_rotation_takes_an_anchor_from_here_for_one_of_a_log_elsewhere_or_the_reverse() {
    let (_old_world, old, shelf) = anchored();
    let (_, file) = backup(&old, &shelf);
    let (world, new) = fresh();
    restore(&mut new.client(), &file, 1).unwrap();
    let elsewhere = || world.store().scan(ELSEWHERE, None, None, 9).unwrap().len();
    assert_eq!(elsewhere(), 2);
    new.engine.checkpoint_audit(new.now()).unwrap();
    assert_eq!(elsewhere(), 1, "the log of replica 0 is here now");
    new.client_of("root").call(&RotateClusterKey).unwrap();
    check_logs(&world);
    let mut batches = 0;
    while new.engine.reseal(new.now()).unwrap() == Resealed::Batch {
        check_logs(&world);
        batches += 1;
    }
    assert!((3..100).contains(&batches), "{batches} batches");
    check_logs(&world);
}

#[test]
fn anchors_of_a_backup_amid_a_rotation_are_of_logs_elsewhere() {
    let (_old_world, old, shelf) = anchored();
    old.client_of("root").call(&RotateClusterKey).unwrap();
    assert_eq!(old.engine.reseal(old.now()).unwrap(), Resealed::Batch);
    let (_, file) = backup(&old, &shelf);
    let (world, new) = fresh();
    restore(&mut new.client(), &file, 1).unwrap();
    new.engine.checkpoint_audit(new.now()).unwrap();
    world.pass(Duration::from_secs(11));
    finish_rotation(&new);
    check_logs(&world);
}

#[test]
fn a_cluster_that_was_restored_twice_begins_its_logs_anew_again() {
    let (_old_world, old, shelf) = anchored();
    let (_, file) = backup(&old, &shelf);
    let (second_world, second) = fresh();
    restore(&mut second.client(), &file, 1).unwrap();
    second.engine.checkpoint_audit(second.now()).unwrap();
    drop(second);
    let mut second = second_world.open(second_world.store(), 6, 99).unwrap();
    enable(&second_world, &mut second, &shelf, None, 90);
    let (_, file) = backup(&second, &shelf);
    let (third_world, third) = fresh();
    restore(&mut third.client(), &file, 1).unwrap();
    third.engine.checkpoint_audit(third.now()).unwrap();
    check_logs(&third_world);
}

#[test]
fn an_engine_of_custodians_restores_under_new_shares() {
    let (_old_world, old, shelf) = active();
    old.client_of("web").generate(KeyAlgorithm::P256, Attributes::SIGN, "www");
    let (info, file) = backup(&old, &shelf);
    let world = World::new();
    let mut new = world.unsealed_by(0, None).unwrap();
    Arc::get_mut(&mut new.engine).unwrap().enable_backups(world.archive(), None);
    let by = |needed, of| BackupEndBy { method: UnsealMethod::Custodians { needed, of } };
    let mut client = new.client();
    let begin = |client: &mut Client, rehearse| {
        client.call(&BackupRestore { identity: identity_text(1), rehearse }).unwrap();
        send(client, &file, 10_000).unwrap();
    };
    // Without a secret in the configuration it is custodians who have to unseal, and a rehearsal needs neither.
    begin(&mut client, false);
    let refused = client.call(&BackupEnd).unwrap_err();
    assert!(refused.detail.contains("--custodians"), "{refused}");
    assert_eq!(client.refused(&by(2, 3)), RefusalCode::BadBackup);
    begin(&mut client, true);
    assert_eq!(client.refused(&by(2, 3)), RefusalCode::BadBackup);
    client.call(&BackupEnd).unwrap();
    assert_eq!(state(&new).state, ClusterState::Uninitialized);

    begin(&mut client, false);
    assert_eq!(client.refused(&by(1, 1)), RefusalCode::Malformed);
    assert_eq!(client.refused(&BackupEndBy { method: UnsealMethod::Secret }), RefusalCode::UnsealSecretUnfit);
    let made = client.call(&by(2, 3)).unwrap();
    assert_eq!((made.status.state, made.shares.len()), (ClusterState::Sealed, 3));
    assert_eq!(made.status.cluster, Some(info.content.cluster));
    for share in &made.shares[1..] {
        client.call(&UnsealCluster { part: share.duplicate() }).unwrap();
    }
    let (mut here, mut there) = (old.client_of("web"), new.client_of("web"));
    assert_eq!(public_key(&mut here, "www"), public_key(&mut there, "www"));
    let told = new.audit.map(&new.engine, |entry| format!("{} {}", entry.operation, entry.detail));
    let revision = info.content.revision;
    let restored =
        format!("BackupEndBy cluster {} at revision {revision}; 2 of 3 custodians", info.content.cluster);
    assert!(told.contains(&restored), "{told:?}");
}

/// The end of it may find the disk full; that it began is on the disk then.
#[test]
fn a_restore_is_on_record_before_there_is_a_cluster() {
    let (_old_world, old, shelf) = active();
    let (_, file) = backup(&old, &shelf);
    let (_world, new) = fresh();
    let mut client = new.client();
    client.call(&BackupRestore { identity: identity_text(1), rehearse: false }).unwrap();
    send(&mut client, &file, 10_000).unwrap();
    new.audit.breaks_after.store(1, Ordering::SeqCst);
    assert_eq!(client.refused(&BackupEnd), RefusalCode::AuditUnavailable);
    assert_eq!(state(&new).state, ClusterState::Active);
    new.audit.broken.store(false, Ordering::SeqCst);
    let told = new.audit.map(&new.engine, |entry| (entry.operation.to_owned(), entry.outcome));
    assert!(told.contains(&("BackupEnd".to_owned(), Outcome::Begun)), "{told:?}");
}

#[test]
fn pieces_of_a_backup_that_nobody_began_do_not_fill_the_log() {
    let (_world, replica) = World::active();
    let mut stranger = replica.client();
    for _ in 0..100 {
        assert_eq!(stranger.refused(&BackupChunk { offset: 0, bytes: b"piece" }), RefusalCode::BadBackup);
    }
    let told = replica.audit.map(&replica.engine, |entry| entry.operation == "BackupChunk");
    assert!(told.iter().filter(|chunk| **chunk).count() <= 32, "{}", told.len());
}
