use std::cell::Cell;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::{Notify, oneshot};

use super::*;

const TOTAL: u64 = 64 << 20;

/// More than all buffers on the way together: pipe, windows, sockets.
const BUFFERED: u64 = 16 << 20;

const PIECE: usize = 64 * 1024;

/// A long body, made as it is asked for: every byte tells its megabyte.
#[derive(Clone, Default)]
struct Long {
    sent: Rc<Cell<u64>>,
}

fn megabyte_of(position: u64) -> u8 {
    u8::try_from(position >> 20).unwrap()
}

impl Body for Long {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let sent = self.sent.get();
        if sent == TOTAL {
            return Poll::Ready(None);
        }
        self.sent.set(sent + PIECE as u64);
        Poll::Ready(Some(Ok(Frame::data(vec![megabyte_of(sent); PIECE].into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.sent.get() == TOTAL
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(TOTAL - self.sent.get())
    }
}

fn check(position: u64, piece: &[u8]) {
    let last = position + piece.len() as u64 - 1;
    assert_eq!((piece[0], piece[piece.len() - 1]), (megabyte_of(position), megabyte_of(last)));
}

/// Waits until `count` does not grow any more.
async fn settled(count: &Cell<u64>) -> u64 {
    loop {
        let before = count.get();
        tokio::time::sleep(Duration::from_millis(150)).await;
        if before > 0 && count.get() == before {
            return before;
        }
    }
}

async fn request_long(
    proxy: &Proxy,
    protocol: Protocol,
    body: Long,
) -> http::Response<hyper::body::Incoming> {
    match protocol {
        Protocol::Http1 => {
            let (client, _) = proxy.connect(protocol);
            let (mut sender, connection) = http1::handshake(TokioIo::new(client)).await.unwrap();
            spawn_local(connection);
            let request = http::Request::post("/").header("host", "example.org").body(body).unwrap();
            sender.send_request(request).await.unwrap()
        }
        Protocol::Http2 => {
            let mut sender = proxy.http2().await;
            sender
                .send_request(http::Request::post("https://example.org/").body(body).unwrap())
                .await
                .unwrap()
        }
    }
}

#[test]
fn a_slow_client_slows_the_upstream_down() {
    on_worker(async {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let sent = Rc::new(Cell::new(0));
            let counted = Rc::clone(&sent);
            let upstream = serving(move |mut stream| {
                let counted = Rc::clone(&counted);
                async move {
                    read_request(&mut stream).await;
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {TOTAL}\r\n\r\n");
                    stream.write_all(head.as_bytes()).await.unwrap();
                    while counted.get() < TOTAL {
                        stream.write_all(&[megabyte_of(counted.get()); PIECE]).await.unwrap();
                        counted.set(counted.get() + PIECE as u64);
                    }
                }
            })
            .await;
            let proxy = Proxy::to(upstream);
            let none = Long { sent: Rc::new(Cell::new(TOTAL)) };
            let mut body = request_long(&proxy, protocol, none).await.into_body();
            let before = settled(&sent).await;
            assert!(before < BUFFERED, "{protocol:?}: {before} bytes in memory");
            let mut received = 0;
            while let Some(frame) = body.frame().await {
                let piece = frame.unwrap().into_data().unwrap();
                check(received, &piece);
                received += piece.len() as u64;
            }
            assert_eq!(received, TOTAL);
        }
    });
}

#[test]
fn a_slow_upstream_slows_the_client_down() {
    on_worker(async {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let go = Rc::new(Notify::new());
            let may_go = Rc::clone(&go);
            let upstream = serving(move |mut stream| {
                let may_go = Rc::clone(&may_go);
                async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.unwrap());
                    }
                    may_go.notified().await;
                    let mut received = 0;
                    let mut buffer = vec![0; 256 * 1024];
                    while received < TOTAL {
                        let count = stream.read(&mut buffer).await.unwrap();
                        check(received, &buffer[..count]);
                        received += count as u64;
                    }
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
                }
            })
            .await;
            let proxy = Proxy::to(upstream);
            let body = Long::default();
            let sent = Rc::clone(&body.sent);
            let response = spawn_local(async move { request_long(&proxy, protocol, body).await });
            let before = settled(&sent).await;
            assert!(before < BUFFERED, "{protocol:?}: {before} bytes in memory");
            go.notify_one();
            assert_eq!(text(response.await.unwrap()).await, "hi");
            assert_eq!(sent.get(), TOTAL);
        }
    });
}

