//! The forwarder between clients on pipes and upstreams on loopback sockets; no TLS.

mod bodies;
mod compression;
mod groups;
mod http2_upstreams;
mod introduced;
mod lifetime;
mod passage;
mod pool;
mod redirects;
mod rules;
mod shown_certificates;
mod site_rules;
mod smuggling;
mod streaming;
mod websocket;

use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use super::Forwarder;
use crate::config::{Config, Limits, Timeouts};
use crate::connection::{ClientConnection, Handshake, Protocol};
use crate::shutdown::{Shutdown, ShutdownHandle};
use crate::sites::{Handler, Site, Sites, Upstream};
use crate::tls::Certificates;
use crate::upstream::ServerGroup;

/// No test takes longer, whatever goes wrong.
const DEADLINE: Duration = Duration::from_secs(20);

/// What a client's pipe holds.
const PIPE: usize = 64 * 1024;

/// Runs a test on one thread with a `LocalSet`, like a worker.
fn on_worker(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = LocalSet::new();
    runtime.block_on(local.run_until(async {
        tokio::time::timeout(DEADLINE, test).await.expect("the test hangs");
    }));
}

pub(crate) fn connection_from(remote: &str, protocol: Protocol) -> ClientConnection {
    ClientConnection {
        remote: remote.parse().unwrap(),
        local: "127.0.0.1:443".parse().unwrap(),
        protocol,
        sni: Some("example.org".into()),
        handshake: Handshake {
            version: "TLSv1.3",
            cipher_suite: "TLS13_AES_128_GCM_SHA256",
            group: "X25519",
            resumed: false,
            signed_by: None,
        },
        identity: None,
        traced: None,
    }
}

/// A proxy with the site `example.org`, and `page.example.org` answered by the proxy itself.
struct Proxy {
    forwarder: Rc<Forwarder>,
    sites: Arc<Sites>,
    shutdown: Shutdown,
    handle: ShutdownHandle,
}

impl Proxy {
    fn to(upstream: SocketAddr) -> Self {
        Self::with(upstream, &Timeouts::default())
    }

    fn with(upstream: SocketAddr, timeouts: &Timeouts) -> Self {
        Self::limited(upstream, timeouts, &Limits::default())
    }

    /// With other rules for the site `example.org`.
    fn changed(upstream: SocketAddr, change: impl FnOnce(&mut Site)) -> Self {
        let upstream = ServerGroup::to(format!("http://{upstream}").parse().unwrap()).unwrap();
        Self::made(upstream, &Timeouts::default(), &Limits::default(), change)
    }

    fn limited(upstream: SocketAddr, timeouts: &Timeouts, limits: &Limits) -> Self {
        let upstream = ServerGroup::to(format!("http://{upstream}").parse().unwrap()).unwrap();
        Self::to_group(upstream, timeouts, limits)
    }

    fn to_group(upstream: Arc<ServerGroup>, timeouts: &Timeouts, limits: &Limits) -> Self {
        Self::made(upstream, timeouts, limits, |_| {})
    }

    fn made(
        upstream: Arc<ServerGroup>,
        timeouts: &Timeouts,
        limits: &Limits,
        change: impl FnOnce(&mut Site),
    ) -> Self {
        let (mut sites, mut change) = (Sites::new(), Some(change));
        let upstream = Upstream::Http(upstream);
        let page = Handler::new(|connection, request| {
            http::Response::new(format!("{} {}", connection.remote.ip(), request.uri.path()).into())
        });
        for (host, upstream) in [("example.org", upstream), ("page.example.org", Upstream::Handler(page))] {
            let certificates = Certificates::one(Arc::new(CertifiedKey::new(Vec::new(), Arc::new(NoKey))));
            let mut site = Site::new(vec![host.parse().unwrap()], certificates, upstream);
            if let Some(change) = change.take() {
                change(&mut site);
            }
            sites.add(site);
        }
        let (handle, shutdown) = Shutdown::new();
        let forwarder = Rc::new(Forwarder::new(limits, timeouts, &Arc::default()));
        Self { forwarder, sites: Arc::new(sites), shutdown, handle }
    }

