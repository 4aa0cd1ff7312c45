use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use keycore_wire::{
    DeleteKey, FindKey, KeyId, KeySelector, Random, RefusalCode, Request, Secret, Sign, SignatureScheme,
    SpkiSha256, TlsSign,
};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep};

use super::{EngineState, Hedging, Pool, PoolOptions};
use crate::error::Error;
use crate::fake_engine::{Action, Cluster, FakeEngine, PASSWORD};
use crate::identity::Identity;

mod failure;
mod login;
mod protocol;

/// Two engines, a pool that is logged in to both, and the clock in the test's hand.
struct Setup {
    engines: Vec<FakeEngine>,
    cluster: Rc<Cluster>,
    pool: Pool,
    dir: tempfile::TempDir,
}

impl Setup {
    async fn new(engines: usize) -> Self {
        Self::with(engines, |_| {}).await
    }

    async fn with(engines: usize, change: impl FnOnce(&mut PoolOptions)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cluster = Cluster::new();
        let engines: Vec<_> =
            (0..engines).map(|n| FakeEngine::start(dir.path(), &format!("{n}.sock"), &cluster)).collect();
        let pool = Pool::start(options(&engines, change));
        let setup = Self { engines, cluster, pool, dir };
        until("all engines are ready", || setup.usable() == setup.engines.len()).await;
        setup
    }

    fn usable(&self) -> usize {
        self.pool.status().iter().filter(|engine| engine.state.is_usable()).count()
    }

    fn state(&self, at: usize) -> EngineState {
        self.pool.status()[at].state
    }
}

fn options(engines: &[FakeEngine], change: impl FnOnce(&mut PoolOptions)) -> PoolOptions {
    let mut options = PoolOptions::new(engines.iter().map(|engine| engine.endpoint.clone()).collect());
    options.identity = Some(identity(PASSWORD));
    change(&mut options);
    options
}

fn identity(password: &str) -> Arc<Identity> {
    Identity::with_password("web".parse().unwrap(), Secret::new(password.into()))
}

/// Runs a test on one thread with the clock stopped: it moves when every task waits for it, never otherwise.
fn run(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(3600);
    while !condition() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        sleep(Duration::from_millis(1)).await;
    }
}

async fn sign(pool: &Pool, message: &[u8], within: Duration) -> Result<(), Error> {
    let request = TlsSign {
        key: SpkiSha256([7; 32]),
        scheme: SignatureScheme::EcdsaP256Sha256,
        site: "www.example.org",
        message,
    };
    let signature = pool.call(&request, Instant::now() + within).await?;
    assert_eq!(signature.bytes, message, "the reply of another request");
    Ok(())
}

/// Begins so many signatures and waits for all of them; the slowest, and the errors.
async fn sign_many(pool: &Pool, count: usize) -> (Duration, Vec<Error>) {
    let start = Instant::now();
    let tasks: Vec<_> = (0..count)
        .map(|n| {
            let pool = pool.clone();
            spawn_local(async move {
                let result = sign(&pool, format!("message {n}").as_bytes(), Duration::from_secs(5)).await;
                (start.elapsed(), result)
            })
        })
        .collect();
    let mut slowest = Duration::ZERO;
    let mut errors = Vec::new();
    for task in tasks {
        let (took, result) = task.await.unwrap();
        slowest = slowest.max(took);
        errors.extend(result.err());
    }
    (slowest, errors)
}

#[test]
fn ten_thousand_pipelined_calls_get_their_own_answers() {
    run(async {
        let setup = Setup::with(2, |options| options.hedging = None).await;
        let (_, errors) = sign_many(&setup.pool, 10_000).await;
        assert!(errors.is_empty(), "{errors:?}");
        let status = setup.pool.status();
        assert_eq!(status.iter().map(|engine| engine.counters.answers).sum::<u64>(), 10_000);
        assert!(status.iter().all(|engine| engine.counters.answers > 4_000), "least outstanding: {status:?}");
        assert_eq!(setup.pool.counters().calls, 10_000);
        assert_eq!(setup.pool.counters().waiting, 0);
    });
}

#[test]
fn requests_of_one_turn_leave_in_one_write() {
    run(async {
        let setup = Setup::new(1).await;
        let before = setup.engines[0].behaviour.reads.get();
        assert!(sign_many(&setup.pool, 50).await.1.is_empty());
        let reads = setup.engines[0].behaviour.reads.get() - before;
        assert!(reads <= 3, "the runtime takes its tasks in turns of 61, so two or three: {reads}");
    });
}

#[test]
fn the_engines_limit_of_requests_in_flight_is_kept() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let cluster = Cluster::new();
        let engine = FakeEngine::start(dir.path(), "0.sock", &cluster);
        engine.behaviour.max_in_flight.set(5);
        let engines = [engine];
        let pool = Pool::start(options(&engines, |_| {}));
        assert!(pool.ready(Instant::now() + Duration::from_secs(1)).await);
        engines[0].script(|request| match request {
            Request::TlsSign(_) => Action::Never,
            _ => Action::Normally,
        });
        let calls = spawn_local({
            let pool = pool.clone();
            async move { sign_many(&pool, 20).await.1.len() }
        });
        until("the limit is reached", || pool.counters().waiting == 17).await;
        sleep(Duration::from_secs(1)).await;
        assert_eq!(
            engines[0].behaviour.count("TlsSign"),
            3,
            "two of five are kept back for pings and logins"
        );
        assert_eq!(calls.await.unwrap(), 20);
    });
}

#[test]
fn a_call_given_up_leaves_nothing_behind() {
    run(async {
        let setup = Setup::new(1).await;
        setup.engines[0].script(|request| match request {
            Request::TlsSign(_) => Action::After(Duration::from_millis(50)),
            _ => Action::Normally,
        });
        {
            let call = sign(&setup.pool, b"given up", Duration::from_secs(1));
            assert!(tokio::time::timeout(Duration::from_millis(5), call).await.is_err());
        }
        sign(&setup.pool, b"the next", Duration::from_secs(1)).await.unwrap();
        assert_eq!(setup.state(0), EngineState::Connected { in_flight: 0 });
        assert_eq!(setup.pool.counters().failures, 0);
    });
}

#[test]
fn a_dropped_pool_closes_its_connections() {
    run(async {
        let setup = Setup::new(2).await;
        let Setup { engines, pool, .. } = setup;
        assert_eq!(engines[0].behaviour.connections.get(), 1);
        drop(pool);
        until("they are closed", || engines.iter().all(|engine| engine.behaviour.connections.get() == 0))
            .await;
    });
}

#[test]
fn what_an_engine_would_not_take_is_not_sent() {
    run(async {
        let setup = Setup::new(1).await;
        let sign = Sign { key: KeyId([0; 16]), scheme: SignatureScheme::Ed25519, message: &[0; 80_000] };
        let result = setup.pool.call(&sign, Instant::now() + Duration::from_secs(1)).await;
        assert!(
            matches!(result, Err(Error::TooLarge { operation: "Sign", limit: 70_000, .. })),
            "{result:?}"
        );
    });
}

#[test]
fn a_passed_deadline_costs_no_request() {
    run(async {
        let setup = Setup::new(1).await;
        assert!(matches!(sign(&setup.pool, b"late", Duration::ZERO).await, Err(Error::DeadlineExceeded)));
        assert_eq!(setup.engines[0].behaviour.count("TlsSign"), 0);
    });
}
