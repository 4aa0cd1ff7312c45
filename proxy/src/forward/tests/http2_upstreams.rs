use std::cell::Cell;
use std::convert::Infallible;

use http::HeaderMap;
use hyper::body::Incoming;
use hyper::server::conn::http2 as server;
use hyper::service::service_fn;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::config::Config;
use crate::forward::StreamExecutor;

/// Answers each request of HTTP/2 with its body, and trailers as gRPC has them.
pub(super) async fn serve_http2(io: impl AsyncRead + AsyncWrite + Unpin + 'static) {
    let service = service_fn(|request: http::Request<Incoming>| async move {
        let (parts, body) = request.into_parts();
        assert_eq!(parts.version, http::Version::HTTP_2);
        assert_eq!(parts.uri.authority().unwrap(), "example.org");
        for gone in ["host", "connection", "transfer-encoding", "expect"] {
            assert!(!parts.headers.contains_key(gone), "{gone}");
        }
        let body = body.collect().await.unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        if let Some(sent) = body.trailers() {
            trailers.extend(sent.clone());
        }
        let mut response = http::Response::new(
            Full::new(body.to_bytes()).with_trailers(async move { Some(Ok::<_, Infallible>(trailers)) }),
        );
        let te = parts.headers.get("te").cloned().unwrap_or("none".parse().unwrap());
        response.headers_mut().insert("x-te", te);
        Ok::<_, Infallible>(response)
    });
    let served =
        server::Builder::new(StreamExecutor::new(DEADLINE)).serve_connection(TokioIo::new(io), service);
    let _ = served.await;
}

/// An upstream without TLS, and how many connections it had.
async fn h2c() -> (String, Rc<Cell<u32>>) {
    let connections = Rc::new(Cell::new(0));
    let counted = Rc::clone(&connections);
    let address = serving(move |stream| {
        counted.set(counted.get() + 1);
        serve_http2(stream)
    })
    .await;
    (format!("h2c://{address}"), connections)
}

/// An upstream with TLS that is `upstream.test` and speaks these protocols, and the keys that trust it.
async fn tls(protocols: &'static [&'static str], directory: &tempfile::TempDir) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["upstream.test".to_owned()]).unwrap();
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, made.cert.pem()).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let chain: Vec<CertificateDer<'static>> = vec![made.cert.der().clone()];
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let address = serving(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut tls) = acceptor.accept(stream).await else { return };
            if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
                return serve_http2(tls).await;
            }
            loop {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = tls.read_u8().await else { return };
                    head.push(byte);
                }
                let answer = if String::from_utf8(head).unwrap().contains("upgrade: websocket") {
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
                } else {
                    "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none"
                };
                tls.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    (format!("https://{address}"), format!("tls-ca = {ca:?}\n"))
}

fn proxy(server: &str, keys: &str) -> Proxy {
    let text = format!("[[upstream]]\nname = \"a\"\nservers = [{server:?}]\n{keys}");
    let settings = Config::parse(&text).unwrap().upstreams.remove(0);
    let group = ServerGroup::of(&settings, None).unwrap();
    Proxy::to_group(group, &Timeouts::default(), &Limits::default())
}

fn closing(method: &str, fields: &str) -> String {
    format!("{method} / HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n{fields}\r\n")
}

