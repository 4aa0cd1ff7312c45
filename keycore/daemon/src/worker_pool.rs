//! Threads for what must not hold up the event loop: RSA, key generation, passwords, the store.
//!
//! The queue is bounded and serves connections in turn; heavy jobs never take the last thread (`schedule`).

use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

mod fair_queue;
mod schedule;

use schedule::Schedule;

use crate::connection::ConnectionId;

/// A job and whom its result is for.
#[derive(Debug)]
pub(crate) struct Task<J> {
    /// The connection that asked.
    pub(crate) connection: ConnectionId,
    /// The request on it.
    pub(crate) request: u32,
    /// Whether it takes tens of milliseconds or more: a password hash, a key generation.
    pub(crate) heavy: bool,
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

/// A fixed number of threads behind a bounded queue that is fair between connections.
///
/// Dropping the pool drops what is queued and lets the threads end after the job that each is at.
#[derive(Debug)]
pub(crate) struct WorkerPool<J, R> {
    shared: Arc<Shared<J, R>>,
}

#[derive(Debug)]
struct Shared<J, R> {
    queue: Mutex<Queue<J>>,
    work: Condvar,
    results: Mutex<Vec<Completed<R>>>,
}

#[derive(Debug)]
struct Queue<J> {
    waiting: Schedule<J>,
    closed: bool,
}

impl<J: Send + 'static, R: Send + 'static> WorkerPool<J, R> {
    /// Starts `threads` threads that `run` jobs. At most `capacity` jobs wait. `notify` is called, from a worker,
    /// when there are results and none were there before.
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
            shared: Arc::new(Shared {
                queue: Mutex::new(Queue { waiting: Schedule::new(threads, capacity), closed: false }),
                work: Condvar::new(),
                results: Mutex::default(),
            }),
        };
        let (run, notify) = (Arc::new(run), Arc::new(notify));
        for number in 0..threads.get() {
            let (shared, run, notify) = (Arc::clone(&pool.shared), Arc::clone(&run), Arc::clone(&notify));
            std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || shared.work(&*run, &*notify))?;
        }
        Ok(pool)
    }

    /// Queues a task.
    ///
    /// # Errors
    ///
    /// The task itself, if the queue is full.
    pub(crate) fn submit(&self, task: Task<J>) -> Result<(), Task<J>> {
        lock(&self.shared.queue).waiting.push(task)?;
        self.shared.work.notify_one();
        Ok(())
    }

    /// Drops what `connection` has queued; what is running goes on, and its result still comes.
    pub(crate) fn forget(&self, connection: ConnectionId) {
        let forgotten = lock(&self.shared.queue).waiting.remove(connection);
        // Jobs are dropped (and wiped) here, with the queue free.
        drop(forgotten);
    }

    /// Takes the results that are there.
    pub(crate) fn collect(&self) -> Vec<Completed<R>> {
        std::mem::take(&mut *lock(&self.shared.results))
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
        while let Some(Task { connection, request, heavy, job }) = self.next() {
            // The engine's invariants are its own: it sees a panic as a poisoned lock. Here nothing is shared.
            let result = catch_unwind(AssertUnwindSafe(|| run(job))).map_err(|_logged_by_the_hook| Panicked);
            lock(&self.queue).waiting.ended(heavy);
            if heavy {
                // Another thread may have passed over a heavy job because of this one.
                self.work.notify_one();
            }
            let mut results = lock(&self.results);
            let first = results.is_empty();
            results.push(Completed { connection, request, result });
            drop(results);
            if first {
                notify();
            }
        }
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
            queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// No user code runs under these locks, so a poisoned one is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
