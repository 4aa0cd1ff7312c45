use std::sync::mpsc;
use std::time::Duration;

use super::*;

const LONG: Duration = Duration::from_secs(20);

fn id(slot: usize) -> ConnectionId {
    ConnectionId { slot, serial: 7 }
}

fn task<J>(slot: usize, request: u32, job: J) -> Task<J> {
    Task { connection: id(slot), party: Party::Local(slot as u32), request, heavy: false, brief: true, job }
}

fn size(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap()
}

/// A pool whose jobs wait for a permit, and a way to wait for its results.
struct Fixture {
    pool: WorkerPool<Option<u32>, u32>,
    permits: mpsc::Sender<()>,
    started: mpsc::Receiver<Option<u32>>,
    notified: mpsc::Receiver<()>,
    got: Vec<Completed<u32>>,
}

impl Fixture {
    fn new(threads: usize, capacity: usize) -> Self {
        let (permits, wait) = mpsc::channel();
        let (start, started) = mpsc::channel();
        let (notify, notified) = mpsc::channel();
        let wait = Mutex::new(wait);
        let pool = WorkerPool::start(
            size(threads),
            size(capacity),
            move |job: Option<u32>| {
                start.send(job).unwrap();
                wait.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(LONG).unwrap();
                job.expect("a job that panics")
            },
            move || notify.send(()).unwrap_or(()),
        )
        .unwrap();
        Self { pool, permits, started, notified, got: Vec::new() }
    }

    fn results(&mut self, count: usize) -> Vec<Completed<u32>> {
        while self.got.len() < count {
            self.notified.recv_timeout(LONG).expect("a notification for each batch of results");
            self.got.extend(self.pool.collect());
        }
        std::mem::take(&mut self.got)
    }
}

/// At the same priority a flood of RSA-4096 takes two thirds of a processor from the event loop.
#[test]
fn workers_give_way_to_the_event_loop() {
    let (tell, told) = mpsc::channel();
    let own = rustix::process::getpriority_process(None).unwrap();
    let pool = WorkerPool::start(
        size(2),
        size(10),
        move |()| tell.send(rustix::process::getpriority_process(None).unwrap()).unwrap(),
        || (),
    )
    .unwrap();
    pool.submit(task(0, 0, ())).unwrap();
    assert_eq!(told.recv_timeout(LONG), Ok((own + NICE).min(19)));
    assert_eq!(rustix::process::getpriority_process(None), Ok(own));
}

#[test]
fn a_pool_is_idle_when_nothing_waits_and_nothing_runs() {
    let mut fixture = Fixture::new(1, 10);
    for request in 0..2 {
        fixture.pool.submit(task(1, request, Some(request))).unwrap();
    }
    fixture.started.recv_timeout(LONG).unwrap();
    assert!(!fixture.pool.is_idle(), "one runs, one waits");
    fixture.permits.send(()).unwrap();
    fixture.started.recv_timeout(LONG).unwrap();
    assert!(!fixture.pool.is_idle(), "one runs");
    fixture.permits.send(()).unwrap();
    fixture.results(2);
    // The thread may be on its way from its last result to its wait for work.
    let deadline = std::time::Instant::now() + LONG;
    while !fixture.pool.is_idle() {
        assert!(std::time::Instant::now() < deadline, "never idle");
        std::thread::yield_now();
    }
}

#[test]
fn results_carry_the_connection_and_request_that_asked() {
    let mut fixture = Fixture::new(2, 10);
    fixture.pool.submit(task(1, 11, Some(100))).unwrap();
    fixture.pool.submit(task(2, 22, Some(200))).unwrap();
    fixture.permits.send(()).unwrap();
    fixture.permits.send(()).unwrap();
    let mut results: Vec<_> = fixture
        .results(2)
        .into_iter()
        .map(|done| (done.connection.slot, done.request, done.result))
        .collect();
    results.sort_unstable_by_key(|&(slot, ..)| slot);
    assert_eq!(results, [(1, 11, Ok(100)), (2, 22, Ok(200))]);
}

#[test]
fn a_panic_answers_its_request_and_the_worker_goes_on() {
    let mut fixture = Fixture::new(1, 10);
    fixture.pool.submit(task(1, 1, None)).unwrap();
    fixture.pool.submit(task(1, 2, Some(5))).unwrap();
    fixture.permits.send(()).unwrap();
    fixture.permits.send(()).unwrap();
    let results: Vec<_> = fixture.results(2).into_iter().map(|done| done.result).collect();
    assert_eq!(results, [Err(Panicked), Ok(5)]);
}

#[test]
fn a_full_queue_refuses_and_what_a_gone_connection_queued_is_dropped() {
    let mut fixture = Fixture::new(1, 2);
    fixture.pool.submit(task(1, 0, Some(0))).unwrap();
    assert_eq!(fixture.started.recv_timeout(LONG), Ok(Some(0)));
    fixture.pool.submit(task(1, 1, Some(1))).unwrap();
    fixture.pool.submit(task(2, 2, Some(2))).unwrap();
    assert_eq!(fixture.pool.submit(task(3, 3, Some(3))).unwrap_err().request, 3);
    fixture.pool.forget(id(1));
    fixture.pool.submit(task(3, 3, Some(3))).unwrap();
    for _ in 0..3 {
        fixture.permits.send(()).unwrap();
    }
    let results: Vec<_> = fixture.results(3).into_iter().map(|done| done.request).collect();
    assert_eq!(results, [0, 2, 3], "the running job's result comes, the queued one's does not");
}

#[test]
fn dropping_the_pool_drops_what_is_queued() {
    let fixture = Fixture::new(1, 5);
    fixture.pool.submit(task(1, 0, Some(0))).unwrap();
    assert_eq!(fixture.started.recv_timeout(LONG), Ok(Some(0)));
    fixture.pool.submit(task(1, 1, Some(1))).unwrap();
    drop(fixture.pool);
    fixture.permits.send(()).unwrap();
    assert!(fixture.started.recv_timeout(LONG).is_err(), "the worker ended without another job");
}

#[test]
fn while_much_waits_results_are_announced_together_and_none_is_forgotten() {
    let mut fixture = Fixture::new(1, 100);
    fixture.pool.submit(task(1, 0, Some(0))).unwrap();
    assert_eq!(fixture.started.recv_timeout(LONG), Ok(Some(0)));
    for request in 1..=40 {
        fixture.pool.submit(task(1, request, Some(request))).unwrap();
    }
    let mut announced = 0;
    for _ in 0..=40 {
        fixture.permits.send(()).unwrap();
    }
    while fixture.got.len() < 41 {
        fixture.notified.recv_timeout(LONG).expect("a notification for the results that are left");
        announced += 1;
        fixture.got.extend(fixture.pool.collect());
    }
    assert!(announced <= 41 - 10, "{announced} announcements for 41 results");

    // A job that may take long keeps nobody's result back.
    let open = |request| Task { brief: false, ..task(1, request, Some(request)) };
    for request in 0..=20 {
        fixture.pool.submit(open(request)).unwrap();
    }
    fixture.permits.send(()).unwrap();
    fixture.notified.recv_timeout(LONG).expect("a notification although twenty wait");
    assert_eq!(fixture.pool.collect().len(), 1);
    for _ in 0..20 {
        fixture.permits.send(()).unwrap();
    }
}
