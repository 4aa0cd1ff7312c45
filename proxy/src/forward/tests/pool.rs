use std::cell::Cell;

use tokio::sync::{Semaphore, mpsc};

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

fn closing(method: &str, fields: &str) -> String {
    format!("{method} / HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n{fields}\r\n")
}

/// An upstream that answers the first request of its first connection and closes at the second one, and serves further
/// connections well.
async fn closing_once() -> (SocketAddr, Rc<Cell<u32>>) {
    let connections = Rc::new(Cell::new(0));
    let counted = Rc::clone(&connections);
    let upstream = serving(move |mut stream| {
        counted.set(counted.get() + 1);
        let is_first = counted.get() == 1;
        async move {
            let mut requests = 0;
            while read_request(&mut stream).await.is_some() {
                requests += 1;
                if is_first && requests == 2 {
                    return;
                }
                stream.write_all(OK.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    (upstream, connections)
}

#[test]
fn a_connection_is_used_again() {
    on_worker(async {
        let connections = Rc::new(Cell::new(0));
        let counted = Rc::clone(&connections);
        let upstream = serving(move |mut stream| {
            counted.set(counted.get() + 1);
            async move {
                while read_request(&mut stream).await.is_some() {
                    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
                    stream.write_all(chunked.as_bytes()).await.unwrap();
                }
            }
        })
        .await;
        let proxy = Proxy::to(upstream);
        let mut http1 = proxy.http1().await;
        let mut http2 = proxy.http2::<Full<Bytes>>().await;
        for _ in 0..3 {
            assert_eq!(text(http1.send_request(get("/")).await.unwrap()).await, "hi");
            http1.ready().await.unwrap();
            let post = http::Request::post("https://example.org/").body(Full::from("x")).unwrap();
            assert_eq!(text(http2.send_request(post).await.unwrap()).await, "hi");
        }
        assert_eq!(connections.get(), 1);
    });
}

#[test]
fn a_request_on_a_dead_connection_is_sent_again_if_that_is_safe() {
    on_worker(async {
        let (upstream, connections) = closing_once().await;
        let mut client = Proxy::to(upstream).http1().await;
        for _ in 0..3 {
            assert_eq!(text(client.send_request(get("/")).await.unwrap()).await, "hi");
            client.ready().await.unwrap();
        }
        assert_eq!(connections.get(), 2);

        for (method, body) in [("POST", ""), ("POST", "x"), ("PUT", "x")] {
            let (upstream, connections) = closing_once().await;
            let mut client = Proxy::to(upstream).http1().await;
            assert_eq!(text(client.send_request(get("/")).await.unwrap()).await, "hi");
            client.ready().await.unwrap();
            let request = http::Request::builder().method(method).uri("/").header("host", "example.org");
            let response = client.send_request(request.body(Full::from(body)).unwrap()).await.unwrap();
            assert_eq!(response.status(), 502, "{method} {body:?}");
            assert_eq!(connections.get(), 1, "{method} {body:?}");
        }
    });
}

#[test]
fn kept_connections_that_the_upstream_closed_are_not_used() {
    on_worker(async {
        let upstream = serving(|mut stream| async move {
            read_request(&mut stream).await;
            stream.write_all(OK.as_bytes()).await.unwrap();
        })
        .await;
        let mut client = Proxy::to(upstream).http1().await;
        for _ in 0..5 {
            let post = http::Request::post("/").header("host", "example.org").body(Full::default()).unwrap();
            assert_eq!(text(client.send_request(post).await.unwrap()).await, "hi");
            client.ready().await.unwrap();
            // Lets the proxy hear that the upstream has closed.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn idle_connections_are_closed() {
    on_worker(async {
        let (ended, end) = tokio::sync::oneshot::channel();
        let ended = RefCell::new(Some(ended));
        let upstream = serving(move |mut stream| {
            let ended = ended.take();
            async move {
                read_request(&mut stream).await;
                stream.write_all(OK.as_bytes()).await.unwrap();
                assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
                ended.map(|ended| ended.send(()));
            }
        })
        .await;
        let timeouts = Timeouts { upstream_idle: Duration::from_millis(50), ..Timeouts::default() };
        let proxy = Proxy::with(upstream, &timeouts);
        assert!(proxy.raw(closing("GET", "")).await.ends_with("hi"));
        end.await.unwrap();
    });
}

#[test]
fn an_upstream_that_is_not_there_is_a_bad_gateway() {
    on_worker(async {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let answer = Proxy::to(upstream).raw(closing("GET", "")).await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        assert!(answer.contains("can't be reached") && !answer.contains("127.0.0.1"), "{answer}");
        let answer = Proxy::to(upstream).raw(closing("HEAD", "")).await;
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.ends_with("\r\n\r\n"), "{answer}");
    });
}

#[test]
fn an_upstream_that_says_nothing_is_a_gateway_timeout() {
    on_worker(async {
        let upstream = serving(|mut stream| async move {
            let mut sink = [0; 4096];
            while stream.read(&mut sink).await.is_ok_and(|count| count > 0) {}
        })
        .await;
        let timeouts = Timeouts { upstream_response: Duration::from_millis(50), ..Timeouts::default() };
        let proxy = Proxy::with(upstream, &timeouts);
        for request in [closing("GET", ""), closing("POST", "Content-Length: 1\r\n") + "x"] {
            let answer = proxy.raw(request).await;
            assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
        }
    });
}

#[test]
fn a_client_that_does_not_send_its_body_is_told_so() {
    on_worker(async {
        let (upstream, seen) = answering(OK).await;
        let timeouts = Timeouts {
            stall: Duration::from_millis(100),
            upstream_response: Duration::from_millis(10),
            ..Timeouts::default()
        };
        let answer =
            Proxy::with(upstream, &timeouts).raw(closing("POST", "Content-Length: 10\r\n") + "x").await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert_eq!(seen.count(), 0);
    });
}

/// An upstream that says when it has a request, and answers it for each permit of the semaphore.
async fn on_demand() -> (SocketAddr, mpsc::UnboundedReceiver<()>, Rc<Semaphore>) {
    let (asked, was_asked) = mpsc::unbounded_channel();
    let answers = Rc::new(Semaphore::new(0));
    let allowed = Rc::clone(&answers);
    let upstream = serving(move |mut stream| {
        let (asked, allowed) = (asked.clone(), Rc::clone(&allowed));
        async move {
            while read_request(&mut stream).await.is_some() {
                let _ = asked.send(());
                allowed.acquire().await.unwrap().forget();
                stream.write_all(OK.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    (upstream, was_asked, answers)
}

#[test]
fn an_upstream_gets_no_more_connections_than_it_may() {
    on_worker(async {
        let limits = Limits { upstream_connections: 1, ..Limits::default() };
        for (patience, second) in [(50, "503"), (10_000, "200")] {
            let (upstream, mut was_asked, answers) = on_demand().await;
            let upstream_connect = Duration::from_millis(patience);
            let timeouts = Timeouts { upstream_connect, ..Timeouts::default() };
            let proxy = Rc::new(Proxy::limited(upstream, &timeouts, &limits));
            let ask = || {
                let proxy = Rc::clone(&proxy);
                spawn_local(async move { proxy.raw(closing("GET", "")).await })
            };
            let first = ask();
            was_asked.recv().await.unwrap();
            let waiting = ask();
            if second == "503" {
                let answer = waiting.await.unwrap();
                assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
                answers.add_permits(1);
            } else {
                // It gets the room of the first one's connection.
                answers.add_permits(2);
                let answer = waiting.await.unwrap();
                assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            }
            assert!(first.await.unwrap().starts_with("HTTP/1.1 200 "));
        }
    });
}

#[test]
fn who_waits_for_the_first_connection_of_http2_is_counted_too() {
    on_worker(async {
        // Takes connections and says nothing, so that the client's settings are all that is ever sent.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // The queue of the kernel is full: connecting takes as long as it may.
        let full = socket2::SockRef::from(&listener);
        full.listen(0).unwrap();
        let _fillers: Vec<_> = (0..4).map(|_| tokio::spawn(TcpStream::connect(address))).collect();
        for _ in 0..20 {
            tokio::task::yield_now().await; // a connection to this machine is in the queue, or is not, at once
        }
        let text = format!(
            "[[upstream]]\nname = \"a\"\nservers = [\"h2c://{address}\"]\nmax-pending = 2\nretries = 0"
        );
        let settings = Config::parse(&text).unwrap().upstreams.remove(0);
        let timeouts = Timeouts { upstream_connect: Duration::from_millis(500), ..Timeouts::default() };
        let proxy = Proxy::to_group(ServerGroup::of(&settings, None).unwrap(), &timeouts, &Limits::default());
        let asking: Vec<_> = (0..6).map(|_| proxy.raw(closing("GET", ""))).collect();
        let mut statuses = Vec::new();
        for answer in futures_of(asking).await {
            statuses.push(answer[9..12].to_owned());
        }
        statuses.sort();
        assert_eq!(statuses, ["503", "503", "503", "504", "504", "504"]);
    });
}

/// What they come to, run at once.
async fn futures_of(all: Vec<impl Future<Output = String>>) -> Vec<String> {
    let mut all: Vec<_> = all.into_iter().map(Box::pin).map(Some).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|cx| {
        for slot in &mut all {
            if let Some(future) = slot
                && let std::task::Poll::Ready(output) = future.as_mut().poll(cx)
            {
                done.push(output);
                *slot = None;
            }
        }
        if all.iter().all(Option::is_none) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done
}
