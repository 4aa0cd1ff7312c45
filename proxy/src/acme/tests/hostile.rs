//! What a hostile or broken authority can do, through the whole of an attempt: it is in vain, the last good certificate stays, keys
//! don't pile up, the next attempt is later, and the log has one line of it.

use std::io;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use keycore_wire::{Attributes, KeyAlgorithm, KeyTemplate};
use rcgen::{KeyPair, SubjectPublicKeyInfo};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::authority::{Answer, Asked, Authority, Content, Honest};
use super::keys::MemoryKeys;
use crate::acme::site::{AcmeSite, PATIENCE, Schedule, Shared};
use crate::acme::state::Progress;
use crate::acme::{CertificateKeys, Challenges};
use crate::config::{AcmeSettings, HostPattern};
use crate::metrics::AcmeMetrics;

/// Longest wait for what takes seconds on a machine with other work.
const BOUND: Duration = Duration::from_secs(60);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A site with a certificate that is to be renewed, and an authority that is honest but for its twist.
struct Stage {
    authority: Authority,
    keys: Arc<MemoryKeys>,
    shared: Shared,
    site: AcmeSite,
    /// The certificate that is there.
    before: String,
    files: tempfile::TempDir,
    progress: Progress,
    schedule: Schedule,
}

/// What is logged by this thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stage {
    async fn new(twist: impl Fn(&Honest, &Asked) -> Option<Answer> + Send + Sync + 'static) -> Self {
        let honest = Arc::new(Honest::new());
        let says = Arc::clone(&honest);
        let authority =
            Authority::start(move |asked| twist(&says, asked).unwrap_or_else(|| says.answer(asked))).await;
        let files = tempfile::tempdir().unwrap();
        let settings = AcmeSettings {
            directory: authority.directory(),
            ca: Some(authority.ca()),
            state_dir: files.path().to_owned(),
            terms_agreed: true,
            ..AcmeSettings::default()
        };
        let hosts = Honest::NAMES.map(|name| name.parse::<HostPattern>().unwrap());
        let site = AcmeSite::new(&hosts, &files.path().join("a.example.pem")).unwrap();
        let keys = Arc::new(MemoryKeys::default());
        let template = KeyTemplate::new(site.key_label(&settings).unwrap(), Attributes::TLS_SERVER);
        let key = keys.make(KeyAlgorithm::P256, template).unwrap();
        let before = honest.chain(&SubjectPublicKeyInfo::from_der(&key.spki).unwrap(), |certificate| {
            certificate.not_before -= time::Duration::days(80);
            certificate.not_after -= time::Duration::days(80);
        });
        std::fs::write(files.path().join("a.example.pem"), &before).unwrap();
        let shared = Shared {
            https: Arc::new(authority.https()),
            keys: Arc::clone(&keys) as Arc<dyn CertificateKeys>,
            challenges: Arc::new(Challenges::default()),
            metrics: Arc::new(AcmeMetrics::default()),
            room: Semaphore::new(1),
            patience: PATIENCE,
            settings,
        };
        let progress = shared.progress(&site).await;
        Self { authority, keys, shared, site, before, files, progress, schedule: Schedule::new() }
    }

    /// With another patience for one request.
    fn request_patience(mut self, patience: Duration) -> Self {
        let mut https = self.authority.https();
        https.patience = patience;
        self.shared.https = Arc::new(https);
        self
    }

    /// With another patience for an attempt.
    fn patience(mut self, patience: Duration) -> Self {
        self.shared.patience = patience;
        self
    }

    fn certificate(&self) -> String {
        std::fs::read_to_string(self.files.path().join("a.example.pem")).unwrap()
    }

    /// Makes an attempt; the log's lines of it.
    async fn attempt(&mut self) -> Vec<String> {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::INFO)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        let guard = tracing::subscriber::set_default(subscriber);
        let attempt = self.shared.attempt(&self.site, &mut self.progress, &mut self.schedule);
        timeout(BOUND, attempt).await.expect("an attempt ends");
        drop(guard);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Two attempts fail for this reason, and do no harm.
    async fn in_vain(&mut self, because: &str) {
        for failures in 1..=2 {
            self.fails(because).await;
            assert_eq!(self.progress.failures, failures);
        }
        self.nothing_piles_up().await;
    }

    async fn fails(&mut self, because: &str) {
        let (requests, signatures) = (self.authority.requests(), self.keys.signatures());
        let lines = self.attempt().await;
        let errors: Vec<_> = lines.iter().filter(|line| line.contains("ERROR")).collect();
        let [line] = errors[..] else { panic!("not one error: {lines:#?}") };
        assert!(line.contains(because), "{because} is not in {line}");
        for line in &lines {
            // Each is this program's, and short.
            let begins = line.get(..2) == Some("20") && line.contains("hsm_proxy::acme");
            assert!(begins && line.len() < 2000, "{line}");
            assert!(!line.contains(['\u{2028}', '\u{202e}', '\r', '\u{1b}']), "{line:?}");
        }
        let pause = self.progress.pause(SystemTime::now());
        assert!((Duration::from_secs(30)..=DAY * 7).contains(&pause), "{pause:?}");
        assert_eq!(self.certificate(), self.before, "the last good certificate stays");
        assert!(self.authority.requests() - requests <= 60 && self.keys.signatures() - signatures <= 60);
        // What a restart would know.
        let kept = self.shared.progress(&self.site).await;
        assert_eq!(kept, self.progress);
    }

    /// The account's key, the site's, and the one that it was rotated from: none of a session.
    async fn nothing_piles_up(&self) {
        let gone = async {
            while self.keys.labels().len() > 3 {
                tokio::task::yield_now().await;
            }
        };
        assert!(timeout(BOUND, gone).await.is_ok(), "{:?}", self.keys.labels());
        assert!(self.keys.made() <= 3 + 8, "{}", self.keys.made());
        let left: Vec<_> = std::fs::read_dir(self.files.path()).unwrap().collect();
        assert!(left.len() <= 3, "{left:?}");
    }
}

