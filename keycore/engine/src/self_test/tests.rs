//! Each self-test is broken, and is then seen to stop the engine.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex};

use keycore_audit::{Chain, Log, Peer, Sink};
use keycore_secmem::SecretBytes;
use keycore_store::SqliteStore;
use keycore_wire::{
    ActivateCluster, Attributes, ClusterInfo, ClusterState, GenerateKey, Hello, IdempotencyKey,
    InitializeCluster, KeyAlgorithm, KeyTemplate, Login, Operation, Ping, Random, Refusal, RefusalCode,
    Reply, ReplyError, Role, Secret, SelfTest, SelfTestReport, UserCreate, decode_reply, encode_request,
};

use super::known_answer::{ACCEPTED, REFUSED, break_test};
use super::*;
use crate::{Connection, Options, PasswordCost, Step, UnsealSecret};

const PASSWORD: &[u8] = b"correct horse battery";

/// What an audit log wrote.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Sink for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One engine, its connection, and its clock in seconds.
struct Bench {
    engine: Engine,
    connection: Connection,
    audit: Written,
    seconds: u64,
}

impl Bench {
    /// Opens an engine on the store in `directory`. What a test broke on this thread is broken for it.
    fn open(directory: &std::path::Path) -> Self {
        let audit = Written::default();
        let store = || Box::new(SqliteStore::open(&directory.join("store.db")).unwrap());
        let log = Log::new(Chain::new(0), Box::new(audit.clone()));
        let unseal = UnsealSecret::new(SecretBytes::copy_from(&mut [7; 32]).unwrap()).unwrap();
        let options = Options {
            password_cost: PasswordCost::insecure_for_tests(),
            unseal_cost: PasswordCost::insecure_for_tests(),
            ..Options::new(0, 1)
        };
        let engine = Engine::open(store(), store(), log, unseal, options, at(1000)).unwrap();
        let connection = engine.connect(Peer::Local { uid: 1, gid: 1, pid: 1 });
        let mut bench = Self { engine, connection, audit, seconds: 1000 };
        bench.call(&Hello::new("test")).unwrap();
        bench
    }

    /// An active cluster with a crypto user who is logged in.
    fn serving(directory: &std::path::Path) -> Self {
        let mut bench = Self::open(directory);
        let password = || Secret::new(PASSWORD.to_vec());
        let (root, web): (keycore_wire::UserName, keycore_wire::UserName) =
            ("root".parse().unwrap(), "web".parse().unwrap());
        bench.call(&InitializeCluster).unwrap();
        bench.call(&ActivateCluster { admin: root.clone(), password: password() }).unwrap();
        bench.call(&Login { user: root, password: password() }).unwrap();
        let create = UserCreate {
            idempotency_key: IdempotencyKey([1; 16]),
            name: web.clone(),
            role: Role::CryptoUser,
            password: Some(password()),
            peer_uid: None,
        };
        bench.call(&create).unwrap();
        bench.call(&Login { user: web, password: password() }).unwrap();
        bench
    }

    fn call<T: Operation>(&mut self, operation: &T) -> Result<T::Reply, Refusal> {
        let mut request = Vec::new();
        encode_request(operation, &mut request).unwrap();
        let now = at(self.seconds);
        let answer = match self.engine.begin(&mut self.connection, now, &request, crate::Leisure::Busy) {
            Step::Answer(answer) => answer,
            Step::Job(job) => {
                let finished = self.engine.run(job, now);
                self.engine.finish(&mut self.connection, finished)
            }
        };
        let mut reply = Vec::new();
        Reply::encode(&answer.result, &mut reply);
        decode_reply::<T>(&reply).map_err(|error| match error {
            ReplyError::Refused(refusal) => refusal,
            ReplyError::Undecodable { operation } => panic!("{operation}: undecodable"),
        })
    }

    fn generate(&mut self) -> Result<(), Refusal> {
        let algorithm = KeyAlgorithm::P256;
        let label = format!("key-{}", self.seconds).parse().unwrap();
        let template = KeyTemplate::new(label, Attributes::SIGN);
        let idempotency_key = IdempotencyKey(u128::from(self.seconds).to_be_bytes());
        self.call(&GenerateKey { idempotency_key, algorithm, template }).map(|_| ())
    }

