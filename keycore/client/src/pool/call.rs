use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::time::Instant;
use zeroize::Zeroize;

use super::dispatch::Dispatch;
use crate::error::Error;
use crate::operation::Traits;

/// Most requests of one call without an answer: the first, its hedge, and one more when both engines are trouble.
const MAX_ATTEMPTS: usize = 3;

/// Names a call; a later call in the same slot has another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CallKey {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// One call under way.
pub(super) struct Call {
    pub(super) generation: u32,
    pub(super) traits: Traits,
    /// The request's body until there is an outcome, then the reply's.
    pub(super) body: Vec<u8>,
    pub(super) deadline: Instant,
    /// Since when it waits in the queue for an engine with room.
    pub(super) queued_since: Option<Instant>,
    /// Requests sent so far.
    pub(super) tries: u8,
    /// Which engine its hedge went to.
    pub(super) hedge: Option<usize>,
    pub(super) outcome: Option<Result<usize, Error>>,
    attempts: [Option<Attempt>; MAX_ATTEMPTS],
    waker: Option<Waker>,
}

/// A request without an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt {
    pub(super) engine: usize,
    pub(super) sent: Instant,
}

impl Call {
    pub(super) fn new(generation: u32, traits: Traits, body: Vec<u8>, deadline: Instant) -> Self {
        Self {
            generation,
            traits,
            body,
            deadline,
            queued_since: None,
            tries: 0,
            hedge: None,
            outcome: None,
            attempts: [None; MAX_ATTEMPTS],
            waker: None,
        }
    }

    /// The requests without an answer.
    pub(super) fn attempts(&self) -> impl Iterator<Item = Attempt> {
        self.attempts.iter().flatten().copied()
    }

    pub(super) fn is_asked(&self, engine: usize) -> bool {
        self.attempts().any(|attempt| attempt.engine == engine)
    }

    pub(super) fn can_be_sent(&self) -> bool {
        self.outcome.is_none() && self.attempts.iter().any(Option::is_none)
    }

    pub(super) fn sent(&mut self, attempt: Attempt) {
        self.tries = self.tries.saturating_add(1);
        if let Some(free) = self.attempts.iter_mut().find(|attempt| attempt.is_none()) {
            *free = Some(attempt);
        }
    }

    /// Takes away the request to `engine`: it is answered, or won't be.
    pub(super) fn ended(&mut self, engine: usize) -> Option<Attempt> {
        self.attempts.iter_mut().find_map(|attempt| attempt.take_if(|attempt| attempt.engine == engine))
    }

    /// The reply's body came from `engine`.
    pub(super) fn answered(&mut self, engine: usize, body: &[u8]) {
        self.wipe();
        // The request isn't needed any more: its memory serves the reply.
        self.body.clear();
        self.body.extend_from_slice(body);
        self.finish(Ok(engine));
    }

    pub(super) fn finish(&mut self, outcome: Result<usize, Error>) {
        self.outcome = Some(outcome);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn wipe(&mut self) {
        if self.traits.secret {
            self.body.zeroize();
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.wipe();
    }
}

/// A success or a refusal that the caller must see, still encoded.
pub(super) struct Reply {
    pub(super) body: Vec<u8>,
    pub(super) engine: usize,
}

/// Waits for the outcome of one call; gives the call up when dropped.
pub(super) struct Answer<'a> {
    dispatch: &'a Rc<RefCell<Dispatch>>,
    key: Option<CallKey>,
}

impl<'a> Answer<'a> {
    pub(super) fn begin(
        dispatch: &'a Rc<RefCell<Dispatch>>,
        traits: Traits,
        body: Vec<u8>,
        deadline: Instant,
    ) -> Self {
        let key = dispatch.borrow_mut().begin(traits, body, deadline, Instant::now());
        Self { dispatch, key: Some(key) }
    }
}

impl Future for Answer<'_> {
    type Output = Result<Reply, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut dispatch = self.dispatch.borrow_mut();
        let Some(call) = self.key.and_then(|key| dispatch.call(key)) else {
            return Poll::Ready(Err(Error::DeadlineExceeded));
        };
        match call.outcome.take() {
            None => {
                match &mut call.waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    none => *none = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
            Some(outcome) => {
                let body = core::mem::take(&mut call.body);
                if let Some(key) = self.key {
                    dispatch.remove(key);
                }
                drop(dispatch);
                self.key = None;
                Poll::Ready(outcome.map(|engine| Reply { body, engine }))
            }
        }
    }
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key
            // Borrowed only if a waker's drop drops the caller, from inside the pool: then the answer, or the
            // deadline, frees the slot's content.
            && let Ok(mut dispatch) = self.dispatch.try_borrow_mut()
        {
            dispatch.remove(key);
        }
    }
}
