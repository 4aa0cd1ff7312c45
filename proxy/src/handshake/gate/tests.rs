use std::collections::VecDeque;
use std::future::poll_fn;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Beginnings of records: a ServerHello, a ticket or an alert, and a response.
const HELLO: &[u8] = b"\x16\x03\x03server's flight";
const TICKET: &[u8] = b"\x17\x03\x03ticket";
const RESPONSE: &[u8] = b"\x17\x03\x03response";

/// What the client says comes from `reads`; each write is kept as it came, and takes as much as the next of `takes` says, or all.
#[derive(Default)]
struct Socket {
    reads: VecDeque<&'static [u8]>,
    writes: Vec<Vec<u8>>,
    takes: VecDeque<usize>,
    shut_down: bool,
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(read) = self.reads.pop_front() else { return Poll::Pending };
        buffer.put_slice(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut bytes = slices.iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<_>>();
        bytes.truncate(self.takes.pop_front().unwrap_or(usize::MAX));
        if bytes.is_empty() && !slices.is_empty() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let taken = bytes.len();
        self.writes.push(bytes);
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut_down = true;
        Poll::Ready(Ok(()))
    }
}

/// A gate that has read a ClientHello, and has written the server's flight.
async fn answered() -> Gate<Socket> {
    let socket = Socket { reads: [b"hello".as_slice(), b"finished"].into(), ..Socket::default() };
    let mut gate = Gate::new(socket, Arc::default());
    read(&mut gate, b"hello").await;
    assert_eq!(gate.take_first_bytes(), b"hello");
    gate.write_all(HELLO).await.unwrap();
    gate
}

async fn read(gate: &mut Gate<Socket>, expected: &[u8]) {
    let mut buffer = [0; 64];
    let read = gate.read(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..read], expected);
}

#[tokio::test]
async fn a_ticket_leaves_with_the_first_response() {
    let mut gate = answered().await;
    read(&mut gate, b"finished").await;
    gate.write_all(TICKET).await.unwrap();
    gate.flush().await.unwrap();
    assert_eq!(gate.io.writes, [HELLO], "nobody waits for a ticket");
    gate.handshake_is_over();
    gate.flush().await.unwrap();
    gate.write_all(RESPONSE).await.unwrap();
    gate.write_all(RESPONSE).await.unwrap();
    assert_eq!(gate.io.writes, [HELLO, &[TICKET, RESPONSE].concat(), RESPONSE]);
}

#[tokio::test]
async fn no_byte_is_lost_or_doubled_however_little_the_socket_takes() {
    for step in 1..=RESPONSE.len() {
        let mut gate = answered().await;
        read(&mut gate, b"finished").await;
        gate.write_all(TICKET).await.unwrap();
        gate.handshake_is_over();
        // In turns it has room for `step` bytes, and for none.
        gate.io.takes = (0..64).map(|turn| if turn % 2 == 0 { step } else { 0 }).collect();
        let mut response = RESPONSE;
        while !response.is_empty() {
            let (first, second) = response.split_at(response.len() / 2);
            let slices = [IoSlice::new(first), IoSlice::new(second)];
            let wrote = gate.write_vectored(&slices).await.unwrap();
            assert!(wrote > 0, "a write of nothing is an error to who writes");
            response = &response[wrote..];
        }
        assert_eq!(gate.io.writes.concat(), [HELLO, TICKET, RESPONSE].concat(), "{step} bytes at a time");
    }
}

#[tokio::test]
async fn what_is_more_than_a_ticket_goes_out_behind_it() {
    let mut gate = answered().await;
    read(&mut gate, b"finished").await;
    gate.write_all(TICKET).await.unwrap();
    let large = [TICKET, &[7; WITHHELD]].concat();
    gate.write_all(&large).await.unwrap();
    assert_eq!(gate.io.writes, [HELLO, &[TICKET, large.as_slice()].concat()]);

    // As many pieces as one likes.
    let mut gate = answered().await;
    read(&mut gate, b"finished").await;
    gate.write_all(TICKET).await.unwrap();
    gate.handshake_is_over();
    let bytes = (0..2 * PIECES as u8).collect::<Vec<_>>();
    let pieces = bytes.chunks(1).map(IoSlice::new).collect::<Vec<_>>();
    let wrote = gate.write_vectored(&pieces).await.unwrap();
    assert_eq!(wrote, PIECES - 1);
    assert_eq!(gate.write_vectored(&pieces[wrote..]).await.unwrap(), bytes.len() - wrote);
    assert_eq!(gate.io.writes.concat(), [HELLO, TICKET, bytes.as_slice()].concat());
}

#[tokio::test]
async fn an_end_before_the_handshake_says_nothing() {
    let mut gate =
        Gate::new(Socket { reads: [b"hello".as_slice()].into(), ..Socket::default() }, Arc::default());
    read(&mut gate, b"hello").await;
    gate.shutdown().await.unwrap();
    assert!(gate.io.writes.is_empty() && gate.io.shut_down);
}

#[tokio::test]
async fn a_flight_is_never_withheld() {
    // More of it in a second write: the client has not spoken since.
    let mut gate = answered().await;
    gate.write_all(TICKET).await.unwrap();
    assert_eq!(gate.io.writes, [HELLO, TICKET]);

    // TLS 1.2 ends in the clear.
    let mut gate = answered().await;
    read(&mut gate, b"finished").await;
    let end = b"\x14\x03\x03change cipher spec";
    gate.write_all(end).await.unwrap();
    assert_eq!(gate.io.writes, [HELLO, end]);
}

#[tokio::test]
async fn what_is_withheld_goes_out_when_the_handshake_fails_or_the_connection_ends() {
    let mut gate = answered().await;
    read(&mut gate, b"finished").await;
    gate.write_all(TICKET).await.unwrap();
    poll_fn(|cx| gate.poll_let_go(cx)).await.unwrap();
    assert_eq!(gate.io.writes, [HELLO, TICKET]);

    let mut gate = answered().await;
    read(&mut gate, b"finished").await;
    gate.write_all(TICKET).await.unwrap();
    gate.handshake_is_over();
    gate.shutdown().await.unwrap();
    assert_eq!(gate.io.writes, [HELLO, TICKET]);
    assert!(gate.io.shut_down);
}

#[tokio::test]
async fn nothing_is_written_or_read_once_it_is_shut() {
    let mut gate = answered().await;
    gate.shut.store(true, Relaxed);
    gate.write_all(HELLO).await.unwrap();
    assert_eq!(gate.io.writes, [HELLO]);
    assert_eq!(gate.read(&mut [0; 8]).await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
}
