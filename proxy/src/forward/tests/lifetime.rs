use tokio::sync::oneshot;
use tokio::time::Instant;

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const GET: &str = "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n";

fn short(header: u64, idle: u64) -> Timeouts {
    let (header, idle) = (Duration::from_millis(header), Duration::from_millis(idle));
    Timeouts { header, idle, ..Timeouts::default() }
}

/// An upstream whose answer to its only request waits for the sender; the receiver hears of the request.
async fn waiting() -> (SocketAddr, oneshot::Receiver<()>, oneshot::Sender<()>) {
    let (asked, was_asked) = oneshot::channel();
    let (answer, may_answer) = oneshot::channel();
    let once = RefCell::new(Some((asked, may_answer)));
    let address = serving(move |mut stream| {
        let once = once.take();
        async move {
            let Some((asked, may_answer)) = once else { return };
            read_request(&mut stream).await;
            asked.send(()).unwrap();
            may_answer.await.unwrap();
            stream.write_all(OK.as_bytes()).await.unwrap();
            let _ = stream.read(&mut [0]).await;
        }
    })
    .await;
    (address, was_asked, answer)
}

#[test]
fn a_slow_head_is_given_up() {
    on_worker(async {
        let (upstream, seen) = answering(OK).await;
        let proxy = Proxy::with(upstream, &short(100, 10_000));
        for sent in ["", "GET / HTTP/1.1\r\nHost: ex"] {
            assert_eq!(proxy.raw(sent).await, "");
        }
        // The same after a request.
        let (mut client, _) = proxy.connect(Protocol::Http1);
        client.write_all(GET.as_bytes()).await.unwrap();
        assert!(client.read(&mut [0; 4096]).await.unwrap() > 0);
        client.write_all(b"GET / HT").await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(seen.count(), 1);
        // HTTP/2: no preface.
        let (mut client, task) = proxy.connect(Protocol::Http2);
        client.write_all(b"PRI * HTTP/2").await.unwrap();
        task.await.unwrap();
    });
}

#[test]
fn an_idle_connection_is_closed() {
    on_worker(async {
        let (upstream, _) = answering(OK).await;
        let proxy = Proxy::with(upstream, &short(10_000, 100));
        let (mut client, task) = proxy.connect(Protocol::Http1);
        client.write_all(GET.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("\r\n\r\nhi"), "{answer}");
        task.await.unwrap();

        let (client, task) = proxy.connect(Protocol::Http2);
        let executor = super::super::StreamExecutor::new(DEADLINE);
        let (mut sender, connection) =
            http2::Builder::new(executor).handshake::<_, Full<Bytes>>(TokioIo::new(client)).await.unwrap();
        let connection = spawn_local(connection);
        let request = http::Request::get("https://example.org/").body(Full::default()).unwrap();
        assert_eq!(text(sender.send_request(request).await.unwrap()).await, "hi");
        task.await.unwrap();
        connection.await.unwrap().unwrap();
    });
}

#[test]
fn requests_may_be_pipelined() {
    on_worker(async {
        let (upstream, seen) = answering(OK).await;
        let last = "GET /last HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n";
        let answer = Proxy::to(upstream).raw(format!("{GET}{GET}{last}{GET}")).await;
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 3, "{answer}");
        assert_eq!(seen.count(), 3);
        assert!(seen.last().starts_with("GET /last "));
    });
}

