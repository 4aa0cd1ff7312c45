use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, ready};

use tokio::time::{Instant, sleep_until};

use super::dispatch::Dispatch;

/// The pool's one timer: a call registers when it wants to be looked at, and costs no timer of its own.
pub(super) async fn run(dispatch: Rc<RefCell<Dispatch>>) {
    let mut sleep = pin!(sleep_until(Instant::now()));
    loop {
        poll_fn(|cx| {
            let mut dispatch = dispatch.borrow_mut();
            dispatch.wake_when_armed(cx.waker());
            let Some(at) = dispatch.armed() else { return Poll::Pending };
            if sleep.deadline() != at {
                sleep.as_mut().reset(at);
            }
            ready!(sleep.as_mut().poll(cx));
            Poll::Ready(())
        })
        .await;
        // If this thread itself was held up, the answers are in the sockets: read them before calling them late.
        tokio::task::yield_now().await;
        dispatch.borrow_mut().tick(Instant::now());
    }
}
