use std::cell::RefCell;
use std::rc::Rc;
use std::task::Poll;

use keycore_wire::{Operation, ReplyError, decode_reply, encode_request};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, timeout_at};

use crate::error::Error;
use crate::operation::Traits;

mod backoff;
mod call;
mod connection;
mod dispatch;
mod engine;
mod hedging;
mod options;
mod status;
#[cfg(test)]
mod tests;
mod ticker;

use call::Answer;
use dispatch::Dispatch;
pub use options::{Hedging, PoolOptions};
pub use status::{EngineCounters, EngineState, EngineStatus, PoolCounters};

/// Warm, logged-in connections to all engines, for one thread.
///
/// * A call goes to the engine with the fewest requests in flight. All requests of one turn of the runtime leave in
///   one write, and all answers that are there come in one read.
/// * A lost connection's requests go to another engine at once, if they may be repeated.
/// * A late request is sent to a second engine as well ([`Hedging`]); the first answer counts.
/// * An engine that owes answers and is silent while others speak is not asked until it is heard of again, and what it
///   owes is asked elsewhere.
/// * Lost connections are made again for ever: at once, then every 10 to 200 ms, after half a minute every second.
///
/// Clones share the connections; when the last one is dropped, they are closed.
#[derive(Clone)]
pub struct Pool {
    inner: Rc<Inner>,
}

struct Inner {
    dispatch: Rc<RefCell<Dispatch>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts connecting.
    ///
    /// # Panics
    ///
    /// Outside of a [`tokio::task::LocalSet`].
    pub fn start(options: PoolOptions) -> Self {
        let engines = options.endpoints.len();
        let dispatch = Rc::new(RefCell::new(Dispatch::new(options, Instant::now())));
        let mut tasks = Vec::with_capacity(engines + 1);
        tasks.push(spawn_local(ticker::run(Rc::clone(&dispatch))));
        tasks.extend((0..engines).map(|at| spawn_local(connection::run(Rc::clone(&dispatch), at))));
        Self { inner: Rc::new(Inner { dispatch, tasks }) }
    }

    /// Asks, and waits for the reply until `deadline`. Dropping the future gives the call up; the engine may still
    /// do what was asked.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with the engine's refusal; [`Error::OutcomeUnknown`] if the connection was lost during an
    /// operation that may not be repeated; [`Error::NoEngine`] or [`Error::Login`] if no engine could be used for
    /// [`PoolOptions::fail_fast_after`]; [`Error::DeadlineExceeded`], [`Error::TooLarge`], [`Error::TooManyWaiting`].
    pub async fn call<T: Operation>(&self, operation: &T, deadline: Instant) -> Result<T::Reply, Error> {
        self.call_attributed(operation, deadline).await.map(|(reply, _)| reply)
    }

    /// As [`Pool::call`], and tells which of [`PoolOptions::endpoints`] answered, by its place there.
    ///
    /// # Errors
    ///
    /// As [`Pool::call`].
    pub async fn call_attributed<T: Operation>(
        &self,
        operation: &T,
        deadline: Instant,
    ) -> Result<(T::Reply, usize), Error> {
        let traits = const { Traits::of::<T>() };
        let mut broken = 0;
        loop {
            let mut body = Vec::with_capacity(512);
            if encode_request(operation, &mut body).is_err() {
                // Only a bug of the vocabulary could do that; the engine refuses the empty body.
                body.clear();
            }
            let answer = Answer::begin(&self.inner.dispatch, traits, body, deadline).await?;
            match decode_reply::<T>(&answer.body) {
                Ok(reply) => return Ok((reply, answer.engine)),
                Err(ReplyError::Refused(refusal)) => return Err(Error::Refused(refusal)),
                Err(ReplyError::Undecodable { operation }) => {
                    let mut dispatch = self.inner.dispatch.borrow_mut();
                    dispatch.undecodable(answer.engine, operation);
                    broken += 1;
                    if !traits.repeatable {
                        return Err(Error::OutcomeUnknown { operation });
                    }
                    if broken > dispatch.engines().len() {
                        return Err(dispatch.no_engine());
                    }
                }
            }
        }
    }

    /// Waits until an engine can be asked (connected, logged in), at most until `deadline`; whether one can.
    pub async fn ready(&self, deadline: Instant) -> bool {
        let ready = std::future::poll_fn(|cx| {
            let mut dispatch = self.inner.dispatch.borrow_mut();
            if dispatch.has_usable_engine() {
                return Poll::Ready(());
            }
            dispatch.wake_when_usable(cx.waker());
            Poll::Pending
        });
        timeout_at(deadline, ready).await.is_ok()
    }

    /// How each engine does, in the order of [`PoolOptions::endpoints`].
    pub fn status(&self) -> Vec<EngineStatus> {
        self.inner.dispatch.borrow().engines().iter().map(engine::Engine::status).collect()
    }

    /// What the pool did since it started.
    pub fn counters(&self) -> PoolCounters {
        self.inner.dispatch.borrow().counters()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
