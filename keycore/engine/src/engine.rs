use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use keycore_audit::{AuditError, Log, Peer};
use keycore_store::{Revision, Store};
use keycore_wire::{
    ClusterState, KeyId, MAX_UNSEAL_PART, Refusal, RefusalCode, Request, SpkiSha256, UnixMillis, UserId,
};
use zeroize::Zeroizing;

use crate::backup::Backups;
use crate::connection::Connection;
use crate::denial::Denial;
use crate::error::OpenError;
use crate::follow::{Watch, check_not_put_back};
use crate::identity::{self, ClusterIdentity};
use crate::job::{Answer, Finished, Job, Leisure, Step};
use crate::journal::{self, Journal, Throttle};
use crate::key_cache::{KeyCache, LoadedKey};
use crate::ledger::{Transaction, transact};
use crate::left_behind::LeftBehind;
use crate::login::GuessLimit;
use crate::mechanism::GcmNonces;
use crate::notary::Notary;
use crate::options::{Now, Options};
use crate::pipeline::{self, Place, Served};
use crate::policy::Permission;
use crate::records::{CLUSTER, ONLY};
use crate::seal::SealingKeys;
use crate::self_test::{self, SelfTests};
use crate::session::{Session, SessionChange};
use crate::session_registry::SessionRegistry;
use crate::snapshot::Snapshot;
use crate::unseal::Unsealing;
use crate::unseal_secret::UnsealSecret;

/// Longest request that waits for a worker before its connection is logged in, in bytes: a login, a resume and an
/// activation have less. So that strangers can't fill the memory with what they queue.
const MAX_STRANGERS_JOB: usize = 1024;

/// Logins of different users that are checked at the same time at most.
const LOGIN_LOCKS: usize = 16;

/// One replica's rules and what it knows of the cluster; shared by all threads of the daemon.
///
/// Locks are taken in this order: `watch`, `store`, then one of the rest.
pub struct Engine {
    pub(crate) options: Options,
    pub(crate) started_at: UnixMillis,
    pub(crate) unsealing: Unsealing,
    /// Set once the cluster is initialized, here or by a sibling, and unsealed.
    pub(crate) sealing: OnceLock<SealingKeys>,
    pub(crate) store: Mutex<Box<dyn Store>>,
    pub(crate) watch: Mutex<Watch>,
    pub(crate) snapshot: RwLock<Snapshot>,
    pub(crate) keys: Mutex<KeyCache>,
    pub(crate) nonces: Mutex<GcmNonces>,
    pub(crate) journal: Journal,
    /// Set when the store was emptied: this engine is of no more use.
    pub(crate) zeroized: AtomicBool,
    /// Set when this engine can't follow the cluster any more.
    pub(crate) left_behind: OnceLock<LeftBehind>,
    pub(crate) self_tests: SelfTests,
    pub(crate) notary: Notary,
    pub(crate) backups: Backups,
    /// What the engines show on the network; none before it is certified.
    pub(crate) identity: RwLock<Option<Arc<ClusterIdentity>>>,
    /// One user's passwords are checked one after the other, so that right ones in flight don't count as wrong.
    logins: [Mutex<()>; LOGIN_LOCKS],
    pub(crate) guesses: GuessLimit,
    /// Who is logged in here.
    pub(crate) sessions: Arc<SessionRegistry>,
    /// Passwords compared with a user's.
    pub(crate) password_checks: AtomicU64,
    connections: AtomicU64,
    census: Census,
}

/// How many connections there are now.
#[derive(Default)]
struct Census {
    open: AtomicU32,
    logged_in: AtomicU32,
}

impl Census {
    fn came(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    fn left(&self, logged_in: bool) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.logged_in.fetch_sub(logged_in.into(), Ordering::Relaxed);
    }

    /// A connection was logged in, or not, and now is, or not.
    fn changed(&self, before: bool, after: bool) {
        self.logged_in.fetch_add(after.into(), Ordering::Relaxed);
        self.logged_in.fetch_sub(before.into(), Ordering::Relaxed);
    }
}