/// An answer at one path.
fn at(
    path: &'static str,
    answer: impl Fn(&Honest, &Asked) -> Answer + Send + Sync + 'static,
) -> impl Fn(&Honest, &Asked) -> Option<Answer> + Send + Sync + 'static {
    move |honest, asked| (asked.path == path).then(|| answer(honest, asked))
}

/// With another value at a place of the JSON.
fn changed(mut json: Value, pointer: &str, value: impl Into<Value>) -> Answer {
    *json.pointer_mut(pointer).expect("a place") = value.into();
    Answer::json(&json)
}

#[tokio::test]
async fn an_honest_authority_brings_a_certificate_and_a_pause() {
    // The account is another one each time.
    let mut stage = Stage::new(at("/account", |_, asked| {
        let url = format!("{}/account/{}", asked.base, asked.times);
        Answer::new(200, "{}").with("location", url)
    }))
    .await;
    let lines = stage.attempt().await;
    assert!(lines.len() == 1 && lines[0].contains("a new certificate is there"), "{lines:#?}");
    assert_ne!(stage.certificate(), stage.before);
    assert!(stage.progress.pause(SystemTime::now()) > DAY * 4, "a twentieth of its life");
    assert_eq!((stage.progress.failures, &stage.progress.order), (0, &None));
    stage.nothing_piles_up().await;
    // There is nothing to do now.
    let requests = stage.authority.requests();
    assert!(stage.attempt().await.is_empty());
    assert_eq!(stage.authority.times("POST /order"), 1);
    assert!(stage.authority.requests() <= requests + 1);
}

