use std::future::Future;

use tokio::task::spawn_local;

/// Runs what an HTTP/2 connection splits off as tasks of this thread.
#[derive(Clone)]
pub(super) struct Executor;

impl<F: Future + 'static> hyper::rt::Executor<F> for Executor {
    fn execute(&self, task: F) {
        spawn_local(async move { drop(task.await) });
    }
}