impl Engine {
    /// Opens the engine of one replica.
    ///
    /// `store` serves the control plane and cache misses, `watch` (another handle of the same store) tells what
    /// siblings changed. An empty store is fine: the cluster is then uninitialized. Without an unseal secret, or if custodians
    /// have it, a cluster in the store stays sealed until it is given.
    ///
    /// All self-tests run first. If one fails, the engine unseals nothing, and answers what it is and what failed:
    /// [`Engine::failed_self_test`].
    ///
    /// # Errors
    ///
    /// [`OpenError`]: the store can't be read, the secret does not open the cluster in it, or the log is not the one that was
    /// anchored in it.
    pub fn open(
        store: Box<dyn Store>,
        watch: Box<dyn Store>,
        log: Log,
        unseal: impl Into<Option<UnsealSecret>>,
        options: Options,
        now: Now,
    ) -> Result<Self, OpenError> {
        let engine = Self {
            started_at: now.wall,
            unsealing: Unsealing::new(unseal.into()),
            sealing: OnceLock::new(),
            store: Mutex::new(store),
            watch: Mutex::new(Watch::new(watch)),
            snapshot: RwLock::default(),
            keys: Mutex::new(KeyCache::new(options.key_cache)),
            nonces: Mutex::new(GcmNonces::new()),
            journal: Journal::new(log),
            zeroized: AtomicBool::new(false),
            left_behind: OnceLock::new(),
            self_tests: SelfTests::default(),
            notary: Notary::default(),
            backups: Backups::default(),
            identity: RwLock::default(),
            logins: [const { Mutex::new(()) }; LOGIN_LOCKS],
            guesses: GuessLimit::default(),
            sessions: Arc::default(),
            password_checks: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            census: Census::default(),
            options,
        };
        self_test::at_start(&engine, now);
        if engine.failed_self_test().is_none() {
            engine.load_everything(now)?;
        }
        match engine.lost_log() {
            None => Ok(engine),
            Some(lost) => Err(OpenError::AuditRolledBack(lost.clone())),
        }
    }

    /// The options that it was opened with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The self-test that failed and stopped this engine, for as long as the process lives; none is the good case.
    pub fn failed_self_test(&self) -> Option<&str> {
        self.self_tests.failed()
    }

    /// How many passwords were compared with a user's, since the engine was opened. Lockout bounds the wrong ones.
    pub fn password_checks(&self) -> u64 {
        self.password_checks.load(Ordering::Relaxed)
    }

    /// A new connection.
    pub fn connect(&self, peer: Peer) -> Connection {
        self.census.came();
        Connection {
            number: self.connections.fetch_add(1, Ordering::Relaxed) + 1,
            peer,
            hello: false,
            session: None,
            seat: None,
            throttle: Throttle::default(),
            max_frame: self.options.max_frame as usize,
        }
    }

    /// Takes the body of one request frame. Cheap work is answered at once, and with [`Leisure::Idle`] an RSA-2048 signature
    /// too; the rest becomes a job.
    pub fn begin(&self, connection: &mut Connection, now: Now, body: &[u8], leisure: Leisure) -> Step {
        let request = match Request::decode(body) {
            Ok(request) => request,
            Err(refusal) => return Step::Answer(self.refuse(connection, now, refusal)),
        };
        let is_hello = matches!(request, Request::Hello(_));
        if is_hello == connection.hello {
            let refusal = Refusal::new(RefusalCode::HelloExpected, "one hello comes first, and once");
            return Step::Answer(self.refuse(connection, now, refusal));
        }
        // A ping only shows that the other end lives.
        if let Some(seat) = connection.seat.as_ref().filter(|_| !matches!(request, Request::Ping(_)))
            && seat.used(now, self.options.session_limits())
        {
            connection.session = connection.session.map(Session::idled);
        }
        let caller = connection.caller();
        match pipeline::serve(self, &request, &caller, now, Place::Loop(&mut connection.throttle, leisure)) {
            Served::Deferred(_)
                if caller.session.is_none()
                    && body.len() > self.most_of_a_stranger(&request)
                    && !self.backups.feeds.has(caller.connection) =>
            {
                let most = self.most_of_a_stranger(&request);
                let detail = format!("before a login this request has at most {most} bytes");
                Step::Answer(self.refuse(connection, now, Refusal::new(RefusalCode::Malformed, detail)))
            }
            Served::Deferred(cost) => Step::Job(Job { body: Zeroizing::new(body.to_vec()), caller, cost }),
            Served::Finished(finished) => {
                let answer = self.finish(connection, finished);
                if is_hello {
                    connection.hello = answer.result.is_ok();
                }
                Step::Answer(Answer { close: !connection.hello, ..answer })
            }
        }
    }