#[tokio::test]
async fn states_without_end_end_and_the_order_is_given_up() {
    let short = Duration::from_millis(1500);
    for status in ["pending", "ready", "processing"] {
        let twist = at("/order/1", move |honest, asked| Answer::json(&honest.order(asked, status)));
        let mut stage = Stage::new(twist).await.patience(short);
        stage.in_vain("the order was not done within 1.5s").await;
        assert_eq!(stage.authority.times("POST /order"), 1, "the same order is followed");
        assert!(stage.authority.times("POST /order/1") <= 8, "there are pauses between looks");
        stage.fails("the order was not done within").await;
        assert_eq!(stage.progress.order, None, "there is an end of it");
    }
    let twist = |honest: &Honest, asked: &Asked| match &*asked.path {
        "/order/1" => Some(Answer::json(&honest.order(asked, "pending"))),
        "/authorization/0" => Some(Answer::json(&Honest::authorization(asked, Honest::NAMES[0], "pending"))),
        _ => None,
    };
    let mut stage = Stage::new(twist).await.patience(short);
    stage.in_vain("the order was not done within").await;
}

#[tokio::test]
async fn an_order_that_vanishes_is_followed_by_another() {
    let gone = Arc::new(AtomicBool::new(false));
    let is_gone = Arc::clone(&gone);
    let twist = move |honest: &Honest, asked: &Asked| match &*asked.path {
        "/order" => {
            // The second one is good.
            is_gone.store(false, Ordering::Relaxed);
            None
        }
        "/order/1" if is_gone.load(Ordering::Relaxed) => {
            Some(Answer::problem(404, "malformed", "no such order"))
        }
        "/order/1" if asked.times <= 4 => Some(Answer::json(&honest.order(asked, "processing"))),
        _ => None,
    };
    // The fifth look is at three seconds, or later.
    let mut stage = Stage::new(twist).await.patience(Duration::from_millis(1500));
    stage.fails("the order was not done within").await;
    assert!(stage.progress.order.is_some());
    gone.store(true, Ordering::Relaxed);
    stage.shared.patience = PATIENCE;
    let lines = stage.attempt().await;
    assert!(lines.iter().any(|line| line.contains("it is given up for another")), "{lines:#?}");
    assert_ne!(stage.certificate(), stage.before);
    assert_eq!(stage.authority.times("POST /order"), 2);
    // And if all of them do.
    let twist = at("/order/1", |_, _| Answer::problem(404, "malformed", "no such order"));
    let mut stage = Stage::new(twist).await;
    stage.in_vain("the authority says: no such order (malformed)").await;
    assert_eq!(stage.authority.times("POST /order"), 2, "one for each attempt");
}

#[tokio::test]
async fn a_valid_order_without_a_certificate_is_none() {
    let twist =
        at("/order/1", |honest, asked| changed(honest.order(asked, "valid"), "/certificate", Value::Null));
    Stage::new(twist).await.in_vain("the order is valid, and has no certificate").await;
}

#[tokio::test]
async fn certificates_that_are_not_what_was_ordered_are_not_installed() {
    type Made = fn(&Honest) -> Vec<u8>;
    let made: [(Made, &str); 10] = [
        (
            |honest| {
                let names = vec![rcgen::SanType::DnsName("victim.example".try_into().unwrap())];
                let key = honest.request().public_key;
                honest.chain(&key, |certificate| certificate.subject_alt_names = names).into()
            },
            "the authority's certificate is not for a.example",
        ),
        (
            |honest| {
                let key = honest.request().public_key;
                honest.chain(&key, |certificate| drop(certificate.subject_alt_names.pop())).into()
            },
            "the authority's certificate is not for b.example",
        ),
        (
            |honest| honest.chain(&KeyPair::generate().unwrap(), |_| {}).into(),
            "the authority's certificate is of another key",
        ),
        (
            |honest| honest.chain(&honest.request().public_key, |_| {}).repeat(600).into(),
            "chain of certificates is longer than 64 KiB",
        ),
        (
            |honest| {
                let chain = honest.chain(&honest.request().public_key, |_| {});
                let (_, root) = chain.split_at(chain.rfind("-----BEGIN").unwrap());
                format!("{chain}{}", root.repeat(20)).into()
            },
            "its chain has more than ten certificates",
        ),
        (
            |honest| {
                let other = Honest::new().chain(&KeyPair::generate().unwrap(), |_| {});
                format!("{}{other}", honest.chain(&honest.request().public_key, |_| {})).into()
            },
            "a certificate of its chain is not issued by the next one",
        ),
        (
            |honest| {
                let key = honest.request().public_key;
                let expired = OffsetDateTime::now_utc() - time::Duration::minutes(1);
                honest.chain(&key, |certificate| certificate.not_after = expired).into()
            },
            "the authority's certificate is not valid now",
        ),
        (
            |honest| {
                let key = honest.request().public_key;
                honest
                    .chain(&key, |certificate| {
                        certificate.not_before += time::Duration::days(3650);
                        certificate.not_after += time::Duration::days(3650);
                    })
                    .into()
            },
            "the authority's certificate is not valid now",
        ),
        (|_| KeyPair::generate().unwrap().serialize_pem().into(), "the authority's certificate: "),
        (|_| vec![0xff; 1000], "a certificate is not in PEM"),
    ];
    for (made, because) in made {
        let twist = at("/certificate", move |honest, _| Answer::new(200, made(honest)));
        Stage::new(twist).await.in_vain(because).await;
    }
}

