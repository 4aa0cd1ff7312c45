use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// Holds a request's body back until the upstream has asked for it: `Expect: 100-continue` end to end, so that a client
/// does not send gigabytes to an upstream that refuses them by the head alone.
///
/// Shared because hyper calls back with the upstream's `100 Continue` through a `Send + Sync` closure; used by one thread.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    state: State,
    waker: Option<Waker>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing came from the upstream yet.
    #[default]
    Waiting,
    /// The upstream wants the body, or is too old to say so.
    Open,
    /// The upstream answered without it; the response is still on its way.
    Answered,
    /// The response is complete: nobody will ever want the body.
    Refused,
}

impl Gate {
    /// The upstream asked for the body, or has had its time to do so.
    pub(crate) fn open(&self) {
        self.advance(State::Open);
    }

    /// The upstream sent its final response. A body that it did not ask for by then stays where it is.
    pub(crate) fn answered(&self) {
        self.advance(State::Answered);
    }

    /// The response is complete.
    pub(crate) fn finished(&self) {
        self.advance(State::Refused);
    }

    fn advance(&self, to: State) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.state = match (inner.state, to) {
            (State::Waiting, to) => to,
            (State::Answered, State::Refused) => State::Refused,
            (settled, _) => settled,
        };
        if let Some(waker) = inner.waker.take() {
            waker.wake();
        }
    }

    /// Whether nothing has been decided yet, so that the client waits for this proxy.
    pub(super) fn is_waiting(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).state == State::Waiting
    }

    /// `true` once the body may go, `false` once it never will.
    pub(super) fn poll_open(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match inner.state {
            State::Open => Poll::Ready(true),
            State::Refused => Poll::Ready(false),
            State::Waiting | State::Answered => {
                inner.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
