use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep, timeout};

use super::backoff::Backoff;
use super::dispatch::Dispatch;
use crate::fault::Fault;
use crate::stream::AsyncStream;

/// Reads in one turn before others get theirs.
const READS_PER_TURN: usize = 16;

/// Keeps the connection to one engine, for ever.
pub(super) async fn run(dispatch: Rc<RefCell<Dispatch>>, at: usize) {
    let endpoint = dispatch.borrow().engines()[at].endpoint().clone();
    let limit = dispatch.borrow().connect_timeout();
    let mut backoff = Backoff::new();
    loop {
        dispatch.borrow_mut().connecting(at);
        let fault = match timeout(limit, endpoint.connect()).await {
            Ok(Ok(mut stream)) => {
                dispatch.borrow_mut().opened(at, Instant::now());
                poll_fn(|cx| pump(&mut stream, &mut dispatch.borrow_mut(), at, cx)).await
            }
            Ok(Err(error)) => Fault::Connect(error),
            Err(_elapsed) => Fault::Silent { what: "the connection", after: limit },
        };
        if dispatch.borrow_mut().lost(at, &fault, Instant::now()) {
            backoff = Backoff::new();
        }
        let pause = backoff.pause();
        if !pause.is_zero() {
            sleep(pause).await;
        }
    }
}

/// Moves bytes until the connection ends.
fn pump(stream: &mut AsyncStream, dispatch: &mut Dispatch, at: usize, cx: &mut Context<'_>) -> Poll<Fault> {
    dispatch.set_writer(at, None);
    let mut stream = Pin::new(stream);
    for turn in 0.. {
        if turn == READS_PER_TURN {
            cx.waker().wake_by_ref();
            break;
        }
        let Some(session) = dispatch.session(at) else { return Poll::Ready(Fault::Closed) };
        let mut space = ReadBuf::new(session.space());
        match stream.as_mut().poll_read(cx, &mut space) {
            Poll::Pending => break,
            Poll::Ready(Err(error)) => return Poll::Ready(Fault::Io(error)),
            Poll::Ready(Ok(())) => {
                let read = space.filled().len();
                if read == 0 {
                    return Poll::Ready(Fault::Closed);
                }
                dispatch.received(at, read, Instant::now());
            }
        }
    }
    if let Some(fault) = dispatch.take_fault(at) {
        return Poll::Ready(fault);
    }
    dispatch.set_writer(at, Some(cx.waker().clone()));
    loop {
        let Some(session) = dispatch.session(at) else { return Poll::Ready(Fault::Closed) };
        if session.unwritten().is_empty() {
            // TLS keeps what the socket has no room for.
            return match stream.as_mut().poll_flush(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Fault::Io(error)),
                _ => Poll::Pending,
            };
        }
        match stream.as_mut().poll_write(cx, session.unwritten()) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(wrote)) => session.wrote(wrote),
            Poll::Ready(Err(error)) => return Poll::Ready(Fault::Io(error)),
        }
    }
}
