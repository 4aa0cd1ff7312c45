//! How long a request's body may be.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Frame};

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// A body that does not tell its length.
struct Pieces(VecDeque<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

/// A proxy whose site takes bodies of ten bytes.
fn narrow(upstream: SocketAddr) -> Proxy {
    Proxy::changed(upstream, |site| site.body_bytes = 10)
}

fn post(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: example.org\r\n{fields}\r\n")
}

#[test]
fn a_body_that_is_known_to_be_too_long_is_refused_before_it_is_asked_for() {
    on_worker(async {
        let (upstream, seen) = answering(OK).await;
        let proxy = narrow(upstream);
        for fields in ["Content-Length: 11\r\n", "Content-Length: 11\r\nExpect: 100-continue\r\n"] {
            let answer = proxy.raw(post(fields)).await;
            assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
            assert!(answer.contains("connection: close\r\n"), "{answer}");
        }
        assert_eq!(seen.count(), 0);

        let fits = post("Content-Length: 10\r\nConnection: close\r\n") + "0123456789";
        let answer = proxy.raw(fits).await;
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && seen.last().ends_with("\r\n\r\n0123456789"),
            "{answer}"
        );
    });
}

#[test]
fn a_client_that_waits_for_100_continue_gets_it_only_if_its_body_fits() {
    on_worker(async {
        let (upstream, _) = answering(OK).await;
        let proxy = narrow(upstream);
        for (length, first) in [(10, "HTTP/1.1 100 "), (11, "HTTP/1.1 413 ")] {
            let (mut client, _) = proxy.connect(Protocol::Http1);
            let head = post(&format!("Content-Length: {length}\r\nExpect: 100-continue\r\n"));
            client.write_all(head.as_bytes()).await.unwrap();
            let mut answer = [0; 13];
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(std::str::from_utf8(&answer).unwrap(), first);
        }
    });
}

#[test]
fn a_chunked_body_is_counted_as_it_passes() {
    on_worker(async {
        let broken = Rc::new(std::cell::Cell::new(false));
        let noted = Rc::clone(&broken);
        let upstream = serving(move |mut stream| {
            let noted = Rc::clone(&noted);
            async move {
                match read_request(&mut stream).await {
                    Some(_) => stream.write_all(OK.as_bytes()).await.unwrap(),
                    None => noted.set(true),
                }
            }
        })
        .await;
        let proxy = narrow(upstream);
        let chunked = post("Transfer-Encoding: chunked\r\nConnection: close\r\n");
        let answer = proxy.raw(format!("{chunked}5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        // The client goes on sending; the answer does not wait for the end.
        let answer = proxy.raw(format!("{chunked}5\r\n01234\r\n6\r\n567890\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        while !broken.get() {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_body_of_http2_is_counted_without_a_length_and_believed_with_one() {
    on_worker(async {
        let (upstream, seen) = answering(OK).await;
        let proxy = narrow(upstream);
        for (body, status) in [("0123456789", 200), ("0123456789a", 413)] {
            let mut client = proxy.http2().await;
            let sized = http::Request::post("https://example.org/").body(Full::<Bytes>::from(body)).unwrap();
            assert_eq!(client.send_request(sized).await.unwrap().status(), status);

            let mut client = proxy.http2().await;
            let pieces = Pieces(body.as_bytes().chunks(3).map(Bytes::copy_from_slice).collect());
            let untold = http::Request::post("https://example.org/").body(pieces).unwrap();
            assert_eq!(client.send_request(untold).await.unwrap().status(), status);
        }
        assert!(seen.all().iter().all(|request| !request.contains("0123456789a")));
    });
}