    /// Longest request that may wait for a worker before a login, in bytes.
    fn most_of_a_stranger(&self, request: &Request<'_>) -> usize {
        match request {
            // The pre-officer's, who has no password yet.
            Request::ClusterCsr(_) | Request::SetClusterCertificate(_)
                if self.cluster_state() == ClusterState::Initialized =>
            {
                identity::MAX_REQUEST
            }
            Request::UnsealCluster(_) if self.cluster_state() == ClusterState::Sealed => MAX_UNSEAL_PART + 16,
            _ => MAX_STRANGERS_JOB,
        }
    }

    /// Carries out a job, on a worker thread. May take seconds.
    #[expect(clippy::needless_pass_by_value, reason = "a job is run once")]
    pub fn run(&self, job: Job, now: Now) -> Finished {
        if self.sealing.get().is_none() {
            // A sibling may have initialized the cluster a moment ago; if not, the request finds it uninitialized.
            let _followed = self.follow(now);
        }
        match Request::decode(&job.body) {
            Ok(request) => match pipeline::serve(self, &request, &job.caller, now, Place::Worker) {
                Served::Finished(finished) => finished,
                Served::Deferred(_) => Finished::refused(Denial::internal("a job was deferred").refusal),
            },
            Err(refusal) => Finished::refused(refusal),
        }
    }

    /// Applies what a job did to the connection, and gives its answer.
    pub fn finish(&self, connection: &mut Connection, finished: Finished) -> Answer {
        let before = connection.session.is_some();
        match finished.session {
            SessionChange::Keep => {}
            SessionChange::Begin(session, seat) => {
                connection.session = Some(session);
                connection.seat = Some(seat);
            }
            SessionChange::OnlyIdled(session) => {
                connection.session.get_or_insert(session);
            }
            SessionChange::Renew(session) => {
                if connection.session.is_some_and(|current| current.id == session.id) {
                    connection.session = Some(session);
                    if let Some(seat) = &connection.seat {
                        seat.renew(session);
                    }
                }
            }
            SessionChange::End(id) => {
                if connection.session.is_some_and(|session| session.id == id) {
                    connection.session = None;
                    connection.seat = None;
                }
            }
        }
        self.census.changed(before, connection.session.is_some());
        Answer::new(finished.result)
    }

    /// Refuses a request before the rules see it (queues full, too many in flight, not decodable), and counts it in
    /// the audit log. Before the hello the connection is to be closed.
    pub fn refuse(&self, connection: &mut Connection, now: Now, refusal: Refusal) -> Answer {
        let due = connection.throttle.count(now);
        if let Some(unrecorded) = due.and_then(|unrecorded| self.journal.admit_refusal(now, unrecorded)) {
            let detail = pipeline::throttled_detail(&refusal.detail, unrecorded);
            let entry = journal::entry("-", &connection.caller(), now, Some(&refusal), &detail);
            // It is refused in any case; that the log fails is told by the next request that would do something.
            let _recorded = self.journal.append(&entry);
        }
        if connection.hello { Answer::new(Err(refusal)) } else { Answer::last(refusal) }
    }

    /// A connection ended.
    #[expect(clippy::needless_pass_by_value, reason = "the connection is no more")]
    pub fn disconnect(&self, connection: Connection, now: Now) {
        self.backups.feeds.disconnect(connection.number);
        self.census.left(connection.session.is_some());
        let Some(before) = connection.throttle.rest().checked_sub(1) else { return };
        if let Some(before) = self.journal.admit_refusal(now, before) {
            let detail = format!("{} requests more were refused since the last record", before + 1);
            let refusal = Refusal::new(RefusalCode::Malformed, "");
            let entry = journal::entry("-", &connection.caller(), now, Some(&refusal), &detail);
            let _recorded = self.journal.append(&entry);
        }
    }

