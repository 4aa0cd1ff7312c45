use super::*;

const OK: &str =
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: up\r\nX-Hop: 1\r\nConnection: x-hop\r\n\r\nhi";

#[test]
fn http1_requests_go_upstream_with_the_facts() {
    on_worker(async {
        let (upstream, seen) = answering(OK).await;
        let proxy = Proxy::to(upstream);
        let answer = proxy
            .raw(
                "GET /a?b=%20c HTTP/1.1\r\nHost: Example.org:8443\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: close\r\n\r\n",
            )
            .await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("server: up\r\n") && !answer.contains("x-hop"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nhi"), "{answer}");
        let request = seen.last();
        assert!(request.starts_with("GET /a?b=%20c HTTP/1.1\r\n"), "{request}");
        for line in [
            "host: Example.org:8443",
            "x-forwarded-for: 192.0.2.7",
            "x-forwarded-proto: https",
            "x-forwarded-host: Example.org:8443",
            "forwarded: for=192.0.2.7;host=\"Example.org:8443\";proto=https",
        ] {
            assert!(request.lines().any(|sent| sent == line), "{line} in {request}");
        }
        assert!(!request.contains("6.6.6.6") && !request.contains("connection"), "{request}");
    });
}

#[test]
fn http2_requests_become_http1() {
    on_worker(async {
        let (upstream, seen) = answering(OK).await;
        let mut client = Proxy::to(upstream).http2::<Full<Bytes>>().await;
        let request = http::Request::post("https://example.org/x?y")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(Full::from("body"))
            .unwrap();
        let response = client.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(text(response).await, "hi");
        let request = seen.last();
        assert!(request.starts_with("POST /x?y HTTP/1.1\r\n"), "{request}");
        for line in ["host: example.org", "content-length: 4", "cookie: a=1; b=2"] {
            assert!(request.lines().any(|sent| sent == line), "{line} in {request}");
        }
        assert!(request.ends_with("\r\n\r\nbody"), "{request}");
    });
}

#[test]
fn what_no_site_answers_is_refused_without_an_upstream() {
    on_worker(async {
        let (upstream, seen) = answering(OK).await;
        let proxy = Proxy::to(upstream);
        for (request, status) in [
            ("GET / HTTP/1.1\r\nHost: other.org\r\nConnection: close\r\n\r\n", "421"),
            ("GET / HTTP/1.1\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nHost: example.org\r\nHost: example.org\r\n\r\n", "400"),
            ("CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n", "405"),
            ("TRACE / HTTP/1.1\r\nHost: example.org\r\n\r\n", "405"),
            ("GET ftp://example.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n", "400"),
        ] {
            let answer = proxy.raw(request).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
            assert!(answer.contains("content-type: text/plain"), "{answer}");
            assert!(answer.contains("connection: close"), "{answer}");
        }
        assert_eq!(seen.count(), 0);
        let mut client = proxy.http2::<Full<Bytes>>().await;
        let request = http::Request::get("https://other.org/").body(Full::default()).unwrap();
        assert_eq!(client.send_request(request).await.unwrap().status(), 421);
    });
}

#[test]
fn a_page_of_the_proxy_itself() {
    on_worker(async {
        let (upstream, _) = answering(OK).await;
        let request = "GET /p HTTP/1.1\r\nHost: page.example.org\r\nConnection: close\r\n\r\n";
        let answer = Proxy::to(upstream).raw(request).await;
        assert!(answer.ends_with("\r\n\r\n192.0.2.7 /p"), "{answer}");
    });
}

#[test]
fn responses_without_a_body_keep_their_fields() {
    on_worker(async {
        for (method, response, status, length) in [
            ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", 200, Some("5000")),
            ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, None),
            ("GET", "HTTP/1.1 204 No Content\r\n\r\n", 204, None),
            ("GET", "HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", 304, None),
        ] {
            let (upstream, seen) = answering(response).await;
            let proxy = Proxy::to(upstream);
            let mut http1 = proxy.http1().await;
            let mut http2 = proxy.http2::<Full<Bytes>>().await;
            for round in 1..=2 {
                let mut request = get("/");
                *request.method_mut() = method.parse().unwrap();
                let answer = http1.send_request(request).await.unwrap();
                assert_eq!(answer.status(), status);
                let sent = answer.headers().get("content-length").map(|length| length.to_str().unwrap());
                assert_eq!(sent, length, "{method} {response}");
                let request = http::Request::builder().method(method).uri("https://example.org/");
                let answer = http2.send_request(request.body(Full::default()).unwrap()).await.unwrap();
                assert_eq!(answer.status(), status);
                assert_eq!(seen.count(), 2 * round);
                http1.ready().await.unwrap();
            }
        }
    });
}

