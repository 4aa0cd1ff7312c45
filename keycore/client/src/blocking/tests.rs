use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use keycore_wire::{
    DeleteKey, KeyId, Ping, Random, RefusalCode, Request, Secret, SessionToken, SignatureScheme, SpkiSha256,
    TlsSign,
};
use tokio::task::LocalSet;

use super::Client;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::fake_engine::{Action, Cluster, FakeEngine, PASSWORD};
use crate::identity::Identity;

/// Runs the engines on this thread and the blocking client on another.
fn run<T: Send + 'static>(
    count: usize,
    script: impl Fn(usize, &mut FakeEngine, &Cluster),
    client: impl FnOnce(Vec<Endpoint>) -> T + Send + 'static,
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let cluster = Cluster::new();
        let mut engines: Vec<_> =
            (0..count).map(|n| FakeEngine::start(dir.path(), &format!("{n}.sock"), &cluster)).collect();
        for (at, engine) in engines.iter_mut().enumerate() {
            script(at, engine, &cluster);
        }
        let endpoints = engines.iter().map(|engine| engine.endpoint.clone()).collect();
        tokio::task::spawn_blocking(move || client(endpoints)).await.unwrap()
    })
}

fn identity() -> Arc<Identity> {
    Identity::with_password("admin".parse().unwrap(), Secret::new(PASSWORD.into()))
}

fn connected(endpoints: &[Endpoint]) -> Client {
    let mut client = Client::connect(endpoints, Duration::from_secs(5)).unwrap();
    client.login(&identity()).unwrap();
    client
}

fn sign(client: &mut Client, message: &[u8]) -> Result<(), Error> {
    let request =
        TlsSign { key: SpkiSha256([7; 32]), scheme: SignatureScheme::Ed25519, site: "localhost", message };
    assert_eq!(client.call(&request)?.bytes, message);
    Ok(())
}

/// What closes the connection of whoever asks for it.
fn broken(request: &Request<'_>) -> Action {
    match request {
        Request::TlsSign(_) | Request::DeleteKey(_) => Action::Bytes(vec![0xff; 8]),
        _ => Action::Normally,
    }
}

#[test]
fn logs_in_and_asks() {
    run(
        2,
        |_, _, _| {},
        |endpoints| {
            let identity = identity();
            let mut client = Client::connect(&endpoints, Duration::from_secs(5)).unwrap();
            assert_eq!((client.endpoint(), client.hello().replica), (&endpoints[0], 0));
            client.call(&Ping).unwrap();
            let refused = client.call(&Random { length: 4 }).unwrap_err();
            assert!(
                matches!(&refused, Error::Refused(refusal) if refusal.code == RefusalCode::NotLoggedIn),
                "{refused}"
            );
            client.login(&identity).unwrap();
            assert_eq!(client.call(&Random { length: 4 }).unwrap().bytes.len(), 4);

            let token = identity.token().unwrap();
            let mut other = Client::connect(&endpoints[1..], Duration::from_secs(5)).unwrap();
            other.login(&Identity::with_token(token)).unwrap();
            sign(&mut other, b"with the token").unwrap();
        },
    );
}

#[test]
fn refused_logins_say_so() {
    run(
        2,
        |_, _, _| {},
        |endpoints| {
            let mut client = Client::connect(&endpoints, Duration::from_secs(5)).unwrap();
            let wrong = Identity::with_password("admin".parse().unwrap(), Secret::new(b"wrong".to_vec()));
            let error = client.login(&wrong).unwrap_err();
            assert!(
                matches!(&error, Error::Login(refusal) if refusal.code == RefusalCode::BadCredentials),
                "{error}"
            );
            let old = Identity::with_token(SessionToken(Secret::new(b"old".to_vec())));
            let error = client.login(&old).unwrap_err();
            assert!(
                matches!(&error, Error::Login(refusal) if refusal.code == RefusalCode::SessionEnded),
                "{error}"
            );
            client.login(&identity()).unwrap();
        },
    );
}