#[test]
fn grpc_passes_end_to_end_and_shares_one_connection() {
    on_worker(async {
        let (server, connections) = h2c().await;
        let proxy = proxy(&server, "");
        let client = proxy.http2().await;
        let calls: Vec<_> = (0..20)
            .map(|number| {
                let mut client = client.clone();
                spawn_local(async move {
                    let mut trailers = HeaderMap::new();
                    trailers.insert("x-sent", number.into());
                    let body = Full::<Bytes>::from(format!("call {number}"))
                        .with_trailers(async move { Some(Ok::<_, Infallible>(trailers)) })
                        .boxed_unsync();
                    let request = http::Request::post("https://example.org/echo.Echo/Call")
                        .header("content-type", "application/grpc")
                        .header("te", "trailers");
                    let response = client.send_request(request.body(body).unwrap()).await.unwrap();
                    assert_eq!(response.status(), 200);
                    assert_eq!(response.headers()["x-te"], "trailers");
                    let body = response.into_body().collect().await.unwrap();
                    let trailers = body.trailers().unwrap().clone();
                    assert_eq!(
                        (&trailers["grpc-status"], &trailers["x-sent"]),
                        (&"0".parse().unwrap(), &number.into())
                    );
                    assert_eq!(body.to_bytes(), format!("call {number}"));
                })
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
        assert_eq!(connections.get(), 1);
    });
}

#[test]
fn clients_of_http1_reach_http2_upstreams() {
    on_worker(async {
        let (server, _) = h2c().await;
        let proxy = proxy(&server, "");
        let answer =
            proxy.raw(closing("POST", "Content-Length: 4\r\nExpect: 100-continue\r\n") + "body").await;
        assert!(
            answer.starts_with("HTTP/1.1 100 ")
                && answer.contains("HTTP/1.1 200 OK\r\n")
                && answer.ends_with("body"),
            "{answer}"
        );
        let chunked = closing("POST", "Transfer-Encoding: chunked\r\n") + "4\r\nbody\r\n0\r\n\r\n";
        assert!(proxy.raw(chunked).await.ends_with("\r\n\r\nbody"));
        let websocket =
            "GET / HTTP/1.1\r\nHost: example.org\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        let (mut client, _) = proxy.connect(Protocol::Http1);
        client.write_all(websocket.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 502");
    });
}

#[test]
fn a_tls_upstream_is_verified_and_chooses_its_protocol() {
    on_worker(async {
        let directory = tempfile::tempdir().unwrap();
        let name = "tls-name = \"upstream.test\"\n";
        let (server, trust) = tls(&["h2", "http/1.1"], &directory).await;
        let answer = proxy(&server, &format!("{trust}{name}"))
            .raw(closing("POST", "Content-Length: 2\r\n") + "hi")
            .await;
        assert!(answer.contains("HTTP/1.1 200 OK\r\n") && answer.contains("x-te: none"), "{answer}");
        let (old, old_trust) = tls(&["http/1.1"], &directory).await;
        let answer = proxy(&old, &format!("{old_trust}{name}")).raw(closing("GET", "")).await;
        assert!(answer.ends_with("one"), "{answer}");
        // The file is now the other server's certificate.
        for keys in [format!("{trust}{name}"), old_trust] {
            let answer = proxy(&server, &keys).raw(closing("GET", "")).await;
            assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("can't be reached"), "{answer}");
        }
        let answer = proxy(&old, "").raw(closing("GET", "")).await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "the system trusts nobody of this test: {answer}");
    });
}

#[test]
fn a_websocket_goes_over_http1_where_there_is_http2() {
    on_worker(async {
        let directory = tempfile::tempdir().unwrap();
        let (server, trust) = tls(&["h2", "http/1.1"], &directory).await;
        let proxy = proxy(&server, &format!("{trust}tls-name = \"upstream.test\"\n"));
        assert!(proxy.raw(closing("GET", "")).await.contains("x-te: none"), "HTTP/2");
        let websocket =
            "GET / HTTP/1.1\r\nHost: example.org\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        let (mut client, _) = proxy.connect(Protocol::Http1);
        client.write_all(websocket.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 101");
        drop(client);
        assert!(proxy.raw(closing("GET", "")).await.contains("x-te: none"), "HTTP/2 still");
    });
}

#[test]
fn that_a_server_has_no_websockets_does_not_count_against_it() {
    on_worker(async {
        let directory = tempfile::tempdir().unwrap();
        let (only_http2, keys) = tls(&["h2"], &directory).await;
        let (other, _) = answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother").await;
        let text = format!(
            "[[upstream]]\nname = \"a\"\nservers = [{only_http2:?}, \"http://{other}\"]\nmax-failures = 1\n\
             balance = \"round-robin\"\ntls-name = \"upstream.test\"\n{keys}"
        );
        let settings = Config::parse(&text).unwrap().upstreams.remove(0);
        let group = ServerGroup::of(&settings, None).unwrap();
        let proxy = Proxy::to_group(group, &Timeouts::default(), &Limits::default());
        for _ in 0..4 {
            let upgrade = "GET / HTTP/1.1\r\nHost: example.org\r\nConnection: upgrade, close\r\nUpgrade: websocket\r\n\r\n";
            assert!(proxy.raw(upgrade).await.ends_with("other"), "the one that has HTTP/1.1 answers");
        }
        let mut of_other = 0;
        for _ in 0..8 {
            let answer = proxy.raw(closing("GET", "")).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            of_other += usize::from(answer.ends_with("other"));
        }
        assert_eq!(of_other, 4, "the other half went to the server without");
    });
}