#[test]
fn a_response_that_breaks_off_never_looks_whole() {
    on_worker(async {
        for response in [
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\nnonsense\r\n",
        ] {
            let upstream = serving(move |mut stream| async move {
                read_request(&mut stream).await;
                stream.write_all(response.as_bytes()).await.unwrap();
            })
            .await;
            let proxy = Proxy::to(upstream);
            let answer = proxy.http1().await.send_request(get("/")).await;
            if let Ok(answer) = answer {
                assert!(answer.into_body().collect().await.is_err(), "{response:?}");
            }
            let request = http::Request::get("https://example.org/").body(Full::<Bytes>::default()).unwrap();
            let answer = proxy.http2().await.send_request(request).await;
            if let Ok(answer) = answer {
                assert!(answer.into_body().collect().await.is_err(), "{response:?}");
            }
        }
    });
}

#[test]
fn a_response_that_stalls_is_broken_off() {
    on_worker(async {
        let upstream = serving(|mut stream| async move {
            read_request(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhi").await.unwrap();
            let _ = stream.read(&mut [0]).await;
        })
        .await;
        let timeouts = Timeouts { stall: Duration::from_millis(50), ..Timeouts::default() };
        let mut client = Proxy::with(upstream, &timeouts).http1().await;
        let response = client.send_request(get("/")).await.unwrap();
        assert!(response.into_body().collect().await.is_err());
    });
}

#[test]
fn a_client_that_goes_away_takes_its_upstream_request_along() {
    on_worker(async {
        for (protocol, begun) in [
            (Protocol::Http1, false),
            (Protocol::Http1, true),
            (Protocol::Http2, false),
            (Protocol::Http2, true),
        ] {
            let (asked, was_asked) = oneshot::channel();
            let (closed, was_closed) = oneshot::channel();
            let once = RefCell::new(Some((asked, closed)));
            let upstream = serving(move |mut stream| {
                let (asked, closed) = once.take().expect("one request");
                async move {
                    read_request(&mut stream).await;
                    if begun {
                        let part = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n";
                        stream.write_all(part.as_bytes()).await.unwrap();
                    }
                    asked.send(()).unwrap();
                    assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
                    closed.send(()).unwrap();
                }
            })
            .await;
            let proxy = Proxy::to(upstream);
            let (http1, http2);
            match protocol {
                Protocol::Http1 => {
                    let (mut client, _) = proxy.connect(protocol);
                    client.write_all(b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n").await.unwrap();
                    http1 = client;
                    was_asked.await.unwrap();
                    drop(http1);
                }
                Protocol::Http2 => {
                    http2 = proxy.http2::<Full<Bytes>>().await;
                    // Only the stream is reset, the connection stays.
                    let request = http::Request::get("https://example.org/").body(Full::default()).unwrap();
                    let mut sender = http2.clone();
                    let response = spawn_local(async move {
                        let response = sender.send_request(request).await;
                        let first = response.unwrap().into_body().frame().await;
                        drop(first);
                    });
                    was_asked.await.unwrap();
                    if !begun {
                        response.abort();
                    }
                }
            }
            was_closed.await.unwrap();
        }
    });
}

#[test]
fn a_response_may_come_before_the_request_has_ended() {
    on_worker(async {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let upstream = serving(|mut stream| async move {
                stream.read_exact(&mut [0; 1000]).await.unwrap();
                let early = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno";
                stream.write_all(early.as_bytes()).await.unwrap();
                let mut sink = vec![0; PIECE];
                while stream.read(&mut sink).await.is_ok_and(|count| count > 0) {}
            })
            .await;
            let proxy = Proxy::to(upstream);
            let response = request_long(&proxy, protocol, Long::default()).await;
            assert_eq!(response.status(), 413, "{protocol:?}");
            assert_eq!(text(response).await, "no");
        }
    });
}

#[test]
fn a_refusal_reaches_a_client_that_is_still_sending() {
    on_worker(async {
        let upstream = serving(|mut stream| async move {
            stream.read_exact(&mut [0; 100]).await.unwrap();
            let refusal =
                "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
            stream.write_all(refusal.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            // Gives the proxy time to read the answer before this end resets.
            tokio::time::sleep(Duration::from_millis(50)).await;
        })
        .await;
        let proxy = Proxy::to(upstream);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, remote) = listener.accept().await.unwrap();
        let connection = Rc::new(connection_from(&remote.to_string(), Protocol::Http1));
        let (forwarder, sites) = (Rc::clone(&proxy.forwarder), Arc::clone(&proxy.sites));
        let shutdown = proxy.shutdown.clone();
        spawn_local(async move { forwarder.serve(server, connection, sites, Rc::default(), shutdown).await });

        let head = format!("POST / HTTP/1.1\r\nHost: example.org\r\nContent-Length: {TOTAL}\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(&vec![0; 16 << 20]).await.unwrap();
        // The client looks only now, long after the proxy was done with it.
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("\r\n\r\nno"), "{answer}");
    });
}
