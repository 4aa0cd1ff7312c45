//! A cluster in a temporary directory, with a simulated clock and audit logs in memory.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keycore_audit::{Chain, Entry, Log, Past, Sink};
use keycore_engine::{
    Answer, Connection, Engine, Leisure, Now, OpenError, Options, PasswordCost, Peer, Step, UnsealSecret,
};
use keycore_secmem::SecretBytes;
use keycore_store::{Archive, SqliteStore, Store};
use keycore_wire::{
    ActivateCluster, Attributes, GenerateKey, Hello, IdempotencyKey, InitializeCluster, KeyAlgorithm,
    KeyInfo, KeyTemplate, Login, Operation, Refusal, RefusalCode, Reply, ReplyError, Role, Secret,
    SessionGrant, UnixMillis, UserCreate, UserName, decode_reply, encode_request,
};
use serde::Deserialize;

pub(crate) const PEER: Peer = Peer::Local { uid: 1000, gid: 1000, pid: 4242 };
/// What passwords and passphrases cost here.
const COST: PasswordCost = PasswordCost::insecure_for_tests();
pub(crate) const PASSWORD: &str = "correct horse battery";

/// Directory, clock and secret that the replicas share.
pub(crate) struct World {
    directory: tempfile::TempDir,
    millis: Arc<AtomicU64>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), millis: Arc::new(AtomicU64::new(1_000_000)) }
    }

    /// One replica of an active cluster with the admin `root` and the crypto user `web`.
    pub(crate) fn active() -> (Self, Replica) {
        let world = Self::new();
        let replica = world.replica(0);
        let mut client = replica.client();
        client.call(&InitializeCluster).unwrap();
        client.call(&ActivateCluster { admin: name("root"), password: secret(PASSWORD) }).unwrap();
        replica.client_of("root").create_user("web", Role::CryptoUser).unwrap();
        (world, replica)
    }

    pub(crate) fn replica(&self, number: u16) -> Replica {
        self.open(self.store(), number, 7).unwrap()
    }

    pub(crate) fn store(&self) -> Box<dyn Store> {
        Box::new(SqliteStore::open(&self.directory.path().join("store.db")).unwrap())
    }

    pub(crate) fn archive(&self) -> Box<dyn Archive> {
        Box::new(SqliteStore::open(&self.directory.path().join("store.db")).unwrap())
    }

    pub(crate) fn open(&self, store: Box<dyn Store>, number: u16, unseal: u8) -> Result<Replica, OpenError> {
        self.open_with(store, self.store(), number, unseal, PasswordCost::insecure_for_tests())
    }

    pub(crate) fn open_with(
        &self,
        store: Box<dyn Store>,
        watch: Box<dyn Store>,
        number: u16,
        unseal: u8,
        password_cost: PasswordCost,
    ) -> Result<Replica, OpenError> {
        self.open_by(store, watch, number, Some(&[unseal; 32]), password_cost)
    }

    /// A replica whose configuration has this unseal secret, or none.
    pub(crate) fn unsealed_by(&self, number: u16, secret: Option<&[u8]>) -> Result<Replica, OpenError> {
        self.open_by(self.store(), self.store(), number, secret, COST)
    }

    fn open_by(
        &self,
        store: Box<dyn Store>,
        watch: Box<dyn Store>,
        number: u16,
        unseal: Option<&[u8]>,
        password_cost: PasswordCost,
    ) -> Result<Replica, OpenError> {
        let options = Options { password_cost, unseal_cost: COST, ..Options::new(number, 100) };
        self.open_as(store, watch, unseal, options)
    }

    /// A replica with other limits.
    pub(crate) fn limited(&self, number: u16, limit: impl FnOnce(&mut Options)) -> Replica {
        let mut options = Options { password_cost: COST, unseal_cost: COST, ..Options::new(number, 100) };
        limit(&mut options);
        self.open_as(self.store(), self.store(), Some(&[7; 32]), options).unwrap()
    }

    fn open_as(
        &self,
        store: Box<dyn Store>,
        watch: Box<dyn Store>,
        unseal: Option<&[u8]>,
        options: Options,
    ) -> Result<Replica, OpenError> {
        let audit = AuditTrail::default();
        let log = Log::new(Chain::new(options.replica), Box::new(audit.clone()));
        let locked = |secret: &[u8]| SecretBytes::copy_from(&mut secret.to_vec()).unwrap();
        let unseal = unseal.map(|secret| UnsealSecret::new(locked(secret)).unwrap());
        let engine = Engine::open(store, watch, log, unseal, options, now(&self.millis))?;
        Ok(Replica { engine: Arc::new(engine), audit, millis: Arc::clone(&self.millis) })
    }

    /// A replica on the files of `directory`, as the daemon opens them, its audit log included.
    pub(crate) fn on_disk(directory: &Path, number: u16) -> Replica {
        let store = || Box::new(SqliteStore::open(&directory.join("store.db")).unwrap());
        let (chain, sink, _cut) = keycore_audit::file::open(&directory.join("audit"), number).unwrap();
        let log = Log::new(chain, Box::new(sink));
        let unseal = UnsealSecret::new(SecretBytes::copy_from(&mut [7; 32]).unwrap()).unwrap();
        let password_cost = PasswordCost::insecure_for_tests();
        let options = Options { password_cost, unseal_cost: COST, ..Options::new(number, 100) };
        let millis = Arc::new(AtomicU64::new(1_000_000));
        let engine = Engine::open(store(), store(), log, unseal, options, now(&millis)).unwrap();
        Replica { engine: Arc::new(engine), audit: AuditTrail::default(), millis }
    }

    pub(crate) fn now(&self) -> Now {
        now(&self.millis)
    }

    /// The store's files.
    pub(crate) fn bytes_on_disk(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for file in ["store.db", "store.db-wal"] {
            bytes.extend(std::fs::read(self.directory.path().join(file)).unwrap_or_default());
        }
        bytes
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.millis.fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

fn now(millis: &AtomicU64) -> Now {
    let millis = millis.load(Ordering::SeqCst);
    Now { wall: UnixMillis(1_790_000_000_000 + millis), mono: Duration::from_millis(millis) }
}

/// One engine and its audit log.
#[derive(Clone)]
pub(crate) struct Replica {
    pub(crate) engine: Arc<Engine>,
    pub(crate) audit: AuditTrail,
    millis: Arc<AtomicU64>,
}

impl Replica {
    /// A connection that said hello.
    pub(crate) fn client(&self) -> Client {
        let mut client = self.stranger();
        client.call(&Hello::new("test")).unwrap();
        client
    }

    /// A connection that said nothing yet.
    pub(crate) fn stranger(&self) -> Client {
        Client { replica: self.clone(), connection: self.engine.connect(PEER), leisure: Leisure::Busy }
    }

    /// A connection of a user with the password that all have here.
    pub(crate) fn client_of(&self, user: &str) -> Client {
        let mut client = self.client();
        client.login(user, PASSWORD).unwrap();
        client
    }

    pub(crate) fn follow(&self) -> bool {
        self.engine.follow(now(&self.millis)).unwrap()
    }

    pub(crate) fn now(&self) -> Now {
        now(&self.millis)
    }
}

/// One connection.
pub(crate) struct Client {
    pub(crate) replica: Replica,
    pub(crate) connection: Connection,
    /// What its engine's event loop has to do besides.
    pub(crate) leisure: Leisure,
}

/// How a request was answered.
pub(crate) struct Answered {
    pub(crate) body: Vec<u8>,
    pub(crate) close: bool,
    pub(crate) inline: bool,
}

impl Client {
    pub(crate) fn send(&mut self, body: &[u8]) -> Answered {
        let (Answer { result, close }, inline) =
            match self.replica.engine.begin(&mut self.connection, self.replica.now(), body, self.leisure) {
                Step::Answer(answer) => (answer, true),
                Step::Job(job) => {
                    let finished = self.replica.engine.run(job, self.replica.now());
                    (self.replica.engine.finish(&mut self.connection, finished), false)
                }
            };
        let mut body = Vec::new();
        Reply::encode(&result, &mut body);
        Answered { body, close, inline }
    }

    pub(crate) fn call<T: Operation>(&mut self, operation: &T) -> Result<T::Reply, Refusal> {
        self.call_where(operation).0
    }

    /// The reply, and whether it was given without a worker.
    pub(crate) fn call_where<T: Operation>(&mut self, operation: &T) -> (Result<T::Reply, Refusal>, bool) {
        let mut body = Vec::new();
        encode_request(operation, &mut body).unwrap();
        let answered = self.send(&body);
        let result = decode_reply::<T>(&answered.body).map_err(|error| match error {
            ReplyError::Refused(refusal) => refusal,
            ReplyError::Undecodable { operation } => panic!("{operation}: undecodable reply"),
        });
        (result, answered.inline)
    }

    /// The code that an operation is refused with.
    pub(crate) fn refused<T: Operation>(&mut self, operation: &T) -> RefusalCode {
        match self.call(operation) {
            Ok(_) => panic!("{} was not refused", T::NAME),
            Err(refusal) => refusal.code,
        }
    }

    pub(crate) fn login(&mut self, user: &str, password: &str) -> Result<SessionGrant, Refusal> {
        self.call(&Login { user: name(user), password: secret(password) })
    }

    pub(crate) fn create_user(&mut self, user: &str, role: Role) -> Result<(), Refusal> {
        let password = Some(secret(PASSWORD));
        let create =
            UserCreate { idempotency_key: random_key(), name: name(user), role, password, peer_uid: None };
        self.call(&create).map(|_| ())
    }

    pub(crate) fn generate(&mut self, algorithm: KeyAlgorithm, usage: Attributes, label: &str) -> KeyInfo {
        self.call(&generate(algorithm, usage, label)).unwrap()
    }
}

pub(crate) fn generate(algorithm: KeyAlgorithm, usage: Attributes, label: &str) -> GenerateKey {
    let template = KeyTemplate::new(label.parse().unwrap(), usage);
    GenerateKey { idempotency_key: random_key(), algorithm, template }
}

pub(crate) fn random_key() -> IdempotencyKey {
    let mut key = [0; 16];
    aws_lc_rs::rand::fill(&mut key).unwrap();
    IdempotencyKey(key)
}

pub(crate) fn name(name: &str) -> UserName {
    name.parse().unwrap()
}

pub(crate) fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

/// A TLS 1.3 server's CertificateVerify content.
pub(crate) fn handshake() -> Vec<u8> {
    [&[b' '; 64], &b"TLS 1.3, server CertificateVerify"[..], &[0], &[0xab; 32]].concat()
}

/// What an audit log wrote, and switches to break it.
#[derive(Clone, Default)]
pub(crate) struct AuditTrail {
    bytes: Arc<Mutex<Vec<u8>>>,
    synced: Arc<AtomicU64>,
    pub(crate) broken: Arc<AtomicBool>,
    /// After how many syncs more it breaks by itself; 0: never.
    pub(crate) breaks_after: Arc<AtomicU64>,
    /// What it knows of earlier heads can't be read.
    pub(crate) unreadable: Arc<AtomicBool>,
}

#[derive(Deserialize)]
struct Body<'a> {
    sequence: u64,
    #[expect(dead_code, reason = "part of the format")]
    boot: u32,
    #[serde(borrow)]
    entry: Entry<'a>,
}

