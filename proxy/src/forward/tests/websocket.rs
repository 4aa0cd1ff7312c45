use super::*;

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: example.org\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

async fn head(stream: &mut DuplexStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Switches protocols, greets, and then echoes until the end.
async fn echoing() -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let noted = seen.clone();
    let address = serving(move |mut stream| {
        let noted = noted.clone();
        async move {
            let request = read_request(&mut stream).await.unwrap();
            noted.0.borrow_mut().push(request);
            let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhello";
            stream.write_all(answer.as_bytes()).await.unwrap();
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
            noted.0.borrow_mut().push("closed".to_owned());
        }
    })
    .await;
    (address, seen)
}

#[test]
fn bytes_go_both_ways_until_the_client_closes() {
    on_worker(async {
        let (upstream, seen) = echoing().await;
        let proxy = Proxy::to(upstream);
        let (mut client, task) = proxy.connect(Protocol::Http1);
        client.write_all(UPGRADE.as_bytes()).await.unwrap();
        let answer = head(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        for line in [
            "upgrade: websocket",
            "connection: upgrade",
            "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        ] {
            assert!(answer.lines().any(|sent| sent == line), "{answer}");
        }
        let mut greeting = [0; 5];
        client.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, b"hello");
        for round in 0..3u8 {
            let sent = vec![round; 50_000];
            client.write_all(&sent).await.unwrap();
            let mut echoed = vec![0; sent.len()];
            client.read_exact(&mut echoed).await.unwrap();
            assert_eq!(echoed, sent);
        }
        client.shutdown().await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        task.await.unwrap();
        let request = &seen.all()[0];
        assert!(
            request.contains("upgrade: websocket\r\n") && request.contains("connection: upgrade\r\n"),
            "{request}"
        );
        assert_eq!(seen.last(), "closed");
    });
}

#[test]
fn a_refusal_is_an_ordinary_response() {
    on_worker(async {
        let (upstream, _) = answering("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
        let proxy = Proxy::to(upstream);
        let (mut client, _task) = proxy.connect(Protocol::Http1);
        for _ in 0..2 {
            client.write_all(UPGRADE.as_bytes()).await.unwrap();
            let answer = head(&mut client).await;
            assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
            client.read_exact(&mut [0; 2]).await.unwrap();
        }
    });
}

#[test]
fn a_tunnel_without_traffic_is_closed() {
    on_worker(async {
        let (upstream, _) = echoing().await;
        let timeouts = Timeouts { idle: Duration::from_millis(100), ..Timeouts::default() };
        let proxy = Proxy::with(upstream, &timeouts);
        let (mut client, task) = proxy.connect(Protocol::Http1);
        client.write_all(UPGRADE.as_bytes()).await.unwrap();
        head(&mut client).await;
        task.await.unwrap();
    });
}

#[test]
fn a_tunnel_of_a_retired_configuration_is_let_finish_and_then_closed() {
    on_worker(async {
        let (upstream, _) = echoing().await;
        let timeouts = Timeouts { drain: Duration::from_millis(100), ..Timeouts::default() };
        let proxy = Proxy::with(upstream, &timeouts);
        let (mut client, task) = proxy.connect(Protocol::Http1);
        client.write_all(UPGRADE.as_bytes()).await.unwrap();
        head(&mut client).await;
        client.read_exact(&mut [0; 5]).await.unwrap();
        let start = tokio::time::Instant::now();
        proxy.handle.request();
        // It goes on talking, so it isn't idle.
        while client.write_all(b"still here").await.is_ok()
            && client.read(&mut [0; 10]).await.is_ok_and(|n| n > 0)
        {}
        task.await.unwrap();
        assert!(start.elapsed() >= timeouts.drain);
    });
}

#[test]
fn other_protocols_are_not_offered() {
    on_worker(async {
        let (upstream, seen) = answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
        let answer = Proxy::to(upstream)
            .raw(
                "GET / HTTP/1.1\r\nHost: example.org\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAA\r\n\
                 Connection: close, Upgrade, HTTP2-Settings\r\n\r\n",
            )
            .await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(!seen.last().contains("h2c") && !seen.last().contains("http2-settings"), "{}", seen.last());
    });
}