#[tokio::test]
async fn a_certificate_to_the_end_of_the_calendar_is_renewed() {
    for since in [datetime!(1970-01-01 0:00 UTC), OffsetDateTime::now_utc()] {
        let mut stage = Stage::new(at("/certificate", move |honest, _| {
            let key = honest.request().public_key;
            let chain = honest.chain(&key, |certificate| {
                certificate.not_before = since;
                certificate.not_after = datetime!(9999-12-31 23:59:59 UTC);
            });
            Answer::new(200, chain)
        }))
        .await;
        assert!(stage.attempt().await[0].contains("a new certificate is there"));
        let due = stage.shared.until_due(&stage.site, &mut stage.schedule).await.unwrap();
        assert!(due < DAY * 400, "{due:?}");
        // And not at once, if it is due from its birth.
        assert!(stage.progress.pause(SystemTime::now()) >= DAY * 6);
    }
}

#[tokio::test]
async fn answers_that_do_not_end_or_begin_are_cut_off() {
    for path in ["/directory", "/order/1", "/certificate"] {
        let twist = at(path, |_, _| Answer::content(Content::Endless));
        Stage::new(twist).await.in_vain("length limit").await;
        for content in [Content::slow, || Content::Never] {
            let twist = at(path, move |_, _| Answer::content(content()));
            let mut stage = Stage::new(twist).await.request_patience(Duration::from_millis(700));
            stage.in_vain("localhost did not answer within 700ms").await;
        }
    }
}

#[tokio::test]
async fn redirections_are_not_followed() {
    let door = Door::new();
    for path in ["/directory", "/nonce", "/account", "/order/1", "/certificate"] {
        for to in [door.url("https", "/elsewhere"), "/elsewhere".to_owned()] {
            let twist = at(path, move |_, _| Answer::new(302, "").with("location", to.clone()));
            let mut stage = Stage::new(twist).await;
            stage.in_vain("the authority says: status 302").await;
            assert_eq!(stage.authority.times("POST /elsewhere") + stage.authority.times("GET /elsewhere"), 0);
        }
    }
    door.nobody_knocked();
}

/// A port on this machine that is none of the authority's business.
struct Door(TcpListener);