impl AuditTrail {
    /// All entries written so far, with their sequence checked, as `read` sees them.
    pub(crate) fn map<T>(&self, engine: &Engine, mut read: impl FnMut(&Entry<'_>) -> T) -> Vec<T> {
        engine.flush_audit().unwrap();
        let bytes = self.bytes.lock().unwrap();
        let (mut rest, mut seen) = (&bytes[..], Vec::new());
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let (body, after) = after.split_at(u32::from_be_bytes(*length) as usize);
            let body: Body<'_> = postcard::from_bytes(body).unwrap();
            assert_eq!(body.sequence, seen.len() as u64 + 1);
            seen.push(read(&body.entry));
            rest = &after[32..];
        }
        seen
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.synced.load(Ordering::SeqCst)
    }
}

impl Sink for AuditTrail {
    fn head_at(&mut self, _sequence: u64) -> io::Result<Past> {
        if self.unreadable.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(Past::Unknown)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.lock().unwrap().extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.synced.fetch_add(1, Ordering::SeqCst);
        let left = self.breaks_after.load(Ordering::SeqCst);
        if left > 0 {
            self.breaks_after.store(left - 1, Ordering::SeqCst);
            self.broken.store(left == 1, Ordering::SeqCst);
        }
        Ok(())
    }
}