    /// The state that a failure of `test` must lead to.
    fn assert_stopped_by(&mut self, test: &str) {
        assert_eq!(self.engine.failed_self_test(), Some(test));
        self.call(&Ping).unwrap();
        assert_eq!(self.call(&ClusterInfo).unwrap().failed_self_test.as_deref(), Some(test));
        assert_eq!(self.call(&SelfTest).unwrap().failed.as_deref(), Some(test));
        let login = Login { user: "web".parse().unwrap(), password: Secret::new(PASSWORD.to_vec()) };
        let refusals = [
            self.call(&Random { length: 1 }).unwrap_err(),
            self.call(&login).map(|_| ()).unwrap_err(),
            self.call(&InitializeCluster).map(|_| ()).unwrap_err(),
            self.generate().unwrap_err(),
        ];
        for refusal in refusals {
            assert_eq!(refusal.code, RefusalCode::SelfTestFailed, "{test}: {refusal}");
            assert!(refusal.detail.contains(test), "{refusal}");
        }
        self.engine.flush_audit().unwrap();
        let written = self.audit.0.lock().unwrap();
        let told = written.windows(test.len()).any(|bytes| bytes == test.as_bytes());
        assert!(told, "the audit log does not tell that {test} failed");
    }
}

fn at(seconds: u64) -> Now {
    Now { wall: UnixMillis(1_790_000_000_000 + seconds * 1000), mono: Duration::from_secs(seconds) }
}

#[test]
fn every_self_test_passes_and_is_told_of() {
    let directory = tempfile::tempdir().unwrap();
    let report = Bench::open(directory.path()).call(&SelfTest).unwrap();
    assert_eq!((report.failed, report.fips), (None, cfg!(feature = "fips")));
    assert!(report.tests.iter().all(|test| test.passed));
    let names: HashSet<_> = all().map(|test| test.name).collect();
    assert_eq!(names.len(), all().count(), "names are unique");
    assert_eq!(report.tests.len(), names.len());
}

#[test]
fn a_wrong_answer_does_not_pass() {
    for test in all() {
        let wrong: &'static [u8] = if test.expected == [REFUSED] { &[ACCEPTED] } else { &[REFUSED] };
        assert!(test.passes(), "{}", test.name);
        assert!(!KnownAnswer { expected: wrong, ..*test }.passes(), "{}", test.name);
        assert!(!KnownAnswer { expected: &[], ..*test }.passes(), "{}", test.name);
    }
}

#[test]
fn each_test_that_fails_at_start_stops_the_engine_before_it_unseals_anything() {
    let directory = tempfile::tempdir().unwrap();
    drop(Bench::serving(directory.path()));
    for test in all() {
        break_test(Some(test.name));
        let mut bench = Bench::open(directory.path());
        break_test(None);
        assert_eq!(bench.engine.cluster_state(), ClusterState::Uninitialized, "nothing was unsealed");
        bench.assert_stopped_by(test.name);
        assert!(!bench.engine.follow(at(2000)).unwrap(), "and nothing is later");
        bench.assert_stopped_by(test.name);
    }
    assert_eq!(
        Bench::open(directory.path()).engine.cluster_state(),
        ClusterState::Active,
        "nothing was harmed"
    );
}

#[test]
fn each_test_that_fails_on_demand_stops_an_engine_that_serves() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = Some(Bench::serving(directory.path()));
    for test in all() {
        let mut bench = first.take().unwrap_or_else(|| Bench::open(directory.path()));
        bench.seconds += SELF_TEST_PAUSE_SECS;
        break_test(Some(test.name));
        let report = bench.call(&SelfTest).unwrap();
        break_test(None);
        assert_eq!(report.tests.last().map(|last| (&*last.name, last.passed)), Some((test.name, false)));
        bench.assert_stopped_by(test.name);
    }
}

#[test]
fn each_conditional_test_that_fails_stops_the_engine() {
    for test in [PAIRWISE_CONSISTENCY, ENTROPY] {
        let directory = tempfile::tempdir().unwrap();
        let mut bench = Bench::serving(directory.path());
        bench.generate().unwrap();
        bench.seconds += 1;
        break_test(Some(test));
        assert_eq!(bench.generate().unwrap_err().code, RefusalCode::SelfTestFailed, "{test}");
        break_test(None);
        bench.assert_stopped_by(test);
    }
}

#[test]
fn who_asks_too_soon_gets_the_last_report() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(directory.path());
    let mut ran_at = |seconds| {
        bench.seconds = seconds;
        let SelfTestReport { ran_at, .. } = bench.call(&SelfTest).unwrap();
        ran_at.0 / 1000 - 1_790_000_000
    };
    assert_eq!([1000, 1009, 1010, 1011, 1020].map(&mut ran_at), [1000, 1000, 1010, 1010, 1020]);
}