#[test]
fn informational_responses_are_no_answer() {
    on_worker(async {
        let response = format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{OK}");
        let (upstream, _) = answering(response).await;
        let mut client = Proxy::to(upstream).http1().await;
        assert_eq!(text(client.send_request(get("/")).await.unwrap()).await, "hi");
    });
}

#[test]
fn a_body_waits_for_the_upstream_to_ask_for_it() {
    on_worker(async {
        let upstream = serving(|mut stream| async move {
            let mut head = vec![0; 4096];
            let mut length = 0;
            while !head[..length].ends_with(b"\r\n\r\n") {
                length += stream.read(&mut head[length..]).await.unwrap();
            }
            assert!(String::from_utf8_lossy(&head[..length]).contains("expect: 100-continue"));
            if head.starts_with(b"PUT /refused") {
                stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n").await.unwrap();
                // The body never comes.
                assert_eq!(stream.read(&mut head).await.unwrap_or(0), 0);
                return;
            }
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
            stream.read_exact(&mut head[..4]).await.unwrap();
            assert_eq!(&head[..4], b"body");
            stream.write_all(OK.as_bytes()).await.unwrap();
        })
        .await;
        let proxy = Proxy::to(upstream);
        let head = "HTTP/1.1\r\nHost: example.org\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";

        let (mut client, _) = proxy.connect(Protocol::Http1);
        client.write_all(format!("PUT /wanted {head}").as_bytes()).await.unwrap();
        let mut answer = [0; 25];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
        client.write_all(b"body").await.unwrap();
        let mut answer = [0; 15];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");

        let answer = proxy.raw(format!("PUT /refused {head}")).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    });
}

#[test]
fn trailers_go_both_ways() {
    on_worker(async {
        let response = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 9\r\n\r\n";
        let (upstream, seen) = answering(response).await;
        let proxy = Proxy::to(upstream);
        let answer = proxy
            .raw(
                "POST / HTTP/1.1\r\nHost: example.org\r\nTE: trailers\r\nConnection: close, te\r\n\
                 Transfer-Encoding: chunked\r\nTrailer: x-up, x-forwarded-for\r\n\r\n\
                 3\r\nabc\r\n0\r\nX-Forwarded-For: 10.0.0.1\r\nX-Up: 7\r\n\r\n",
            )
            .await;
        assert!(answer.to_lowercase().contains("x-sum: 9"), "{answer}");
        assert!(seen.last().to_lowercase().contains("x-up: 7"), "{}", seen.last());
        assert!(!seen.last().contains("10.0.0.1"), "a claim of origin: {}", seen.last());

        let mut client = proxy.http2::<Full<Bytes>>().await;
        let request = http::Request::get("https://example.org/").header("te", "trailers");
        let response = client.send_request(request.body(Full::default()).unwrap()).await.unwrap();
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["x-sum"], "9");
        assert_eq!(body.to_bytes(), "hi");
    });
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    on_worker(async {
        let (upstream, seen) = answering(OK).await;
        let proxy = Proxy::to(upstream);
        let many: String = (0..101).map(|field| format!("X-{field}: y\r\n")).collect();
        let long = format!("X: {}\r\n", "y".repeat(70_000));
        let endless = format!("X: {}", "y".repeat(200_000));
        for (what, fields) in [("many fields", many), ("a long field", long), ("an endless field", endless)] {
            let (client, _) = proxy.connect(Protocol::Http1);
            let request = format!("GET / HTTP/1.1\r\nHost: example.org\r\n{fields}\r\n");
            let (mut read, mut write) = tokio::io::split(client);
            let writing = spawn_local(async move { write.write_all(request.as_bytes()).await });
            let mut answer = String::new();
            read.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 431 "), "{what}: {answer}");
            drop(writing);
        }
        let mut client = proxy.http2::<Full<Bytes>>().await;
        let request = http::Request::get("https://example.org/").header("x", "y".repeat(70_000));
        let response = client.send_request(request.body(Full::default()).unwrap()).await;
        assert!(response.is_err() || response.unwrap().status() == 431);
        let request = http::Request::get("https://example.org/").body(Full::default()).unwrap();
        assert_eq!(client.send_request(request).await.unwrap().status(), 200);
        assert_eq!(seen.count(), 1);
    });
}
