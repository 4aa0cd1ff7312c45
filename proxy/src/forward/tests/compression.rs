//! Responses that are compressed on their way, read by the decoders of the same crates.

use std::io::Read;

use super::*;
use crate::compression::{Coding, Compression};

fn compressing(site: &mut Site) {
    site.http.compression =
        Compression { codings: vec![Coding::Brotli, Coding::Gzip, Coding::Zstd], min_size: 10 };
}

fn decoded(coding: &str, bytes: &[u8]) -> String {
    let mut text = String::new();
    match coding {
        "gzip" => flate2::read::MultiGzDecoder::new(bytes).read_to_string(&mut text).unwrap(),
        "zstd" => {
            let mut decoder = zstd::stream::read::Decoder::new(bytes).unwrap();
            // A client of RFC 9659 takes up to 8 MiB; this is all that is used.
            decoder.window_log_max(17).unwrap();
            decoder.read_to_string(&mut text).unwrap()
        }
        _ => brotli::Decompressor::new(bytes, 4096).read_to_string(&mut text).unwrap(),
    };
    text
}

fn asking(coding: &str) -> http::Request<Full<Bytes>> {
    let request = http::Request::get("https://example.org/").header("host", "example.org");
    request.header("accept-encoding", coding).body(Full::default()).unwrap()
}

#[test]
fn every_coding_arrives_whole_over_both_versions() {
    on_worker(async {
        let text: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
        let response = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nETag: \"x\"\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        );
        let (upstream, _) = answering(response).await;
        let proxy = Proxy::changed(upstream, compressing);
        let mut http1 = proxy.http1().await;
        let mut http2 = proxy.http2::<Full<Bytes>>().await;
        for coding in ["gzip", "br", "zstd"] {
            for version in 1..=2 {
                let answer = match version {
                    1 => http1.send_request(asking(coding)).await.unwrap(),
                    _ => http2.send_request(asking(coding)).await.unwrap(),
                };
                assert_eq!(answer.headers()["content-encoding"], coding);
                assert_eq!(answer.headers()["etag"], "W/\"x\"");
                assert_eq!(answer.headers()["vary"], "accept-encoding");
                assert!(!answer.headers().contains_key("content-length"));
                let bytes = answer.into_body().collect().await.unwrap().to_bytes();
                assert!(bytes.len() < text.len() / 3, "{coding}: {}", bytes.len());
                assert!(decoded(coding, &bytes) == text, "{coding} over HTTP/{version}");
            }
        }
        let answer = http1.send_request(asking("identity")).await.unwrap();
        assert_eq!(answer.headers()["content-length"], text.len().to_string());
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), text.len());
    });
}

#[test]
fn events_arrive_when_they_happen_and_trailers_after_them() {
    on_worker(async {
        let (go, mut wait) = tokio::sync::mpsc::channel::<()>(1);
        let (ready, tell) = tokio::sync::oneshot::channel();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = listener.local_addr().unwrap();
        spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await.unwrap();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\
                        Trailer: x-sum\r\n\r\n8\r\ndata: 1\n\r\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            wait.recv().await.unwrap();
            stream.write_all(b"8\r\ndata: 2\n\r\n0\r\nX-Sum: 9\r\n\r\n").await.unwrap();
            let _ = ready.send(());
        });
        let mut client = Proxy::changed(upstream, compressing).http2::<Full<Bytes>>().await;
        let mut body = client.send_request(asking("gzip")).await.unwrap().into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        let mut text = [0; 8];
        flate2::read::GzDecoder::new(&first[..]).read_exact(&mut text).unwrap();
        assert_eq!(&text, b"data: 1\n", "while the upstream says nothing more");

        go.send(()).await.unwrap();
        tell.await.unwrap();
        let rest = body.collect().await.unwrap();
        assert_eq!(rest.trailers().unwrap()["x-sum"], "9");
        let whole = [&first[..], &rest.to_bytes()[..]].concat();
        assert_eq!(decoded("gzip", &whole), "data: 1\ndata: 2\n");
    });
}

#[test]
fn a_response_that_breaks_off_does_not_look_whole() {
    on_worker(async {
        let upstream = serving(|mut stream| async move {
            read_request(&mut stream).await.unwrap();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1000\r\n\r\nonly this";
            stream.write_all(head.as_bytes()).await.unwrap();
        })
        .await;
        let mut client = Proxy::changed(upstream, compressing).http1().await;
        let answer = client.send_request(asking("gzip")).await.unwrap();
        assert_eq!(answer.headers()["content-encoding"], "gzip");
        assert!(answer.into_body().collect().await.is_err());
    });
}

#[test]
fn a_head_request_has_the_fields_and_what_is_not_compressed_its_length() {
    on_worker(async {
        let (upstream, _) =
            answering("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 500\r\n\r\n").await;
        let mut client = Proxy::changed(upstream, compressing).http1().await;
        let mut request = asking("br");
        *request.method_mut() = http::Method::HEAD;
        let answer = client.send_request(request).await.unwrap();
        assert_eq!(answer.headers()["content-encoding"], "br");
        assert!(!answer.headers().contains_key("content-length"));

        let (upstream, _) = answering(
            "HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 20\r\n\r\n01234567890123456789",
        )
        .await;
        let mut client = Proxy::changed(upstream, compressing).http1().await;
        let answer = client.send_request(asking("gzip")).await.unwrap();
        assert_eq!(answer.headers()["content-length"], "20");
        assert!(!answer.headers().contains_key("content-encoding") && !answer.headers().contains_key("vary"));
    });
}