    /// Writes out what the audit log buffers; to be called every 50 ms. Recovers the log after a failure.
    ///
    /// # Errors
    ///
    /// [`AuditError`]: until a later call succeeds, everything is refused with `AuditUnavailable`.
    pub fn flush_audit(&self) -> Result<(), AuditError> {
        self.journal.flush()
    }

    /// Makes the audit log durable; to be called at shutdown.
    ///
    /// # Errors
    ///
    /// As [`Engine::flush_audit`].
    pub fn sync_audit(&self) -> Result<(), AuditError> {
        self.journal.sync()
    }

    /// Where the cluster is in its life, as far as this engine knows.
    pub fn cluster_state(&self) -> ClusterState {
        match (self.sealing.get(), self.snapshot().users.is_empty()) {
            (None, _) if self.unsealing.is_sealed() => ClusterState::Sealed,
            (None, _) => ClusterState::Uninitialized,
            (Some(_), true) => ClusterState::Initialized,
            (Some(_), false) => ClusterState::Active,
        }
    }

    /// Connections that this engine has now.
    pub(crate) fn open_connections(&self) -> u32 {
        self.census.open.load(Ordering::Relaxed)
    }

    /// Those of them that are logged in.
    pub(crate) fn logged_in(&self) -> u32 {
        self.census.logged_in.load(Ordering::Relaxed)
    }

    /// The cluster's keys.
    pub(crate) fn sealing(&self) -> Result<&SealingKeys, Denial> {
        self.sealing.get().ok_or_else(|| match self.unsealing.is_sealed() {
            true => Denial::sealed(),
            false => Denial::cluster_state("the cluster is not initialized"),
        })
    }

    pub(crate) fn snapshot(&self) -> RwLockReadGuard<'_, Snapshot> {
        self.snapshot.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// One transaction of the control plane. What it changed is in the snapshot when this returns.
    pub(crate) fn transact<T>(
        &self,
        decide: impl FnMut(&mut Transaction<'_>) -> Result<T, Denial>,
    ) -> Result<T, Denial> {
        let keys = self.sealing()?;
        let mut store = locked(&self.store);
        let (known, found) = (self.snapshot().revision, store.revision()?);
        check_not_put_back(known, found).map_err(|error| Denial::store(&error))?;
        let (decided, committed) = transact(&mut **store, keys, decide)?;
        if let Some(committed) = committed {
            // It is committed; what can't be read back now, the follower reads.
            if committed.records.contains(&(CLUSTER, ONLY)) {
                let _followed = self.catch_up(&mut **store);
            }
            let _followed = self.refresh(&mut **store, keys, &committed.records);
            self.note_own(committed.revision);
        }
        Ok(decided)
    }

    /// A transaction that uses the approvals of `permission` up.
    pub(crate) fn transact_as<T>(
        &self,
        permission: &Permission,
        mut decide: impl FnMut(&mut Transaction<'_>) -> Result<T, Denial>,
    ) -> Result<T, Denial> {
        self.transact(|records| {
            permission.spend(records)?;
            decide(records)
        })
    }

    /// The store is now at `revision` by this engine's own change.
    pub(crate) fn note_own(&self, revision: Revision) {
        let mut snapshot = self.snapshot.write().unwrap_or_else(PoisonError::into_inner);
        if snapshot.revision.next() == revision {
            snapshot.revision = revision;
        }
    }

    /// Waits until no other password of this user is being checked here.
    pub(crate) fn login_turn(&self, name: &str) -> MutexGuard<'_, ()> {
        let sum = name.bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        locked(&self.logins[sum % LOGIN_LOCKS])
    }

    pub(crate) fn cached_by_spki(&self, owner: UserId, spki: SpkiSha256) -> Option<Arc<LoadedKey>> {
        locked(&self.keys).by_spki(owner, spki)
    }

    pub(crate) fn cached_by_id(&self, owner: UserId, id: KeyId) -> Option<Arc<LoadedKey>> {
        locked(&self.keys).by_id(owner, id)
    }
}

impl Finished {
    fn refused(refusal: Refusal) -> Self {
        Self { result: Err(refusal), session: SessionChange::Keep }
    }
}

/// Locks. What a thread that died left behind is whole: the store has transactions, the others are caches.
pub(crate) fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
