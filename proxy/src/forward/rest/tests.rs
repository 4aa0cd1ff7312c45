use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;

use hyper::Response;
use hyper::body::Body;
use hyper::service::service_fn;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::super::activity::InFlight;
use super::super::inspect::Inspector;
use super::super::metered::Watch;
use super::super::tests::connection_from;
use super::*;
use crate::body::Source;
use crate::connection::Protocol;
use crate::handshake::next_poll;
use crate::journal::Journal;

const GET: &str = "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n";

/// A connection whose requests are answered with "hi" soon, over a pipe of so many bytes; and its client.
fn connection(
    builder: &Builder,
    pipe: usize,
) -> (
    Http1<'_, DuplexStream, impl HttpService<Incoming, ResBody = ResponseBody, Error = Infallible> + Unpin>,
    DuplexStream,
) {
    let (client, server) = tokio::io::duplex(pipe);
    let activity = Arc::new(Activity::new());
    let service = service_fn({
        let (activity, journal) = (Arc::clone(&activity), Journal::default());
        let connection = Rc::new(connection_from("192.0.2.7:4711", Protocol::Http1));
        let held = Rc::new(RefCell::new(Vec::new()));
        move |request: http::Request<Incoming>| {
            let in_flight = InFlight::begin(&activity, !request.body().is_end_stream());
            let record = journal.begin(&connection, &request);
            let body =
                ResponseBody::new(Source::own("hi".into()), Duration::from_secs(60), in_flight, record);
            if request.headers().contains_key("x-hold") {
                held.borrow_mut().push(request.into_body());
            }
            async {
                // As from an upstream: hyper looks meanwhile whether the client is still there.
                next_poll().await;
                Ok(Response::new(body))
            }
        }
    });
    let io = Metered::new(server, Arc::clone(&activity), Watch::Http1(Inspector::new(8192)));
    (Http1::new(builder, io, service, &activity), client)
}

/// Lets it do what it can: answers take a second look.
async fn poll<F: Future + Unpin>(connection: &mut F) -> Poll<F::Output> {
    for _ in 0..3 {
        let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut *connection).poll(cx))).await;
        if polled.is_ready() {
            return polled;
        }
    }
    Poll::Pending
}

fn rests<IO, S: HttpService<Incoming>>(connection: &Http1<'_, IO, S>) -> bool {
    matches!(connection.state, State::Resting(..))
}

fn keeps_buffer<IO, S: HttpService<Incoming>>(connection: &Http1<'_, IO, S>) -> bool {
    matches!(&connection.state, State::Resting(io, _) if io.keeps_buffer())
}

async fn answer(client: &mut DuplexStream) -> String {
    let mut answer = vec![0; 4096];
    let count = client.read(&mut answer).await.unwrap();
    String::from_utf8(answer[..count].to_vec()).unwrap()
}

#[tokio::test]
async fn it_rests_between_requests_and_serves_on() {
    let builder = Builder::new();
    let (mut http, mut client) = connection(&builder, 8192);
    assert!(poll(&mut http).await.is_pending());
    assert!(rests(&http), "there was no request yet");
    for blank in ["", "", "\r\n"] {
        client.write_all(blank.as_bytes()).await.unwrap();
        client.write_all(GET.as_bytes()).await.unwrap();
        assert!(poll(&mut http).await.is_pending());
        assert!(answer(&mut client).await.ends_with("\r\n\r\nhi"));
        assert!(!rests(&http));
        Pin::new(&mut http).rest();
        assert!(rests(&http) && !keeps_buffer(&http));
        assert!(poll(&mut http).await.is_pending());
    }
    drop(client);
    assert!(matches!(poll(&mut http).await, Poll::Ready(Ok(()))));
}

#[tokio::test]
async fn it_does_not_rest_inside_a_request() {
    let builder = Builder::new();
    for (there, missing) in [
        ("", "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"),
        (GET, ""),
        ("G", "ET / HTTP/1.1\r\nHost: example.org\r\n\r\n"),
        ("GET / HTTP/1.1\r\nHost: example.org\r\n\r", "\n"),
    ] {
        let (mut http, mut client) = connection(&builder, 8192);
        client.write_all(format!("{GET}{there}").as_bytes()).await.unwrap();
        assert!(poll(&mut http).await.is_pending());
        let first = answer(&mut client).await;
        Pin::new(&mut http).rest();
        assert_eq!(rests(&http), there.is_empty() || there == GET, "{there:?}");
        client.write_all(missing.as_bytes()).await.unwrap();
        assert!(poll(&mut http).await.is_pending());
        let all = if missing.is_empty() { first } else { first + &answer(&mut client).await };
        assert_eq!(all.matches("HTTP/1.1 200 OK").count(), 2, "{all}");
    }
}

/// An upstream may answer before it has taken the body.
#[tokio::test]
async fn a_body_that_nobody_has_taken_is_no_request() {
    let builder = Builder::new();
    let (mut http, mut client) = connection(&builder, 8192);
    // Of both chunks, hyper passes on the first.
    let request = format!(
        "POST / HTTP/1.1\r\nHost: example.org\r\nX-Hold: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n{:x}\r\n{GET}\r\n0\r\n\r\n",
        GET.len()
    );
    client.write_all(request.as_bytes()).await.unwrap();
    assert!(poll(&mut http).await.is_pending());
    assert!(answer(&mut client).await.ends_with("\r\n\r\nhi"));
    Pin::new(&mut http).rest();
    let _ = poll(&mut http).await;
    drop(http);
    assert_eq!(answer(&mut client).await, "", "there was one request");
}

#[tokio::test]
async fn it_does_not_rest_before_the_client_has_its_answer() {
    let builder = Builder::new();
    let (mut http, mut client) = connection(&builder, 40);
    client.write_all(GET.as_bytes()).await.unwrap();
    let mut got = String::new();
    for _ in 0..20 {
        assert!(poll(&mut http).await.is_pending());
        Pin::new(&mut http).rest();
        if rests(&http) {
            break;
        }
        got += &answer(&mut client).await;
    }
    assert!(rests(&http));
    got += &answer(&mut client).await;
    assert!(got.ends_with("\r\n\r\nhi"), "{got}");
}

#[tokio::test]
async fn one_that_ends_does_not_rest() {
    let builder = Builder::new();
    let half = "POST / HTTP/1.1\r\nHost: example.org\r\nContent-Length: 9\r\n\r\nhalf";
    let refused = "GET / HTTP/1.1\nHost: example.org\r\n\r\n";
    for request in [half, refused] {
        let (mut http, mut client) = connection(&builder, 8192);
        client.write_all(request.as_bytes()).await.unwrap();
        let _ = poll(&mut http).await;
        Pin::new(&mut http).rest();
        assert!(!rests(&http), "{request}");
    }
    let (mut http, mut client) = connection(&builder, 8192);
    client.write_all(GET.as_bytes()).await.unwrap();
    assert!(poll(&mut http).await.is_pending());
    Pin::new(&mut http).close();
    Pin::new(&mut http).rest();
    assert!(matches!(poll(&mut http).await, Poll::Ready(Ok(()))));

    let (mut http, client) = connection(&builder, 8192);
    assert!(poll(&mut http).await.is_pending());
    Pin::new(&mut http).close();
    assert!(matches!(poll(&mut http).await, Poll::Ready(Ok(()))), "one that rests closes, too");
    drop(client);
}