impl Door {
    fn new() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://localhost:{}{path}", self.0.local_addr().unwrap().port())
    }

    fn nobody_knocked(&self) {
        assert_eq!(self.0.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}

#[tokio::test]
async fn addresses_that_point_elsewhere_are_not_asked() {
    let door = Door::new();
    let port = door.0.local_addr().unwrap().port();
    let elsewhere = "is not asked: it is not at the host and port of acme.directory";
    let malformed = "the authority's answer does not hold together";
    let urls = [
        (format!("https://localhost:{port}/x"), elsewhere),
        (format!("https://127.0.0.1:{port}/x"), elsewhere),
        (format!("https://[::1]:{port}/x"), elsewhere),
        ("https://metadata.internal/x".to_owned(), elsewhere),
        (format!("http://localhost:{port}/x"), malformed),
        ("file:///etc/passwd".to_owned(), malformed),
        (format!("https://user@localhost:{port}/x"), malformed),
        (format!("https://localhost:{port}/x\nERROR forged"), malformed),
        (format!("https://localhost:{port}/{}", "x".repeat(5000)), malformed),
        (String::new(), malformed),
    ];
    for (url, because) in &urls {
        let to = url.clone();
        let mut stage = Stage::new(at("/order/1", move |honest, asked| {
            changed(honest.order(asked, "valid"), "/certificate", to.clone())
        }))
        .await;
        stage.in_vain(because).await;
    }
    // Each place that has one.
    type Place = fn(&Honest, &Asked, &str) -> Option<Answer>;
    let places: [Place; 8] = [
        |_, asked, to| {
            (asked.path == "/directory").then(|| changed(Honest::directory(&asked.base), "/newNonce", to))
        },
        |_, asked, to| {
            (asked.path == "/directory").then(|| changed(Honest::directory(&asked.base), "/newAccount", to))
        },
        |_, asked, to| {
            (asked.path == "/directory").then(|| changed(Honest::directory(&asked.base), "/newOrder", to))
        },
        |honest, asked, to| (asked.path == "/order").then(|| honest.answer(asked).with("location", to)),
        |honest, asked, to| {
            (asked.path == "/order/1")
                .then(|| changed(honest.order(asked, "pending"), "/authorizations/1", to))
        },
        |honest, asked, to| {
            (asked.path == "/order/1").then(|| changed(honest.order(asked, "ready"), "/finalize", to))
        },
        |_, asked, to| {
            let answer = || Honest::authorization(asked, Honest::NAMES[0], "pending");
            (asked.path == "/authorization/0").then(|| changed(answer(), "/challenges/2/url", to))
        },
        |honest, asked, to| {
            (asked.path == "/order/1").then(|| changed(honest.order(asked, "valid"), "/certificate", to))
        },
    ];
    for place in places {
        for (to, because) in [&urls[0], &urls[4]] {
            let to = to.clone();
            Stage::new(move |honest, asked| place(honest, asked, &to)).await.in_vain(because).await;
        }
    }
    door.nobody_knocked();
}

#[tokio::test]
async fn nonces_that_are_never_good_end() {
    let twist = at("/account", |_, _| Answer::problem(400, "badNonce", "again"));
    let mut stage = Stage::new(twist).await;
    stage.in_vain("the authority says: again (badNonce)").await;
    assert_eq!(stage.authority.times("POST /account"), 20, "ten for each attempt");
}

#[tokio::test]
async fn nonces_that_are_junk_are_not_signed() {
    for junk in ["", "a b", "a=", "\"", "../..", "é", &"x".repeat(10_000)] {
        let nonce = junk.to_owned();
        let twist = move |honest: &Honest, asked: &Asked| match &*asked.path {
            "/nonce" => None,
            _ => Some(honest.answer(asked).with("replay-nonce", nonce.clone())),
        };
        // There is another one to be had.
        let mut stage = Stage::new(twist).await;
        assert!(stage.attempt().await[0].contains("a new certificate is there"), "{junk}");
        let nonce = junk.to_owned();
        let twist = at("/nonce", move |_, _| Answer::new(200, "").with("replay-nonce", nonce.clone()));
        let mut stage = Stage::new(twist).await;
        stage.in_vain("newNonce has no nonce").await;
        assert_eq!(stage.keys.signatures(), 0);
    }
}

#[tokio::test]
async fn pauses_that_an_authority_asks_for_have_an_end() {
    for (text, longest) in [
        ("-1", 75),
        ("NaN", 75),
        ("1e9", 75),
        ("", 75),
        ("99999999999999999999999", 75),
        ("9999999999", 7 * 24 * 3600),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 7 * 24 * 3600),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 7 * 24 * 3600),
    ] {
        let mut stage = Stage::new(at("/order", move |_, _| {
            Answer::problem(429, "rateLimited", "too many").with("retry-after", text)
        }))
        .await;
        stage.fails("the authority says: too many (rateLimited)").await;
        assert!(stage.progress.pause(SystemTime::now()) <= Duration::from_secs(longest), "{text}");
        stage.fails("rateLimited").await;
        stage.nothing_piles_up().await;
    }
}