#[test]
fn moves_to_the_next_engine_when_one_breaks_freezes_or_is_overloaded() {
    let overloaded = |request: &Request<'_>| match request {
        Request::TlsSign(_) => Action::Refuse(RefusalCode::Overloaded),
        _ => Action::Normally,
    };
    let silent = |request: &Request<'_>| match request {
        Request::TlsSign(_) | Request::Ping(_) => Action::Never,
        _ => Action::Normally,
    };
    let scripts: [fn(&Request<'_>) -> Action; 3] = [broken, silent, overloaded];
    for script in scripts {
        run(
            2,
            move |at, engine, _| {
                if at == 0 {
                    engine.script(script);
                }
            },
            |endpoints| {
                let mut client = connected(&endpoints);
                client.timeout = Duration::from_secs(1);
                let start = Instant::now();
                sign(&mut client, b"message").unwrap();
                assert!(start.elapsed() < Duration::from_millis(800), "{:?}", start.elapsed());
                assert_eq!(client.endpoint(), &endpoints[1]);
                sign(&mut client, b"another").unwrap();
            },
        );
    }
}

#[test]
fn a_slow_operation_is_waited_for_as_long_as_the_engine_lives() {
    let slow = |request: &Request<'_>| match request {
        Request::TlsSign(_) => Action::After(Duration::from_millis(600)),
        _ => Action::Normally,
    };
    run(
        1,
        move |_, engine, _| engine.script(slow),
        |endpoints| {
            let mut client = connected(&endpoints);
            client.timeout = Duration::from_secs(2);
            // The fake engine answers in order, so the pings wait as well: stay below twice the patience.
            sign(&mut client, b"message").unwrap();
        },
    );
}

#[test]
fn what_may_not_be_repeated_is_sent_once() {
    let deletions = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&deletions);
    run(
        2,
        move |_, engine, _| {
            let seen = Arc::clone(&seen);
            engine.script(move |request| {
                if let Request::DeleteKey(_) = request {
                    seen.fetch_add(1, Ordering::Relaxed);
                }
                broken(request)
            });
        },
        |endpoints| {
            let mut client = connected(&endpoints);
            let error = client.call(&DeleteKey { key: KeyId([1; 16]) }).unwrap_err();
            assert!(matches!(error, Error::OutcomeUnknown { operation: "DeleteKey" }), "{error}");
            client.call(&Ping).unwrap();
        },
    );
    assert_eq!(deletions.load(Ordering::Relaxed), 1);
}

#[test]
fn gives_up_in_time_and_says_what_became_of_each_engine() {
    run(
        2,
        |_, engine, _| engine.script(broken),
        |endpoints| {
            let mut client = connected(&endpoints);
            let start = Instant::now();
            let error = sign(&mut client, b"message").unwrap_err();
            assert!(matches!(&error, Error::NoEngine { engines } if engines.len() == 2), "{error}");
            assert!(error.to_string().contains("0.sock: broken engine: it sent a frame"), "{error}");
            assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        },
    );
}

#[test]
fn an_engine_that_never_greets_leaves_time_for_the_next() {
    run(
        2,
        |at, engine, _| {
            if at == 0 {
                engine.script(|_| Action::Never);
            }
        },
        |endpoints| {
            let client = Client::connect(&endpoints, Duration::from_millis(300)).unwrap();
            assert_eq!(client.endpoint(), &endpoints[1]);
            let Err(error) = Client::connect(&endpoints[..1], Duration::from_millis(50)) else { panic!() };
            assert!(error.to_string().contains("0.sock: no answer to the hello within "), "{error}");
            let absent = Endpoint::Unix("/nonexistent/engine.sock".into());
            let Err(error) = Client::connect(&[absent], Duration::from_millis(50)) else { panic!() };
            assert!(
                error.to_string().contains("/nonexistent/engine.sock: can't connect: No such file"),
                "{error}"
            );
        },
    );
}

#[test]
fn the_deadline_is_kept() {
    let never = |request: &Request<'_>| match request {
        Request::DeleteKey(_) => Action::Never,
        _ => Action::Normally,
    };
    run(
        1,
        move |_, engine, _| engine.script(never),
        |endpoints| {
            let mut client = connected(&endpoints);
            client.timeout = Duration::from_millis(100);
            let start = Instant::now();
            let error = client.call(&DeleteKey { key: KeyId([1; 16]) }).unwrap_err();
            assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error}");
            assert!(start.elapsed() < Duration::from_millis(400), "{:?}", start.elapsed());
        },
    );
}

#[test]
fn an_ended_session_is_renewed_once() {
    let ended = Arc::new(AtomicUsize::new(0));
    run(
        1,
        move |_, engine, _| {
            let ended = Arc::clone(&ended);
            engine.script(move |request| match request {
                Request::TlsSign(_) if ended.fetch_add(1, Ordering::Relaxed) == 0 => {
                    Action::Refuse(RefusalCode::SessionEnded)
                }
                Request::Random(_) => Action::Refuse(RefusalCode::SessionEnded),
                _ => Action::Normally,
            });
        },
        |endpoints| {
            let mut client = connected(&endpoints);
            sign(&mut client, b"message").unwrap();
            let error = client.call(&Random { length: 1 }).unwrap_err();
            assert!(
                matches!(&error, Error::Refused(refusal) if refusal.code == RefusalCode::SessionEnded),
                "{error}"
            );
        },
    );
}
