//! What passes through as it came, whichever versions of HTTP are on the two sides.

use super::*;

#[test]
fn ranges_pass_in_both_directions() {
    on_worker(async {
        let part = "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 2-3/10\r\nETag: \"x\"\r\nContent-Length: 2\r\n\r\ncd";
        let (upstream, seen) = answering(part).await;
        let proxy = Proxy::to(upstream);
        let mut request = get("/");
        request.headers_mut().insert("range", "bytes=2-3".parse().unwrap());
        request.headers_mut().insert("if-range", "\"x\"".parse().unwrap());
        let answer = proxy.http1().await.send_request(request).await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-range"]),
            (206, &"bytes 2-3/10".parse().unwrap())
        );
        assert_eq!(answer.headers()["etag"], "\"x\"");
        assert_eq!(text(answer).await, "cd");
        assert!(seen.last().contains("range: bytes=2-3\r\n") && seen.last().contains("if-range: \"x\"\r\n"));

        let none =
            "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */10\r\nContent-Length: 0\r\n\r\n";
        let (upstream, _) = answering(none).await;
        let mut client = Proxy::to(upstream).http2::<Full<Bytes>>().await;
        let request = http::Request::get("https://example.org/").header("range", "bytes=99-");
        let answer = client.send_request(request.body(Full::default()).unwrap()).await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-range"]),
            (416, &"bytes */10".parse().unwrap())
        );
    });
}

#[test]
fn large_fields_pass_in_both_directions() {
    on_worker(async {
        let large = "y".repeat(20_000);
        let (upstream, seen) =
            answering(format!("HTTP/1.1 200 OK\r\nX-Large: {large}\r\nContent-Length: 2\r\n\r\nhi")).await;
        let proxy = Proxy::to(upstream);
        let mut request = get("/");
        request.headers_mut().insert("x-large", large.parse().unwrap());
        let answer = proxy.http1().await.send_request(request).await.unwrap();
        assert_eq!(answer.headers()["x-large"].len(), large.len());
        assert!(seen.last().contains(&format!("x-large: {large}\r\n")));
        // This client takes no more than 16 KiB of fields, but sends them.
        let (upstream, seen) = answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        let mut client = Proxy::to(upstream).http2::<Full<Bytes>>().await;
        let request = http::Request::get("https://example.org/").header("x-large", &large);
        let answer = client.send_request(request.body(Full::default()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(seen.last().contains(&format!("x-large: {large}\r\n")));
    });
}

#[test]
fn a_client_of_http_1_0_gets_no_chunks() {
    on_worker(async {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
        let (upstream, seen) = answering(chunked).await;
        let request = "GET / HTTP/1.0\r\nHost: example.org\r\nConnection: keep-alive\r\n\r\n";
        let answer = Proxy::to(upstream).raw(request).await;
        assert!(answer.starts_with("HTTP/1.") && answer.contains(" 200 OK\r\n"), "{answer}");
        assert!(!answer.contains("chunked") && answer.ends_with("\r\n\r\nhi"), "{answer}");
        assert!(seen.last().starts_with("GET / HTTP/1.1\r\n"), "{}", seen.last());
    });
}

#[test]
fn an_http2_client_that_expects_100_continue_is_answered_either_way() {
    on_worker(async {
        let upstream = serving(|mut stream| async move {
            let mut head = vec![0; 4096];
            let mut length = 0;
            while !head[..length].ends_with(b"\r\n\r\n") {
                length += stream.read(&mut head[length..]).await.unwrap();
            }
            if head.starts_with(b"PUT /refused") {
                stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n").await.unwrap();
                // The body never comes.
                assert_eq!(stream.read(&mut head).await.unwrap_or(0), 0);
                return;
            }
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
            stream.read_exact(&mut head[..4]).await.unwrap();
            assert_eq!(&head[..4], b"body");
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        })
        .await;
        let mut client = Proxy::to(upstream).http2::<Full<Bytes>>().await;
        for (path, status) in [("wanted", 200), ("refused", 401)] {
            let request = http::Request::put(format!("https://example.org/{path}"))
                .header("expect", "100-continue")
                .header("content-length", "4");
            let answer = client.send_request(request.body(Full::from("body")).unwrap()).await.unwrap();
            assert_eq!(answer.status(), status, "{path}");
        }
    });
}