    /// The client's end of a connection, and the task that serves the other.
    fn connect(&self, protocol: Protocol) -> (DuplexStream, JoinHandle<()>) {
        let (client, server) = tokio::io::duplex(PIPE);
        let (forwarder, sites) = (Rc::clone(&self.forwarder), Arc::clone(&self.sites));
        let shutdown = self.shutdown.clone();
        let connection = Rc::new(connection_from("192.0.2.7:4711", protocol));
        let task =
            spawn_local(
                async move { forwarder.serve(server, connection, sites, Rc::default(), shutdown).await },
            );
        (client, task)
    }

    /// Sends bytes over HTTP/1.1 and returns all that comes back until the proxy closes.
    async fn raw(&self, request: impl AsRef<[u8]>) -> String {
        let (mut client, _) = self.connect(Protocol::Http1);
        client.write_all(request.as_ref()).await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    async fn http1(&self) -> http1::SendRequest<Full<Bytes>> {
        let (client, _) = self.connect(Protocol::Http1);
        let (sender, connection) = http1::handshake(TokioIo::new(client)).await.unwrap();
        spawn_local(connection);
        sender
    }

    async fn http2<B>(&self) -> http2::SendRequest<B>
    where
        B: hyper::body::Body + Unpin + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (client, _) = self.connect(Protocol::Http2);
        let executor = super::StreamExecutor::new(DEADLINE);
        let (sender, connection) =
            http2::Builder::new(executor).handshake(TokioIo::new(client)).await.unwrap();
        spawn_local(connection);
        sender
    }
}

/// Requests that an upstream received, each up to the end of its head, or of its `Content-Length` body.
#[derive(Clone, Default)]
struct Seen(Rc<RefCell<Vec<String>>>);

impl Seen {
    fn all(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    fn count(&self) -> usize {
        self.0.borrow().len()
    }

    fn last(&self) -> String {
        self.0.borrow().last().cloned().expect("the upstream has seen a request")
    }
}

/// An upstream that answers every request on every connection with `response`.
async fn answering(response: impl Into<String>) -> (SocketAddr, Seen) {
    let (response, seen) = (Rc::new(response.into()), Seen::default());
    let noted = seen.clone();
    let address = serving(move |mut stream| {
        let (response, noted) = (Rc::clone(&response), noted.clone());
        async move {
            while let Some(request) = read_request(&mut stream).await {
                noted.0.borrow_mut().push(request);
                if stream.write_all(response.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    (address, seen)
}

/// An upstream that handles each connection with `handle`.
async fn serving<F, Fut>(handle: F) -> SocketAddr
where
    F: Fn(TcpStream) -> Fut + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            spawn_local(handle(stream));
        }
    });
    address
}

/// Reads a request's head and its body, by `Content-Length` or to the last chunk; `None` at the connection's end.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let complete = match length {
                Some(length) => body.len() >= length.parse().unwrap(),
                None if head.contains("transfer-encoding: chunked") => {
                    body.contains("0\r\n") && body.ends_with("\r\n\r\n")
                }
                None => true,
            };
            if complete {
                return Some(text.into_owned());
            }
        }
        match stream.read_u8().await {
            Ok(byte) => bytes.push(byte),
            Err(_) => return None,
        }
    }
}

async fn text<B>(response: http::Response<B>) -> String
where
    B: hyper::body::Body,
    B::Error: std::fmt::Debug,
{
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

fn get(uri: &str) -> http::Request<Full<Bytes>> {
    let request = http::Request::get(uri).header("host", "example.org");
    request.body(Full::default()).unwrap()
}

#[derive(Debug)]
struct NoKey;

impl SigningKey for NoKey {
    fn choose_scheme(&self, _: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        None
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}