#[tokio::test]
async fn problems_forge_no_lines_and_flood_no_log() {
    let forged = "\r\n2026-01-01T00:00:00Z ERROR hsm_proxy: forged\u{2028}\u{202e}\u{1b}[31m\0";
    let long = format!("it began well{}", forged.repeat(4000));
    let problem = json!({
        "type": long,
        "detail": long,
        "subproblems": vec![json!({ "detail": forged }); 1000],
    });
    let body = problem.to_string();
    for path in ["/directory", "/account", "/order", "/finalize", "/certificate"] {
        let body = body.clone();
        let mut stage = Stage::new(at(path, move |_, _| Answer::new(400, body.clone()))).await;
        stage.in_vain("the authority says: it began well").await;
    }
    let twist = at("/authorization/0", move |_, asked| {
        let status = if asked.times % 2 == 1 { "pending" } else { "invalid" };
        let mut authorization = Honest::authorization(asked, Honest::NAMES[0], status);
        authorization["challenges"][2]["error"] = problem.clone();
        Answer::json(&authorization)
    });
    Stage::new(twist)
        .await
        .in_vain("the authority could not see that a.example is ours: it began well")
        .await;
    let twist =
        at("/authorization/0", move |_, asked| Answer::json(&Honest::authorization(asked, &long, "pending")));
    Stage::new(twist).await.in_vain("something proven that was not ordered: dns it began well").await;
}

#[tokio::test]
async fn only_what_was_ordered_is_proven() {
    let authorization = |change: fn(&mut Value)| {
        at("/authorization/0", move |_, asked| {
            let mut authorization = Honest::authorization(asked, Honest::NAMES[0], "pending");
            change(&mut authorization);
            Answer::json(&authorization)
        })
    };
    type Change = fn(&mut Value);
    let changes: [(Change, &str); 10] = [
        (|it| it["identifier"]["value"] = "victim.example".into(), "not ordered: dns victim.example"),
        (|it| it["identifier"]["value"] = "*.a.example".into(), "not ordered: dns *.a.example"),
        (|it| it["wildcard"] = true.into(), "not ordered: dns *.a.example"),
        (|it| it["identifier"]["type"] = "ip".into(), "not ordered: ip a.example"),
        (
            |it| it["challenges"] = json!([{ "type": "x-01" }, {"type": ""}]),
            "no tls-alpn-01 challenge for a.example",
        ),
        (|it| it["challenges"] = json!([]), "no tls-alpn-01 challenge for a.example"),
        (|it| it["challenges"][2]["token"] = "../../../../etc/passwd".into(), "a challenge's token"),
        (|it| it["challenges"][2]["token"] = "x".repeat(900_000).into(), "a challenge's token"),
        (|it| it["challenges"][2]["token"] = "short".into(), "a challenge's token"),
        (|it| it["challenges"][2]["token"] = Value::Null, "a challenge's token"),
    ];
    for (change, because) in changes {
        let mut stage = Stage::new(authorization(change)).await;
        stage.in_vain(because).await;
        assert_eq!(stage.authority.times("POST /challenge"), 0);
        assert_eq!(stage.keys.made(), 3, "no key was made for it");
    }
    let twist = at("/order/1", |honest, asked| {
        let one = format!("{}/authorization/0", asked.base);
        changed(honest.order(asked, "pending"), "/authorizations", vec![one; 5000])
    });
    let mut stage = Stage::new(twist).await;
    stage.in_vain("not ordered: 5000 authorizations").await;
    assert_eq!(stage.authority.times("POST /authorization/0"), 0);
}

