//! Threads for what must not hold up the event loop: RSA, key generation, passwords, the store.
//!
//! The queue is bounded and serves parties in turn (`fair_queue`); heavy jobs never take the last thread (`schedule`).
//!
//! Waking the event loop costs as much as a tenth of an RSA signature. So while brief jobs wait, results are announced
//! together: as many as a quarter of what waits, so that no reply is later by more than a quarter of the queue.

use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Barrier, Condvar, Mutex, MutexGuard, PoisonError};

mod fair_queue;
mod schedule;

use schedule::Schedule;

use crate::connection::ConnectionId;
use crate::party::Party;
use crate::priority;

/// A worker gets a ninth of what the event loop gets of a busy processor.
const NICE: i32 = 10;

/// A job and whom its result is for.
#[derive(Debug)]
pub(crate) struct Task<J> {
    /// The connection that asked.
    pub(crate) connection: ConnectionId,
    /// Whose turn it takes.
    pub(crate) party: Party,
    /// The request on it.
    pub(crate) request: u32,
    /// Whether it takes tens of milliseconds or more: a password hash, a key generation.
    pub(crate) heavy: bool,
    /// Whether it takes two milliseconds at most, whatever happens: a signature.
    pub(crate) brief: bool,
    /// What to do.
    pub(crate) job: J,
}

/// A job that has run.
#[derive(Debug)]
pub(crate) struct Completed<R> {
    /// The connection that asked; it may be gone.
    pub(crate) connection: ConnectionId,
    /// The request on it.
    pub(crate) request: u32,
    /// What came out.
    pub(crate) result: Result<R, Panicked>,
}

/// The job panicked; the log says where. The worker lives on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Panicked;

/// A fixed number of threads behind a bounded queue that is fair between parties.
///
/// Dropping the pool drops what is queued and lets the threads end after the job that each is at.
#[derive(Debug)]
pub(crate) struct WorkerPool<J, R> {
    shared: Arc<Shared<J, R>>,
    threads: usize,
}

#[derive(Debug)]
struct Shared<J, R> {
    queue: Mutex<Queue<J>>,
    work: Condvar,
    results: Mutex<Results<R>>,
}

#[derive(Debug)]
struct Results<R> {
    completed: Vec<Completed<R>>,
    /// The event loop knows that there are some.
    announced: bool,
}

#[derive(Debug)]
struct Queue<J> {
    waiting: Schedule<J>,
    /// Threads that wait for work.
    idle: usize,
    closed: bool,
}

impl<J: Send + 'static, R: Send + 'static> WorkerPool<J, R> {
    /// Starts `threads` threads that `run` jobs. At most `capacity` jobs wait. `notify` is called, from a worker,
    /// when there are results that it was not called for.
    pub(crate) fn start<Run, Notify>(
        threads: NonZeroUsize,
        capacity: NonZeroUsize,
        run: Run,
        notify: Notify,
    ) -> io::Result<Self>
    where
        Run: Fn(J) -> R + Send + Sync + 'static,
        Notify: Fn() + Send + Sync + 'static,
    {
        let pool = Self {
            threads: threads.get(),
            shared: Arc::new(Shared {
                queue: Mutex::new(Queue {
                    waiting: Schedule::new(threads, capacity),
                    idle: 0,
                    closed: false,
                }),
                work: Condvar::new(),
                results: Mutex::new(Results { completed: Vec::new(), announced: false }),
            }),
        };
        let (run, notify, ready) =
            (Arc::new(run), Arc::new(notify), Arc::new(Barrier::new(threads.get() + 1)));
        for number in 0..threads.get() {
            let (shared, run, notify) = (Arc::clone(&pool.shared), Arc::clone(&run), Arc::clone(&notify));
            let ready = Arc::clone(&ready);
            std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                // The event loop signs with P-256, and a flood of what workers do must not keep it from that. Workers have what it leaves, which is
                // most, since all of their work comes through it.
                priority::give_way(NICE);
                ready.wait();
                shared.work(&*run, &*notify);
            })?;
        }
        // The sandbox that comes next lets nobody change a priority.
        ready.wait();
        Ok(pool)
    }

    /// Queues a task.
    ///
    /// # Errors
    ///
    /// The task itself, if the queue is full.
    pub(crate) fn submit(&self, task: Task<J>) -> Result<(), Task<J>> {
        let mut queue = lock(&self.shared.queue);
        queue.waiting.push(task)?;
        let someone_waits = queue.idle > 0;
        drop(queue);
        if someone_waits {
            self.shared.work.notify_one();
        }
        Ok(())
    }

    /// Whether nothing waits and nothing runs.
    pub(crate) fn is_idle(&self) -> bool {
        let queue = lock(&self.shared.queue);
        queue.idle == self.threads && queue.waiting.len() == 0
    }

    /// Drops what `connection` has queued; what is running goes on, and its result still comes.
    pub(crate) fn forget(&self, connection: ConnectionId) {
        let forgotten = lock(&self.shared.queue).waiting.remove(connection);
        // Jobs are dropped (and wiped) here, with the queue free.
        drop(forgotten);
    }

    /// Takes the results that are there.
    pub(crate) fn collect(&self) -> Vec<Completed<R>> {
        let mut results = lock(&self.shared.results);
        results.announced = false;
        std::mem::take(&mut results.completed)
    }
}

impl<J, R> Drop for WorkerPool<J, R> {
    fn drop(&mut self) {
        let mut queue = lock(&self.shared.queue);
        queue.closed = true;
        let dropped = queue.waiting.clear();
        drop(queue);
        drop(dropped);
        self.shared.work.notify_all();
    }
}

impl<J, R> Shared<J, R> {
    fn work(&self, run: &impl Fn(J) -> R, notify: &impl Fn()) {
        let mut next = self.next();
        while let Some(Task { connection, request, heavy, job, .. }) = next {
            // The engine's invariants are its own: it sees a panic as a poisoned lock. Here nothing is shared.
            let result = catch_unwind(AssertUnwindSafe(|| run(job))).map_err(|_logged_by_the_hook| Panicked);
            let mut results = lock(&self.results);
            results.completed.push(Completed { connection, request, result });
            let done = results.completed.len();
            drop(results);
            let (upcoming, waiting) = self.after(heavy);
            let soon_more = upcoming.as_ref().is_some_and(|task| task.brief) && done < waiting / 4;
            if !soon_more {
                self.announce(notify);
            }
            next = upcoming.or_else(|| self.next());
        }
    }

    /// Notes the end of a task; gives the next one, if there is any, and how many wait behind it.
    fn after(&self, heavy: bool) -> (Option<Task<J>>, usize) {
        let mut queue = lock(&self.queue);
        queue.waiting.ended(heavy);
        if heavy {
            // Another thread may have passed over a heavy job because of this one.
            self.work.notify_one();
        }
        if queue.closed {
            return (None, 0);
        }
        (queue.waiting.pop(), queue.waiting.len())
    }

    /// Wakes the event loop, unless it is about to look anyway or there is nothing to see.
    fn announce(&self, notify: &impl Fn()) {
        let mut results = lock(&self.results);
        if results.completed.is_empty() || results.announced {
            return;
        }
        results.announced = true;
        drop(results);
        notify();
    }

    /// Waits for a task; `None` when the pool is gone.
    fn next(&self) -> Option<Task<J>> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.closed {
                return None;
            }
            if let Some(task) = queue.waiting.pop() {
                return Some(task);
            }
            queue.idle += 1;
            queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }
}

/// No user code runs under these locks, so a poisoned one is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
