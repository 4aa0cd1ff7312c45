//! Upstreams that are told whose each connection is.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::Frame;
use tokio::io::AsyncRead;
use tokio::net::UnixListener;

use super::*;
use crate::config::Config;

/// The address that `Proxy::connect` gives clients, the one that they connect to, ALPN and SNI.
const HEADER: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x25\xc0\0\x02\x07\x7f\0\0\x01\x12\x67\x01\xbb\
                        \x01\0\x08http/1.1\x02\0\x0bexample.org";

/// Requests of each connection that began with [`HEADER`], and whether the connection has ended.
type Connections = Rc<RefCell<BTreeMap<usize, (u32, bool)>>>;

fn proxy(server: &str, keys: &str) -> Proxy {
    let text = format!("[[upstream]]\nname = \"a\"\nservers = [{server:?}]\nproxy-protocol = \"v2\"\n{keys}");
    let settings = Config::parse(&text).unwrap().upstreams.remove(0);
    let group = ServerGroup::of(&settings, None).unwrap();
    Proxy::to_group(group, &Timeouts::default(), &Limits::default())
}

async fn serve(mut stream: impl AsyncRead + tokio::io::AsyncWrite + Unpin, seen: Connections) {
    let mut header = [0; HEADER.len()];
    stream.read_exact(&mut header).await.unwrap();
    assert_eq!(header, HEADER);
    let number = seen.borrow().len();
    seen.borrow_mut().insert(number, (0, false));
    let mut head = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        head.push(byte);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            seen.borrow_mut().get_mut(&number).unwrap().0 += 1;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
        }
    }
    seen.borrow_mut().get_mut(&number).unwrap().1 = true;
}

async fn tcp(seen: &Connections) -> String {
    let seen = Rc::clone(seen);
    format!("http://{}", serving(move |stream| serve(stream, Rc::clone(&seen))).await)
}

async fn ask(client: &mut http1::SendRequest<Full<Bytes>>) {
    client.ready().await.unwrap();
    assert_eq!(text(client.send_request(get("/")).await.unwrap()).await, "hi");
}

fn of(seen: &Connections) -> Vec<(u32, bool)> {
    seen.borrow().values().copied().collect()
}

#[test]
fn each_connection_says_whose_it_is_and_serves_nobody_else() {
    on_worker(async {
        let seen = Connections::default();
        let proxy = proxy(&tcp(&seen).await, "");
        let (mut first, mut second) = (proxy.http1().await, proxy.http1().await);
        for _ in 0..3 {
            ask(&mut first).await;
            ask(&mut second).await;
        }
        assert_eq!(of(&seen), [(3, false), (3, false)]);
        drop(first);
        while !seen.borrow()[&0].1 {
            tokio::task::yield_now().await;
        }
        ask(&mut second).await;
        assert_eq!(of(&seen), [(3, true), (4, false)], "that of the client that is gone is closed");
    });
}

#[test]
fn what_others_keep_gives_way_where_room_is_scarce() {
    on_worker(async {
        let seen = Connections::default();
        let proxy = proxy(&tcp(&seen).await, "max-connections = 2");
        let mut clients = [proxy.http1().await, proxy.http1().await, proxy.http1().await];
        for client in &mut clients {
            ask(client).await;
        }
        assert_eq!(seen.borrow().len(), 3);
    });
}

#[test]
fn sockets_of_this_machine_are_told_too() {
    on_worker(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let (listener, seen) = (UnixListener::bind(&path).unwrap(), Connections::default());
        let proxy = proxy(&format!("unix:{}", path.display()), "");
        let noted = Rc::clone(&seen);
        spawn_local(async move {
            let (stream, _) = listener.accept().await.unwrap();
            serve(stream, noted).await;
        });
        ask(&mut proxy.http1().await).await;
        assert_eq!(of(&seen)[0].0, 1);
    });
}

/// A server of HTTP/2, and the headers that its connections began with.
async fn h2c() -> (String, Rc<RefCell<Vec<[u8; HEADER.len() - 6]>>>) {
    let headers = Rc::new(RefCell::new(Vec::new()));
    let noted = Rc::clone(&headers);
    let server = serving(move |mut stream| {
        let noted = Rc::clone(&noted);
        async move {
            let mut header = [0; HEADER.len() - 6];
            stream.read_exact(&mut header).await.unwrap();
            noted.borrow_mut().push(header);
            http2_upstreams::serve_http2(stream).await;
        }
    })
    .await;
    (format!("h2c://{server}"), headers)
}

/// The body of a request, which ends when it is let go.
struct Held(tokio::sync::oneshot::Receiver<()>);

impl hyper::body::Body for Held {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.0).poll(cx).map(|_| None)
    }
}

fn post(body: &'static str) -> http::Request<Full<Bytes>> {
    http::Request::post("https://example.org/").body(Full::from(body)).unwrap()
}

#[test]
fn what_others_keep_of_http2_gives_way_too() {
    on_worker(async {
        let (server, headers) = h2c().await;
        let proxy = proxy(&server, "max-connections = 1");
        let mut clients = [proxy.http2().await, proxy.http2().await];
        for turn in 0..6 {
            let client = &mut clients[turn % 2];
            assert_eq!(text(client.send_request(post("hi")).await.unwrap()).await, "hi");
        }
        assert_eq!(headers.borrow().len(), 6, "one each time");
    });
}

#[test]
fn who_waits_gets_the_room_of_a_connection_of_http2_when_its_last_request_has_ended() {
    on_worker(async {
        let (server, headers) = h2c().await;
        let proxy = proxy(&server, "max-connections = 1");
        let (first, mut second) = (proxy.http2().await, proxy.http2().await);
        let (end, body) = tokio::sync::oneshot::channel::<()>();
        let request = http::Request::post("https://example.org/").body(Held(body)).unwrap();
        // It stays connected afterwards.
        let mut asking = first.clone();
        let held = spawn_local(async move { text(asking.send_request(request).await.unwrap()).await });
        while headers.borrow().is_empty() {
            tokio::task::yield_now().await;
        }
        let waits = spawn_local(async move { text(second.send_request(post("ho")).await.unwrap()).await });
        // It has nothing to wait for but the room.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert!(!waits.is_finished());
        end.send(()).unwrap();
        assert_eq!((held.await.unwrap(), waits.await.unwrap()), (String::new(), "ho".to_owned()));
        assert_eq!(headers.borrow().len(), 2);
        assert!(!first.is_closed());
    });
}

#[test]
fn a_client_of_http2_shares_one_connection_of_http2() {
    on_worker(async {
        let (server, headers) = h2c().await;
        let proxy = proxy(&server, "");
        for _ in 0..2 {
            let client = proxy.http2().await;
            let calls: Vec<_> = (0..10)
                .map(|_| {
                    let mut client = client.clone();
                    spawn_local(async move { text(client.send_request(post("hi")).await.unwrap()).await })
                })
                .collect();
            for call in calls {
                assert_eq!(call.await.unwrap(), "hi");
            }
        }
        let headers = headers.borrow();
        assert_eq!(headers.len(), 2);
        assert!(headers.iter().all(|header| header.ends_with(b"\x01\0\x02h2\x02\0\x0bexample.org")));
    });
}
