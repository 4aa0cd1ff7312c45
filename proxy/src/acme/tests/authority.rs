//! A server on loopback that answers in the name of an authority, and what an honest one says.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair,
    PublicKeyData,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateSigningRequestDer, PrivateKeyDer};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::acme::https::Https;
use crate::config::AcmeUrl;

/// What the authority is asked.
pub(super) struct Asked {
    /// The authority's own address, without a slash at its end.
    pub(super) base: String,
    pub(super) path: String,
    /// How often this path was asked, with this time.
    pub(super) times: usize,
    /// What was signed, as JSON; null if it only reads.
    pub(super) payload: Value,
}

/// What it answers.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) fields: Vec<(&'static str, String)>,
    pub(super) content: Content,
}

/// The body of an answer.
pub(super) enum Content {
    Whole(Bytes),
    /// As fast as it is taken.
    Endless,
    /// A space each 20 milliseconds, for ever.
    Slow(tokio::time::Interval),
    /// Not even a status.
    Never,
}

impl Answer {
    pub(super) fn new(status: u16, body: impl Into<Bytes>) -> Self {
        let status = StatusCode::from_u16(status).unwrap();
        // Each may be the last: whoever reads it needs a nonce.
        let fields = vec![("replay-nonce", "bm9uY2U".to_owned())];
        Self { status, fields, content: Content::Whole(body.into()) }
    }

    pub(super) fn json(body: &Value) -> Self {
        Self::new(200, body.to_string())
    }

    pub(super) fn problem(status: u16, kind: &str, detail: &str) -> Self {
        let kind = format!("urn:ietf:params:acme:error:{kind}");
        Self::new(status, json!({ "type": kind, "detail": detail }).to_string())
    }

    pub(super) fn content(content: Content) -> Self {
        Self { content, ..Self::new(200, "") }
    }

    /// With a field, in the place of the one before.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.retain(|(field, _)| *field != name);
        self.fields.push((name, value.into()));
        self
    }
}

impl Content {
    pub(super) fn slow() -> Self {
        Self::Slow(tokio::time::interval(Duration::from_millis(20)))
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match &mut *self {
            Self::Whole(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Self::Whole(bytes) => std::mem::take(bytes),
            Self::Endless => Bytes::from_static(&[b' '; 16 * 1024]),
            Self::Slow(interval) => {
                std::task::ready!(interval.poll_tick(context));
                Bytes::from_static(b" ")
            }
            Self::Never => return Poll::Pending,
        };
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

/// The server. Its tasks end with the test's runtime.
pub(super) struct Authority {
    files: tempfile::TempDir,
    pub(super) url: String,
    /// Methods and paths, as they came.
    log: Arc<Mutex<Vec<String>>>,
}

impl Authority {
    /// Answers as `answer` does.
    pub(super) async fn start(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let files = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join("ca.pem"), made.cert.pem()).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let (answer, base, log) = (Arc::new(answer), url.clone(), Arc::new(Mutex::new(Vec::new())));
        let seen = Arc::clone(&log);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, answer) = (acceptor.clone(), Arc::clone(&answer));
                let (base, seen) = (base.clone(), Arc::clone(&seen));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request: Request<Incoming>| {
                        serve(Arc::clone(&answer), base.clone(), Arc::clone(&seen), request)
                    });
                    let _ended = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { files, url, log }
    }

    pub(super) fn https(&self) -> Https {
        Https::new(Some(&self.ca()), &self.directory()).unwrap()
    }

    /// The file of its server's trust anchor.
    pub(super) fn ca(&self) -> std::path::PathBuf {
        self.files.path().join("ca.pem")
    }

    pub(super) fn directory(&self) -> AcmeUrl {
        format!("{}/directory", self.url).parse().unwrap()
    }

    /// How often it was asked this, as in `"POST /order"`.
    pub(super) fn times(&self, what: &str) -> usize {
        self.log.lock().unwrap().iter().filter(|line| *line == what).count()
    }

    /// All that it was asked.
    pub(super) fn requests(&self) -> usize {
        self.log.lock().unwrap().len()
    }
}

