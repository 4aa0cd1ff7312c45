//! Requests that two servers could read differently (RFC 9112, section 11.2): whatever comes, the upstream sees the one
//! request that this proxy saw, or none, and nothing after it.

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// The second request that an attacker wants to get through.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: example.org\r\n\r\n";

#[test]
fn doubtful_framing_is_refused() {
    on_worker(async {
        let (upstream, seen) = answering(OK).await;
        let proxy = Proxy::to(upstream);
        for (what, fields) in [
            ("two lengths", "Content-Length: 5\r\nContent-Length: 6\r\n"),
            ("a list of lengths", "Content-Length: 5, 5\r\n"),
            ("a signed length", "Content-Length: +5\r\n"),
            ("a hexadecimal length", "Content-Length: 0x5\r\n"),
            ("a huge length", "Content-Length: 99999999999999999999\r\n"),
            ("an empty length", "Content-Length:\r\n"),
            ("space before the colon", "Content-Length : 5\r\n"),
            ("space before the colon", "Transfer-Encoding : chunked\r\n"),
            ("a folded line", "X: a\r\n Content-Length: 5\r\n"),
            ("a folded coding", "Transfer-Encoding:\r\n chunked\r\n"),
            ("a bare CR", "X: a\rContent-Length: 5\r\n"),
            ("a null byte", "X: a\0b\r\n"),
            ("another coding", "Transfer-Encoding: gzip, chunked\r\n"),
            ("chunked not last", "Transfer-Encoding: chunked, identity\r\n"),
            ("two codings", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
            ("a disguised coding", "Transfer-Encoding: \x0bchunked\r\n"),
            ("no colon", "Transfer-Encoding\r\n"),
            ("the same length twice", "Content-Length: 5\r\nContent-Length: 5\r\n"),
            ("length, then coding", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
            ("coding, then length", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
            ("LF before the coding", "X: y\nTransfer-Encoding: chunked\r\n"),
        ] {
            let request = format!("POST / HTTP/1.1\r\nHost: example.org\r\n{fields}\r\n0\r\n\r\n{SMUGGLED}");
            let answer = proxy.raw(request).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{what}: {answer}");
            assert_eq!(answer.matches("HTTP/1.").count(), 1, "{what}: {answer}");
            assert_eq!(seen.count(), 0, "{what}: {:?}", seen.all());
        }
    });
}

#[test]
fn a_doubtful_head_is_refused() {
    on_worker(async {
        let (upstream, seen) = answering(OK).await;
        let proxy = Proxy::to(upstream);
        for (what, head) in [
            ("LF alone", "GET / HTTP/1.1\nHost: example.org\n\n"),
            ("LF in the fields", "GET / HTTP/1.1\r\nHost: example.org\nX: y\r\n\r\n"),
            ("LF at the end", "GET / HTTP/1.1\r\nHost: example.org\r\n\n"),
            ("LF before", "\nGET / HTTP/1.1\r\nHost: example.org\r\n\r\n"),
            ("CR in the target", "GET /\r/ HTTP/1.1\r\nHost: example.org\r\n\r\n"),
            ("a null byte in the target", "GET /\0 HTTP/1.1\r\nHost: example.org\r\n\r\n"),
            ("a fragment", "GET /#x HTTP/1.1\r\nHost: example.org\r\n\r\n"),
            ("two spaces", "GET  / HTTP/1.1\r\nHost: example.org\r\n\r\n"),
            ("no version", "GET /\r\nHost: example.org\r\n\r\n"),
            ("another version", "GET / HTTP/1.2\r\nHost: example.org\r\n\r\n"),
            ("a field folded", "GET / HTTP/1.1\r\nHost: example.org\r\nX: a\r\n b\r\n\r\n"),
            ("a first field folded", "GET / HTTP/1.1\r\n Host: example.org\r\n\r\n"),
            ("no host", "GET / HTTP/1.1\r\n\r\n"),
            ("two hosts", "GET / HTTP/1.1\r\nHost: example.org\r\nHost: example.org\r\n\r\n"),
            ("an invalid host", "GET / HTTP/1.1\r\nHost: example.org/x\r\n\r\n"),
            ("another host", "GET https://example.org/ HTTP/1.1\r\nHost: a.org\r\n\r\n"),
            (
                "coding in HTTP/1.0",
                "POST / HTTP/1.0\r\nHost: example.org\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            ),
            (
                "an upgrade with a body",
                "GET / HTTP/1.1\r\nHost: example.org\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                 Content-Length: 1\r\n\r\nx",
            ),
        ] {
            let answer = proxy.raw(format!("{head}{SMUGGLED}")).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{what}: {answer}");
            assert_eq!(answer.matches("HTTP/1.").count(), 1, "{what}: {answer}");
            assert_eq!(seen.count(), 0, "{what}: {:?}", seen.all());
        }
    });
}

#[test]
fn after_a_good_request_a_doubtful_one_is_refused_as_well() {
    on_worker(async {
        let (upstream, seen) = answering(OK).await;
        let request = "POST /good HTTP/1.1\r\nHost: example.org\r\nTransfer-Encoding: chunked\r\n\r\n\
                       2;x\r\nhi\r\n0\r\nX: y\r\n\r\n\
                       POST / HTTP/1.1\r\nHost: example.org\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi";
        let answer = Proxy::to(upstream).raw(format!("{request}{SMUGGLED}")).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("HTTP/1.1 400 "), "{answer}");
        assert_eq!(seen.count(), 1, "{:?}", seen.all());
    });
}

#[test]
fn broken_chunks_break_the_request_off() {
    on_worker(async {
        for chunks in [
            "5\nhello\r\n0\r\n\r\n",
            "5;a\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "-5\r\nhello\r\n0\r\n\r\n",
            "5 5\r\nhello\r\n0\r\n\r\n",
            "5 \r\nhello\r\n0\r\n\r\n",
            "5;a\0b\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello\r\n0\r\nX: y\n\r\n",
            "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
            "5\r\nhelloXX0\r\n\r\n",
            "\r\nhello\r\n0\r\n\r\n",
        ] {
            let (upstream, seen) = answering(OK).await;
            let request = format!(
                "POST / HTTP/1.1\r\nHost: example.org\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}{SMUGGLED}"
            );
            let answer = Proxy::to(upstream).raw(request).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{chunks:?}: {answer}");
            assert_eq!(answer.matches("HTTP/1.").count(), 1, "{chunks:?}: {answer}");
            assert_eq!(seen.count(), 0, "{chunks:?}: the upstream saw a whole request: {:?}", seen.all());
        }
    });
}

#[test]
fn what_a_connection_field_names_can_not_change_the_framing() {
    on_worker(async {
        let (upstream, seen) = answering(OK).await;
        let request = "POST / HTTP/1.1\r\nHost: example.org\r\nContent-Length: 5\r\n\
                       Connection: close, content-length, host, x-forwarded-for\r\n\r\nhello";
        let answer = Proxy::to(upstream).raw(request).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        let request = seen.last();
        assert!(request.contains("content-length: 5\r\n") && request.ends_with("\r\n\r\nhello"), "{request}");
        assert!(request.contains("x-forwarded-for: 192.0.2.7\r\n"), "{request}");
    });
}

#[test]
fn an_upstreams_doubtful_response_does_not_reach_the_client() {
    on_worker(async {
        for response in [
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
            "nonsense\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        ] {
            let (upstream, _) = answering(response).await;
            let request = "GET / HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n";
            let answer = Proxy::to(upstream).raw(request).await;
            assert!(answer.starts_with("HTTP/1.1 502 "), "{response:?}: {answer}");
            assert!(!answer.contains("upgrade"), "{answer}");
        }
        let both =
            "HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
        let (upstream, _) = answering(both).await;
        let mut client = Proxy::to(upstream).http1().await;
        let response = client.send_request(get("/")).await.unwrap();
        assert!(!response.headers().contains_key("content-length"));
        assert_eq!(text(response).await, "hi");
    });
}
