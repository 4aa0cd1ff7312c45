use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use tempfile::TempDir;

use super::*;
use crate::test_server::{Manner, TestServer};

/// A process whose program is called hsm-engine and does nothing.
pub(super) fn spawn(directory: &Path) -> Child {
    let program = directory.join("hsm-engine");
    if !program.exists() {
        std::fs::copy("/bin/sleep", &program).unwrap();
    }
    loop {
        match Command::new(&program).arg("60").spawn() {
            // Another test forked while the copy was open for writing.
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
            child => return child.unwrap(),
        }
    }
}

/// The state directory of an engine that a supervisor restarts when it dies.
pub(super) struct FakeEngine {
    directory: TempDir,
    over: Arc<AtomicBool>,
    supervisor: Option<JoinHandle<()>>,
    _socket: UnixListener,
}

impl FakeEngine {
    pub(super) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("run")).unwrap();
        let socket = UnixListener::bind(directory.path().join("run/engine-0.sock")).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let mut child = spawn_and_tell(directory.path());
        let (path, until) = (directory.path().to_owned(), Arc::clone(&over));
        let supervisor = std::thread::spawn(move || {
            while !until.load(Ordering::SeqCst) {
                if child.try_wait().unwrap().is_some() {
                    child = spawn_and_tell(&path);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            child.kill().unwrap();
            child.wait().unwrap();
        });
        Self { directory, over, supervisor: Some(supervisor), _socket: socket }
    }

    pub(super) fn replica(&self) -> Replica {
        Replica::new(self.directory.path(), 0)
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.directory.path().join("run/engine-0.sock")
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        self.supervisor.take().unwrap().join().unwrap();
    }
}

fn spawn_and_tell(directory: &Path) -> Child {
    let child = spawn(directory);
    let (new, path) = (directory.join("new"), directory.join("run/engine-0.pid"));
    std::fs::write(&new, format!("{}\n", child.id())).unwrap();
    std::fs::rename(new, path).unwrap();
    child
}

fn drill(replica: Replica, load: Load, disturbance: Disturbance) -> Drill {
    Drill {
        replica,
        number: 0,
        disturbance,
        at: Moment::middle_of(load.extent),
        load,
        rounds: 1,
        pause: Duration::ZERO,
        max_latency: Duration::from_secs(5),
        baseline: false,
        max_restart: Duration::from_secs(5),
    }
}

#[tokio::test]
async fn kills_are_survived_round_after_round() {
    let (server, engine) = (TestServer::start(Manner::Good(200)), FakeEngine::start());
    let load = server.load(Extent::Count(200));
    let drill = Drill { rounds: 3, baseline: true, ..drill(engine.replica(), load, Disturbance::Kill) };
    let mut told = 0;
    let report = drill.run(|_| told += 1).await.unwrap();
    assert!(report.passed, "{:?}", report.rounds);
    assert_eq!((told, report.rounds.len(), report.handshakes()), (3, 3, 600));
    assert_eq!(report.baseline.as_ref().map(|baseline| baseline.handshakes), Some(200));
    for (round, next) in report.rounds.iter().zip(&report.rounds[1..]) {
        assert_eq!(round.back_pid, next.pid);
        assert_ne!(round.pid, round.back_pid);
        assert!(round.back_after_ms.is_some());
    }
    assert!(
        report.to_string().starts_with("passed: 3 kills of engine 0, 600 handshakes, 0 failed"),
        "{report}"
    );
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["rounds"][2]["load"]["handshakes"], 200);
}

#[tokio::test]
async fn a_freeze_ends_with_its_time() {
    let (server, engine) = (TestServer::start(Manner::Good(200)), FakeEngine::start());
    let load = server.load(Extent::Duration(Duration::from_millis(300)));
    let report = drill(engine.replica(), load, Disturbance::Stop(Duration::from_millis(50)))
        .run(|_| {})
        .await
        .unwrap();
    assert!(report.passed, "{:?}", report.rounds);
    let frozen = report.rounds[0].frozen_ms.unwrap();
    assert!((50.0..300.0).contains(&frozen), "{frozen}");
}

#[tokio::test]
async fn a_freeze_ends_with_its_load() {
    let (server, engine) = (TestServer::start(Manner::Good(200)), FakeEngine::start());
    let load = server.load(Extent::Count(100));
    let report =
        drill(engine.replica(), load, Disturbance::Stop(Duration::from_secs(60))).run(|_| {}).await.unwrap();
    assert!(report.rounds[0].frozen_ms.unwrap() < 30_000.0);
}

#[tokio::test]
async fn what_goes_wrong_is_said() {
    let (server, engine) = (TestServer::start(Manner::Good(200)), FakeEngine::start());
    let load = server.load(Extent::Count(50));
    // The replica never accepts again.
    std::fs::remove_file(engine.socket()).unwrap();
    let drill = Drill {
        max_latency: Duration::from_nanos(1),
        max_restart: Duration::from_millis(50),
        ..drill(engine.replica(), load, Disturbance::Kill)
    };
    let report = drill.run(|_| {}).await.unwrap();
    assert!(!report.passed);
    let problems = report.rounds[0].problems.join("\n");
    assert!(problems.contains("not back within 50.0 ms"), "{problems}");
    assert!(problems.contains("the worst handshake took"), "{problems}");
}

#[tokio::test]
async fn failed_handshakes_fail_the_round() {
    let (server, engine) = (TestServer::start(Manner::Refuses), FakeEngine::start());
    // Refusals are quick: of ten, the last may be over before the kill.
    let load = server.load(Extent::Count(500));
    let report = drill(engine.replica(), load.clone(), Disturbance::Kill).run(|_| {}).await.unwrap();
    assert!(report.rounds[0].problems[0].contains("500 handshakes failed: 500 alert"), "{:?}", report.rounds);
    let drill = Drill { baseline: true, ..drill(engine.replica(), load, Disturbance::Kill) };
    assert!(matches!(drill.run(|_| {}).await, Err(DrillError::Baseline(500, _))));
}

#[tokio::test]
async fn a_load_that_ends_too_early_is_no_drill() {
    let (server, engine) = (TestServer::start(Manner::Good(200)), FakeEngine::start());
    let load = server.load(Extent::Count(5));
    let drill = Drill {
        at: Moment::After(Duration::from_secs(60)),
        ..drill(engine.replica(), load, Disturbance::Kill)
    };
    assert!(matches!(drill.run(|_| {}).await, Err(DrillError::EndedEarly(_))));
}