#[test]
fn a_drain_lets_requests_finish_and_takes_no_more() {
    on_worker(async {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let (upstream, was_asked, answer) = waiting().await;
            let proxy = Proxy::to(upstream);
            let (client, task) = proxy.connect(protocol);
            let idle = [proxy.connect(Protocol::Http1), proxy.connect(Protocol::Http2)];
            let response: std::pin::Pin<Box<dyn Future<Output = _>>> = match protocol {
                Protocol::Http1 => {
                    let (mut sender, connection) = http1::handshake(TokioIo::new(client)).await.unwrap();
                    spawn_local(connection);
                    Box::pin(async move { sender.send_request(get("/")).await })
                }
                Protocol::Http2 => {
                    let executor = super::super::StreamExecutor::new(DEADLINE);
                    let (mut sender, connection) =
                        http2::Builder::new(executor).handshake(TokioIo::new(client)).await.unwrap();
                    spawn_local(connection);
                    let request = http::Request::get("https://example.org/").body(Full::<Bytes>::default());
                    Box::pin(async move { sender.send_request(request.unwrap()).await })
                }
            };
            let response = spawn_local(response);
            was_asked.await.unwrap();
            proxy.handle.request();
            for (client, task) in idle {
                drop(client);
                task.await.unwrap();
            }
            assert!(!task.is_finished());
            answer.send(()).unwrap();
            let response = response.await.unwrap().unwrap();
            assert_eq!(text(response).await, "hi");
            task.await.unwrap();
        }
    });
}

#[test]
fn a_response_without_end_is_cut_off_after_the_drain() {
    on_worker(async {
        let upstream = serving(async |mut stream: TcpStream| {
            read_request(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            while stream.write_all(b"more").await.is_ok() {}
        })
        .await;
        let timeouts = Timeouts { drain: Duration::from_millis(100), ..Timeouts::default() };
        let proxy = Proxy::with(upstream, &timeouts);
        let (mut client, task) = proxy.connect(Protocol::Http1);
        client.write_all(GET.as_bytes()).await.unwrap();
        assert!(client.read(&mut [0; 4096]).await.unwrap() > 0);
        let start = Instant::now();
        proxy.handle.request();
        while client.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0) {}
        task.await.unwrap();
        assert!(start.elapsed() >= timeouts.drain);
    });
}

#[test]
fn a_drain_closes_idle_connections_at_once() {
    on_worker(async {
        let (upstream, _) = answering(OK).await;
        let proxy = Proxy::to(upstream);
        let (mut client, task) = proxy.connect(Protocol::Http1);
        client.write_all(GET.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let count = client.read(&mut answer).await.unwrap();
        assert!(answer[..count].starts_with(b"HTTP/1.1 200 OK"));
        let (fresh, fresh_task) = proxy.connect(Protocol::Http1);
        proxy.handle.request();
        task.await.unwrap();
        fresh_task.await.unwrap();
        drop(fresh);
    });
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_rested_serves_on_and_is_closed_when_idle() {
    // On pipes alone, so that time passes only when everybody waits.
    LocalSet::new()
        .run_until(async {
            let proxy = Proxy::to("127.0.0.1:9".parse().unwrap());
            let (mut client, task) = proxy.connect(Protocol::Http1);
            let get = "GET /page HTTP/1.1\r\nHost: page.example.org\r\n\r\n";
            let mut answer = vec![0; 4096];
            for pause in [0, 1, 9, 59, 3] {
                tokio::time::sleep(Duration::from_secs(pause)).await;
                client.write_all(get.as_bytes()).await.unwrap();
                let count = client.read(&mut answer).await.unwrap();
                let text = std::str::from_utf8(&answer[..count]).unwrap();
                assert!(text.ends_with("192.0.2.7 /page"), "{text}");
            }
            let idle = Instant::now();
            assert_eq!(client.read(&mut answer).await.unwrap(), 0);
            assert_eq!(idle.elapsed().as_secs(), 60);
            task.await.unwrap();
            // A head that breaks off.
            let (mut client, _) = proxy.connect(Protocol::Http1);
            client.write_all(get.as_bytes()).await.unwrap();
            assert!(client.read(&mut answer).await.unwrap() > 0);
            tokio::time::sleep(Duration::from_secs(20)).await;
            client.write_all(b"GET / HT").await.unwrap();
            let begun = Instant::now();
            assert_eq!(client.read(&mut answer).await.unwrap(), 0);
            assert!((10..=20).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
        })
        .await;
}
