use handshake_fiber::{Fiber, StackPool};
use keycore_wire::frame::{self, MAX_FRAME};
use keycore_wire::{
    ClusterState, Done, HelloReply, Limits, Refusal, Reply, Request, Role, Secret, SessionGrant,
    SessionToken, SignatureScheme, TimedSignature, TlsSign, UnixMillis, UserId, VERSION,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::LocalSet;
use tokio::time::timeout;

use super::*;

#[tokio::test(start_paused = true)]
async fn engines_may_come_after_the_proxy() {
    let directory = tempfile::tempdir().unwrap();
    let identity = Identity::with_password("web".parse().unwrap(), Secret::new(b"password".to_vec()));
    let place = Place::In(directory.path().to_owned());
    let engines = Arc::new(Engines::new(place, identity, Duration::from_secs(5)));
    LocalSet::new()
        .run_until(async {
            engines.start_worker();
            let status = engines.status();
            assert!(status.len() == 1 && !status[0].up, "{status:?}");
            let (asked, message) = (Arc::clone(&engines), [7; 32]);
            let signature = Fiber::new(&StackPool::new(1), async move {
                let (key, scheme) = (SpkiSha256([1; 32]), SignatureScheme::EcdsaP256Sha256);
                asked.ask(&TlsSign { key, scheme, site: "a.example", message: &message })
            });
            let error = signature.unwrap().await.unwrap_err().to_string();
            assert!(error.contains("is hsm-engine running?"), "{error}");

            for name in ["engine-0.sock", "engine-1.sock"] {
                let path = directory.path().join(name);
                let engine = UnixListener::bind(&path).unwrap();
                let found = async {
                    let _connection = engine.accept().await.unwrap();
                    while engines.status().last().unwrap().name != path.to_string_lossy() {
                        sleep(Duration::from_millis(100)).await; // until it replaces the connections before
                    }
                };
                timeout(Duration::from_secs(30), found).await.unwrap();
            }
            assert_eq!(engines.status().len(), 2);
            Engines::stop_worker();
        })
        .await;
}

/// An engine of this version, or of the one before, that signs with what it is asked.
struct FakeEngine {
    tells: Cell<bool>,
    timed: Cell<usize>,
    untimed: Cell<usize>,
}

impl FakeEngine {
    async fn serve(self: Rc<Self>, mut stream: UnixStream) {
        let (mut received, mut chunk) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = stream.read(&mut chunk).await {
            received.extend_from_slice(&chunk[..count]);
            let mut replies = Vec::new();
            while let Some((frame, took)) = frame::split(&received, MAX_FRAME).unwrap() {
                let reply = self.answer(&Request::decode(frame.body).unwrap());
                frame::append::<()>(&mut replies, frame.id, |out| {
                    Reply::encode(&reply, out);
                    Ok(())
                })
                .unwrap();
                received.drain(..took);
            }
            if stream.write_all(&replies).await.is_err() {
                return;
            }
        }
    }

    fn answer(&self, request: &Request<'_>) -> Result<Reply, Refusal> {
        let count = |of: &Cell<usize>| of.set(of.get() + 1);
        match request {
            Request::Hello(_) => Ok(Reply::Hello(HelloReply {
                version: VERSION,
                cluster: None,
                state: ClusterState::Active,
                replica: 0,
                limits: Limits { max_frame: 1 << 20, max_in_flight: 1024 },
            })),
            Request::TlsSignTimed(timed) => {
                count(&self.timed);
                match self.tells.get() {
                    true => Ok(Reply::TimedSignature(TimedSignature {
                        bytes: timed.0.message.to_vec(),
                        queued_us: 20,
                        computing_us: 300,
                    })),
                    false => Err(Refusal::new(RefusalCode::UnknownOperation, "no such operation")),
                }
            }
            Request::TlsSign(sign) => {
                count(&self.untimed);
                Ok(Reply::Signature(Signature { bytes: sign.message.to_vec() }))
            }
            Request::Login(_) => Ok(Reply::SessionGrant(SessionGrant {
                user: UserId([1; 16]),
                role: Role::CryptoUser,
                token: SessionToken(Secret::new(vec![1; 89])),
                expires_at: UnixMillis(u64::MAX / 2),
                lifetime_secs: 43_200,
            })),
            _ => Ok(Reply::Done(Done)),
        }
    }
}

#[tokio::test]
async fn an_engine_that_does_not_tell_its_times_is_asked_for_the_signature_alone_for_a_while() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("engine-0.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let identity = Identity::with_password("web".parse().unwrap(), Secret::new(b"password".to_vec()));
    let engines = Engines::new(Place::Named(vec![path.clone().into()]), identity, Duration::from_secs(5));
    let (tells, timed, untimed) = (Cell::new(false), Cell::new(0), Cell::new(0));
    let fake = Rc::new(FakeEngine { tells, timed, untimed });
    LocalSet::new()
        .run_until(async {
            let served = Rc::clone(&fake);
            spawn_local(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    spawn_local(Rc::clone(&served).serve(stream));
                }
            });
            let worker = engines.connect(vec![path.into()]);
            let (key, scheme) = (SpkiSha256([1; 32]), SignatureScheme::EcdsaP256Sha256);
            let sign = TlsSign { key, scheme, site: "a.example", message: &[7; 32] };
            let asked = async || {
                let deadline = Instant::now() + Duration::from_secs(20);
                let (bytes, engine, time) = worker.signed_and_timed(&sign, deadline).await.unwrap();
                assert_eq!((bytes, engine), (vec![7; 32], 0));
                (time, fake.timed.get(), fake.untimed.get())
            };
            assert_eq!(asked().await, (None, 1, 1));
            assert_eq!(asked().await, (None, 1, 2), "it is not asked each time");
            // It is replaced by one of this version, and a minute passes.
            fake.tells.set(true);
            assert_eq!(asked().await, (None, 1, 3));
            worker.untold_until.set(Some(Instant::now()));
            let time =
                EngineTime { queued: Duration::from_micros(20), computing: Duration::from_micros(300) };
            assert_eq!(asked().await, (Some(time), 2, 3));
            assert_eq!(asked().await, (Some(time), 3, 3));
        })
        .await;
}