async fn serve(
    answer: Arc<impl Fn(&Asked) -> Answer>,
    base: String,
    log: Arc<Mutex<Vec<String>>>,
    request: Request<Incoming>,
) -> Result<Response<Content>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let jws = serde_json::from_slice::<Value>(&body).unwrap_or_default();
    let payload = jws["payload"].as_str().and_then(|text| BASE64URL_NOPAD.decode(text.as_bytes()).ok());
    let payload = payload.and_then(|payload| serde_json::from_slice(&payload).ok()).unwrap_or_default();
    let path = head.uri.path().to_owned();
    let line = format!("{} {path}", head.method);
    let times = {
        let mut log = log.lock().unwrap();
        log.push(line.clone());
        log.iter().filter(|seen| **seen == line).count()
    };
    let Answer { status, fields, content } = answer(&Asked { base, path, times, payload });
    if matches!(content, Content::Never) {
        return std::future::pending().await;
    }
    let mut response = Response::new(content);
    *response.status_mut() = status;
    for (name, value) in fields {
        response.headers_mut().insert(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    Ok(response)
}

/// What an honest authority would say: for one order at a time, of any names, in the order of [`Honest::NAMES`].
pub(super) struct Honest {
    issuer: Issuer<'static, KeyPair>,
    root: String,
    progress: Mutex<HashMap<&'static str, Value>>,
}

impl Honest {
    pub(super) const NAMES: [&'static str; 2] = ["a.example", "b.example"];
    pub(super) const TOKEN: &'static str = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";

    pub(super) fn new() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "authority");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = parameters.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(parameters, key), root, progress: Mutex::default() }
    }

    /// A certificate of a key, with that of its issuer, for [`Honest::NAMES`] and 90 days unless it is changed.
    pub(super) fn chain(
        &self,
        key: &impl PublicKeyData,
        change: impl FnOnce(&mut CertificateParams),
    ) -> String {
        let mut parameters = CertificateParams::new(Self::NAMES.map(str::to_owned)).unwrap();
        parameters.use_authority_key_identifier_extension = true;
        parameters.not_before = OffsetDateTime::now_utc() - time::Duration::hours(1);
        parameters.not_after = parameters.not_before + time::Duration::days(90);
        change(&mut parameters);
        format!("{}{}", parameters.signed_by(key, &self.issuer).unwrap().pem(), self.root)
    }

    /// The certification request that was sent last, whose signature is good.
    pub(super) fn request(&self) -> CertificateSigningRequestParams {
        let progress = self.progress.lock().unwrap();
        let der = BASE64URL_NOPAD.decode(progress["finalize"]["csr"].as_str().unwrap().as_bytes()).unwrap();
        CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der)).unwrap()
    }

    /// The order as it is.
    pub(super) fn order(&self, asked: &Asked, status: &str) -> Value {
        let base = &asked.base;
        let mut order = json!({
            "status": status,
            "authorizations": [format!("{base}/authorization/0"), format!("{base}/authorization/1")],
            "finalize": format!("{base}/finalize"),
        });
        if status == "valid" {
            order["certificate"] = format!("{base}/certificate").into();
        }
        order
    }

    /// The authorization of a name as it is.
    pub(super) fn authorization(asked: &Asked, name: &str, status: &str) -> Value {
        let challenge = |kind: &str| {
            let url = format!("{}/challenge", asked.base);
            json!({ "type": kind, "url": url, "token": Self::TOKEN, "status": "pending" })
        };
        let challenges: Vec<_> = ["http-01", "dns-01", "tls-alpn-01"].into_iter().map(challenge).collect();
        json!({
            "identifier": { "type": "dns", "value": name },
            "status": status,
            "challenges": challenges,
        })
    }

    pub(super) fn directory(base: &str) -> Value {
        json!({
            "newNonce": format!("{base}/nonce"),
            "newAccount": format!("{base}/account"),
            "newOrder": format!("{base}/order"),
            "meta": { "website": base },
        })
    }

    pub(super) fn answer(&self, asked: &Asked) -> Answer {
        let base = &asked.base;
        let mut progress = self.progress.lock().unwrap();
        let mut authorization = |name: &'static str| {
            // Once a challenge was taken up, the name is proven at the next look.
            let status = if progress.remove("challenge").is_some() { "valid" } else { "pending" };
            Answer::json(&Self::authorization(asked, name, status))
        };
        match &*asked.path {
            "/directory" => Answer::json(&Self::directory(base)),
            "/nonce" => Answer::new(200, ""),
            "/account" => {
                Answer::new(201, r#"{"status":"valid"}"#).with("location", format!("{base}/account/1"))
            }
            "/order" => {
                progress.clear();
                Answer::new(201, self.order(asked, "pending").to_string())
                    .with("location", format!("{base}/order/1"))
            }
            "/order/1" => {
                let status = if progress.contains_key("finalize") {
                    "valid"
                } else if progress.contains_key("proven") {
                    "ready"
                } else {
                    // All authorizations are looked at before the order is looked at again.
                    progress.insert("proven", Value::Null);
                    "pending"
                };
                Answer::json(&self.order(asked, status))
            }
            "/authorization/0" => authorization(Self::NAMES[0]),
            "/authorization/1" => authorization(Self::NAMES[1]),
            "/challenge" => {
                progress.insert("challenge", Value::Null);
                Answer::json(&json!({}))
            }
            "/finalize" => {
                progress.insert("finalize", asked.payload.clone());
                Answer::json(&self.order(asked, "processing"))
            }
            "/certificate" => {
                drop(progress);
                Answer::new(200, self.chain(&self.request().public_key, |_| {}))
            }
            path => Answer::problem(404, "malformed", &format!("there is no {path}")),
        }
    }
}
