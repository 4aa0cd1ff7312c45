//! An HTTP/1 connection that costs next to nothing while its client is silent: hyper's connection, with its buffers and
//! the state of a request, is there from the first byte of a request until some time after the response, and not before or
//! after.

use std::convert::Infallible;
use std::future::Future;
use std::mem::{self, MaybeUninit};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::http1::{Builder, UpgradeableConnection};
use hyper::service::HttpService;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::Activity;
use super::drive::Ended;
use super::metered::Metered;
use crate::body::ResponseBody;

/// How long a connection keeps what the last request needed: a client that is about to ask again finds it there.
pub(super) const REST: Duration = Duration::from_secs(2);

/// What is read of a request before hyper's connection is there to read the rest.
const FIRST_READ: usize = 8192;

/// A connection of HTTP/1, to be driven to its end.
pub(super) struct Http1<'a, IO, S: HttpService<Incoming>> {
    builder: &'a Builder,
    activity: Arc<Activity>,
    state: State<IO, S>,
    closing: bool,
}

enum State<IO, S: HttpService<Incoming>> {
    /// Nothing of a request has come.
    Resting(Box<Metered<IO>>, S),
    Serving(Box<UpgradeableConnection<TokioIo<Metered<IO>>, S>>),
    /// It has become a tunnel's, or nobody's.
    GivenAway,
}

impl<'a, IO, S> Http1<'a, IO, S>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService<Incoming, ResBody = ResponseBody, Error = Infallible> + Unpin,
{
    /// A connection on which nothing has been read yet. `activity` is that of `io`.
    pub(super) fn new(builder: &'a Builder, io: Metered<IO>, service: S, activity: &Arc<Activity>) -> Self {
        Self {
            builder,
            activity: Arc::clone(activity),
            state: State::Resting(Box::new(io), service),
            closing: false,
        }
    }

    /// Takes no more requests; ends when that under way has.
    pub(super) fn close(mut self: Pin<&mut Self>) {
        self.closing = true;
        if let State::Serving(connection) = &mut self.state {
            Pin::new(&mut **connection).graceful_shutdown();
        }
    }

    /// Gives up what the last request needed, unless anything of it, or of another, is left. To be polled afterwards.
    pub(super) fn rest(mut self: Pin<&mut Self>) {
        if self.closing || !matches!(self.state, State::Serving(_)) || !self.activity.is_between_requests() {
            return;
        }
        let State::Serving(connection) = mem::replace(&mut self.state, State::GivenAway) else { return };
        if let Some(parts) = connection.into_parts() {
            let mut io = parts.io.into_inner();
            // Blank lines may stand before a request. What else is left belongs to a request that is answered, whose body nobody has
            // taken: it must not be read as another, so this connection has no next one.
            self.closing = parts.read_buf.iter().any(|byte| !matches!(byte, b'\r' | b'\n'));
            if !self.closing {
                io.unread(parts.read_buf);
            }
            self.state = State::Resting(Box::new(io), parts.service);
        }
    }
}

impl<IO, S> Future for Http1<'_, IO, S>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService<Incoming, ResBody = ResponseBody, Error = Infallible> + Unpin,
{
    type Output = Result<(), Ended>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Serving(connection) => {
                    return Pin::new(&mut **connection).poll(cx).map_err(Ended::from);
                }
                State::Resting(io, _) if this.closing => {
                    return Pin::new(&mut **io).poll_shutdown(cx).map_err(Ended::from);
                }
                State::Resting(io, _) => {
                    let first = ready!(poll_first_bytes(io, cx))?;
                    if first.is_empty() {
                        this.closing = true;
                    } else {
                        io.unread(first);
                        this.serve();
                    }
                }
                State::GivenAway => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl<IO, S> Http1<'_, IO, S>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService<Incoming, ResBody = ResponseBody, Error = Infallible> + Unpin,
{
    fn serve(&mut self) {
        let state = mem::replace(&mut self.state, State::GivenAway);
        self.state = match state {
            State::Resting(io, service) => {
                let connection = self.builder.serve_connection(TokioIo::new(*io), service).with_upgrades();
                State::Serving(Box::new(connection))
            }
            other => other,
        };
    }
}

/// Reads what there is, by way of the stack: a connection that waits has no buffer. Nothing at its end.
fn poll_first_bytes<IO: AsyncRead + Unpin>(
    io: &mut Metered<IO>,
    cx: &mut Context<'_>,
) -> Poll<std::io::Result<Bytes>> {
    let mut space = [const { MaybeUninit::uninit() }; FIRST_READ];
    let mut buffer = ReadBuf::uninit(&mut space);
    ready!(Pin::new(io).poll_read(cx, &mut buffer))?;
    Poll::Ready(Ok(Bytes::copy_from_slice(buffer.filled())))
}

#[cfg(test)]
mod tests;