#[tokio::test]
async fn challenges_of_types_that_nobody_knows_are_passed_over() {
    let twist = |honest: &Honest, asked: &Asked| {
        let answer = honest.answer(asked);
        let (true, Content::Whole(body)) = (asked.path.starts_with("/authorization/"), &answer.content)
        else {
            return Some(answer);
        };
        let mut authorization: Value = serde_json::from_slice(body).unwrap();
        authorization["challenges"][0] =
            json!({ "type": "new-99", "token": "../..", "url": "new:1", "x": [1] });
        authorization["challenges"][1] = json!({ "type": "newer-99" });
        Some(Answer::json(&authorization))
    };
    let mut stage = Stage::new(twist).await;
    let lines = stage.attempt().await;
    assert!(lines[0].contains("a new certificate is there"), "{lines:#?}");
}

#[tokio::test]
async fn a_closed_account_is_an_error_with_a_pause() {
    for path in ["/account", "/order", "/order/1", "/finalize"] {
        let twist = at(path, |_, _| Answer::problem(403, "unauthorized", "the account is deactivated"));
        let mut stage = Stage::new(twist).await;
        stage.in_vain("the authority says: the account is deactivated (unauthorized)").await;
    }
}

#[tokio::test]
async fn absurd_advice_neither_hurries_nor_holds_up_a_renewal() {
    for (start, end) in [
        ("0000-01-01T00:00:00Z", "0000-01-02T00:00:00Z"),
        ("9998-01-01T00:00:00Z", "9999-12-31T23:59:59Z"),
        ("9999-12-31T23:59:58-23:59", "9999-12-31T23:59:59-23:59"),
        ("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("soon", "\n"),
    ] {
        let twist = move |_: &Honest, asked: &Asked| match &*asked.path {
            "/directory" => {
                let mut directory = Honest::directory(&asked.base);
                directory["renewalInfo"] = format!("{}/renewal", asked.base).into();
                Some(Answer::json(&directory))
            }
            path if path.starts_with("/renewal/") => Some(
                Answer::json(&json!({
                    "suggestedWindow": { "start": start, "end": end },
                    "explanationURL": "javascript:alert(1)\r\n\u{2028}",
                }))
                .with("retry-after", "-1"),
            ),
            _ => None,
        };
        // The certificate is over nine tenths of its life, so it is renewed whatever is advised.
        let mut stage = Stage::new(twist).await;
        let key =
            stage.shared.keys.find(&stage.site.key_label(&stage.shared.settings).unwrap()).unwrap().unwrap();
        let old = Honest::new().chain(&SubjectPublicKeyInfo::from_der(&key.spki).unwrap(), |certificate| {
            certificate.not_before -= time::Duration::days(88);
            certificate.not_after -= time::Duration::days(88);
        });
        std::fs::write(stage.files.path().join("a.example.pem"), &old).unwrap();
        let lines = stage.attempt().await;
        assert!(lines.len() == 1 && lines[0].contains("a new certificate is there"), "{start}: {lines:#?}");
        // And then there is a pause.
        assert!(stage.progress.pause(SystemTime::now()) > DAY * 4, "{start}");
        let due = stage.shared.until_due(&stage.site, &mut stage.schedule).await.unwrap();
        assert!(due <= DAY * 81, "{due:?}");
    }
}

#[tokio::test]
async fn attempts_become_rarer() {
    let (orders, mut ordered) = mpsc::unbounded_channel();
    let twist = at("/order", move |_, _| {
        orders.send(tokio::time::Instant::now()).unwrap();
        Answer::problem(500, "serverInternal", "again")
    });
    let Stage { mut shared, site, keys, files: _files, authority: _authority, .. } = Stage::new(twist).await;
    shared.settings.retry = Duration::from_secs(2);
    let task = tokio::spawn(Arc::new(shared).follow(site));
    let mut next = async || timeout(BOUND, ordered.recv()).await.unwrap().unwrap();
    let (first, second, third) = (next().await, next().await, next().await);
    task.abort();
    // 1.5 seconds, less the part of a second that the file doesn't keep; then twice that.
    assert!(second - first >= Duration::from_millis(500), "{:?}", second - first);
    assert!(third - second >= Duration::from_millis(2000), "{:?}", third - second);
    assert_eq!(keys.labels().len(), 3);
}
