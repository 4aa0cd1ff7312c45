use keycore_audit::{Chain, Log, Peer, Sink};
use keycore_engine::{Options, UnsealSecret};
use keycore_secmem::SecretBytes;
use keycore_store::{
    Change, Changes, CommitError, GroupTag, IndexTag, Kind, Record, RecordId, Revision, SqliteStore, Store,
    StoreError,
};

use super::*;

const LONG: Duration = Duration::from_secs(20);

/// A store that a stopped sibling has locked: whoever asks it for changes waits until the test ends.
struct Stuck {
    store: SqliteStore,
    asked: mpsc::Sender<()>,
    free: mpsc::Receiver<()>,
}

impl Store for Stuck {
    fn changes_since(&mut self, since: Revision) -> Result<(Revision, Changes), StoreError> {
        self.asked.send(()).unwrap_or(());
        let _freed_or_over = self.free.recv_timeout(LONG);
        self.store.changes_since(since)
    }

    fn revision(&mut self) -> Result<Revision, StoreError> {
        self.store.revision()
    }

    fn load(&mut self, kind: Kind, id: RecordId) -> Result<Option<Record>, StoreError> {
        self.store.load(kind, id)
    }

    fn find(&mut self, kind: Kind, tag: &IndexTag) -> Result<Option<Record>, StoreError> {
        self.store.find(kind, tag)
    }

    fn scan(
        &mut self,
        kind: Kind,
        group: Option<&GroupTag>,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        self.store.scan(kind, group, after, limit)
    }

    fn count(&mut self, kind: Kind, group: Option<&GroupTag>) -> Result<u64, StoreError> {
        self.store.count(kind, group)
    }

    fn walk(
        &mut self,
        after: Option<(Kind, RecordId)>,
        limit: usize,
    ) -> Result<Vec<(Kind, Record)>, StoreError> {
        self.store.walk(after, limit)
    }

    fn total(&mut self) -> Result<u64, StoreError> {
        self.store.total()
    }

    fn erase(&mut self) -> Result<Revision, StoreError> {
        self.store.erase()
    }

    fn commit(&mut self, base: Revision, changes: &[Change]) -> Result<Revision, CommitError> {
        self.store.commit(base, changes)
    }
}

#[derive(Debug, PartialEq)]
enum Done {
    Written,
    Synced,
}

/// Tells what was done.
struct Telling(mpsc::Sender<Done>);

impl Sink for Telling {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<()> {
        self.0.send(Done::Written).map_err(io::Error::other)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.send(Done::Synced).map_err(io::Error::other)
    }
}

#[test]
fn records_reach_the_disk_by_themselves_while_the_store_is_stuck() {
    let dir = tempfile::tempdir().unwrap();
    let open = || SqliteStore::open(&dir.path().join("store.db")).unwrap();
    let (asked, following) = mpsc::channel();
    let (free, freed) = mpsc::channel();
    let (tell, told) = mpsc::channel();
    let log = Log::new(Chain::new(0), Box::new(Telling(tell)));
    let secret = UnsealSecret::new(SecretBytes::copy_from(&mut [7; 32]).unwrap()).unwrap();
    let (watch, clock) = (Stuck { store: open(), asked, free: freed }, Clock::start());
    let (store, options) = (Box::new(open()), Options::new(0, 1));
    let engine = Engine::open(store, Box::new(watch), log, secret, options, clock.now()).unwrap();
    let engine = Arc::new(engine);

    let chores = Chores::start(&engine, clock).unwrap();
    following.recv_timeout(LONG).unwrap();
    let mut connection = engine.connect(Peer::Local { uid: 0, gid: 0, pid: 1 });
    let _refused = engine.begin(&mut connection, clock.now(), b"no hello", keycore_engine::Leisure::Busy);
    assert_eq!(told.recv_timeout(LONG / 2), Ok(Done::Written));
    assert_eq!(told.recv_timeout(LONG / 2), Ok(Done::Synced));
    drop(free);
    chores.stop();
}
