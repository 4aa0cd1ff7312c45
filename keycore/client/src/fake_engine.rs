//! A scripted engine on a real socket, for the tests of both drivers. It answers signatures with the message itself, so
//! that a reply given to the wrong call shows.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use keycore_wire::frame::{self, MAX_FRAME};
use keycore_wire::{
    ClusterState, Done, HelloReply, Limits, RandomBytes, Refusal, RefusalCode, Reply, Request, Role, Secret,
    SessionGrant, SessionToken, Signature, UnixMillis, UserId, VERSION,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_local};

use crate::endpoint::Endpoint;

pub(crate) const PASSWORD: &str = "the right password";

/// What the engines of a cluster share.
#[derive(Default)]
pub(crate) struct Cluster {
    tokens: RefCell<HashSet<Vec<u8>>>,
    pub(crate) passwords_tried: Cell<u32>,
    pub(crate) resumes: Cell<u32>,
    pub(crate) hash_takes: Cell<Duration>,
    pub(crate) token_lifetime: Cell<u32>,
}

impl Cluster {
    pub(crate) fn new() -> Rc<Self> {
        let cluster = Self::default();
        cluster.token_lifetime.set(3600);
        Rc::new(cluster)
    }

    pub(crate) fn end_all_sessions(&self) {
        self.tokens.borrow_mut().clear();
    }
}

/// What an engine does with a request.
pub(crate) enum Action {
    /// The usual.
    Normally,
    After(Duration),
    Refuse(RefusalCode),
    Twice,
    /// These bytes instead of a frame.
    Bytes(Vec<u8>),
    /// A frame with this body.
    Body(Vec<u8>),
    Never,
}

type Script = Box<dyn FnMut(&Request<'_>) -> Action>;

pub(crate) struct Behaviour {
    pub(crate) script: RefCell<Script>,
    pub(crate) seen: RefCell<Vec<&'static str>>,
    pub(crate) max_in_flight: Cell<u16>,
    pub(crate) connections: Cell<usize>,
    pub(crate) reads: Cell<usize>,
}

impl Behaviour {
    pub(crate) fn count(&self, name: &str) -> usize {
        self.seen.borrow().iter().filter(|seen| **seen == name).count()
    }
}

pub(crate) struct FakeEngine {
    pub(crate) endpoint: Endpoint,
    pub(crate) behaviour: Rc<Behaviour>,
    cluster: Rc<Cluster>,
    frozen: watch::Sender<bool>,
    server: Option<JoinHandle<()>>,
    connections: Rc<RefCell<Vec<JoinHandle<()>>>>,
}

impl FakeEngine {
    pub(crate) fn start(dir: &Path, name: &str, cluster: &Rc<Cluster>) -> Self {
        let mut engine = Self::down(dir, name, cluster);
        engine.restart();
        engine
    }

    /// An engine that doesn't run yet.
    pub(crate) fn down(dir: &Path, name: &str, cluster: &Rc<Cluster>) -> Self {
        Self {
            endpoint: Endpoint::Unix(dir.join(name)),
            behaviour: Rc::new(Behaviour {
                script: RefCell::new(Box::new(|_| Action::Normally)),
                seen: RefCell::default(),
                max_in_flight: Cell::new(256),
                connections: Cell::new(0),
                reads: Cell::new(0),
            }),
            cluster: Rc::clone(cluster),
            frozen: watch::Sender::new(false),
            server: None,
            connections: Rc::default(),
        }
    }

    pub(crate) fn script(&self, script: impl FnMut(&Request<'_>) -> Action + 'static) {
        *self.behaviour.script.borrow_mut() = Box::new(script);
    }

    /// As SIGSTOP and SIGCONT do: nothing is lost, nothing moves.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    /// As SIGKILL does.
    pub(crate) fn kill(&mut self) {
        for task in self.server.take().into_iter().chain(self.connections.borrow_mut().drain(..)) {
            task.abort();
        }
        let Endpoint::Unix(path) = &self.endpoint else { unreachable!("it listens at a Unix socket") };
        let _ = std::fs::remove_file(path);
    }

    pub(crate) fn restart(&mut self) {
        let Endpoint::Unix(path) = &self.endpoint else { unreachable!("it listens at a Unix socket") };
        let listener = UnixListener::bind(path).unwrap();
        let (behaviour, cluster) = (Rc::clone(&self.behaviour), Rc::clone(&self.cluster));
        let (frozen, connections) = (self.frozen.subscribe(), Rc::clone(&self.connections));
        self.freeze(false);
        self.server = Some(spawn_local(async move {
            loop {
                thawed(&frozen).await;
                let Ok((stream, _)) = listener.accept().await else { return };
                let (behaviour, cluster, frozen) =
                    (Rc::clone(&behaviour), Rc::clone(&cluster), frozen.clone());
                connections.borrow_mut().push(spawn_local(async move {
                    behaviour.connections.set(behaviour.connections.get() + 1);
                    serve(stream, &behaviour, &cluster, &frozen).await;
                    behaviour.connections.set(behaviour.connections.get() - 1);
                }));
            }
        }));
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn thawed(frozen: &watch::Receiver<bool>) {
    let _ = frozen.clone().wait_for(|frozen| !frozen).await;
}

async fn serve(
    stream: UnixStream,
    behaviour: &Behaviour,
    cluster: &Rc<Cluster>,
    frozen: &watch::Receiver<bool>,
) {
    let (mut read, mut write) = stream.into_split();
    let (answers, mut to_write) = mpsc::unbounded_channel::<(Duration, Vec<u8>)>();
    let thaw = frozen.clone();
    let writer = spawn_local(async move {
        while let Some((delay, bytes)) = to_write.recv().await {
            tokio::time::sleep(delay).await;
            thawed(&thaw).await;
            if write.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    let mut bytes = Vec::with_capacity(64 * 1024);
    let mut user = User::default();
    loop {
        thawed(frozen).await;
        while let Some((frame, took)) = frame::split(&bytes, MAX_FRAME).unwrap() {
            for answer in act(behaviour, cluster, &mut user, frame.id, frame.body) {
                let _ = answers.send(answer);
            }
            bytes.drain(..took);
        }
        match read.read_buf(&mut bytes).await {
            Ok(1..) => behaviour.reads.set(behaviour.reads.get() + 1),
            _ => break,
        }
    }
    writer.abort();
}

#[derive(Default)]
struct User {
    token: Option<Vec<u8>>,
}

fn act(
    behaviour: &Behaviour,
    cluster: &Cluster,
    user: &mut User,
    id: u32,
    body: &[u8],
) -> Vec<(Duration, Vec<u8>)> {
    let request = Request::decode(body).unwrap();
    behaviour.seen.borrow_mut().push(request.name());
    let action = (behaviour.script.borrow_mut())(&request);
    let framed = |body: &[u8]| {
        let mut out = Vec::new();
        frame::append::<()>(&mut out, id, |out| {
            out.extend_from_slice(body);
            Ok(())
        })
        .unwrap();
        out
    };
    let mut reply = Vec::new();
    let mut wait = Duration::ZERO;
    let mut times = 1;
    match action {
        Action::Never => return Vec::new(),
        Action::Bytes(bytes) => return vec![(wait, bytes)],
        Action::Body(body) => return vec![(wait, framed(&body))],
        Action::Refuse(code) => Reply::encode(&Err(Refusal::new(code, "as scripted")), &mut reply),
        Action::Normally => {}
        Action::After(delay) => wait = delay,
        Action::Twice => times = 2,
    }
    if reply.is_empty() {
        if let Request::Login(_) = request {
            wait += cluster.hash_takes.get();
        }
        Reply::encode(&answer(behaviour, cluster, user, &request), &mut reply);
    }
    (0..times).map(|_| (wait, framed(&reply))).collect()
}

fn answer(
    behaviour: &Behaviour,
    cluster: &Cluster,
    user: &mut User,
    request: &Request<'_>,
) -> Result<Reply, Refusal> {
    let grant = |token: &[u8]| {
        Reply::SessionGrant(SessionGrant {
            user: UserId([1; 16]),
            role: Role::CryptoUser,
            token: SessionToken(Secret::new(token.to_vec())),
            expires_at: UnixMillis(0),
            lifetime_secs: cluster.token_lifetime.get(),
        })
    };
    match request {
        Request::Hello(_) => {
            return Ok(Reply::Hello(HelloReply {
                version: VERSION,
                cluster: None,
                state: ClusterState::Active,
                replica: 0,
                limits: Limits { max_frame: 70_000, max_in_flight: behaviour.max_in_flight.get() },
            }));
        }
        Request::Ping(_) => return Ok(Reply::Done(Done)),
        Request::Login(login) => {
            cluster.passwords_tried.set(cluster.passwords_tried.get() + 1);
            if login.password.expose() != PASSWORD.as_bytes() {
                return Err(Refusal::new(RefusalCode::BadCredentials, "wrong user name or password"));
            }
            let token = cluster.passwords_tried.get().to_be_bytes().to_vec();
            cluster.tokens.borrow_mut().insert(token.clone());
            user.token = Some(token.clone());
            return Ok(grant(&token));
        }
        Request::Resume(resume) => {
            cluster.resumes.set(cluster.resumes.get() + 1);
            let token = resume.token.0.expose();
            if !cluster.tokens.borrow().contains(token) {
                return Err(Refusal::new(RefusalCode::SessionEnded, "no such session"));
            }
            user.token = Some(token.to_vec());
            return Ok(grant(token));
        }
        _ => {}
    }
    let Some(token) = &user.token else {
        return Err(Refusal::new(RefusalCode::NotLoggedIn, "log in first"));
    };
    if !cluster.tokens.borrow().contains(token) {
        return Err(Refusal::new(RefusalCode::SessionEnded, "the session ended"));
    }
    match request {
        Request::TlsSign(sign) => Ok(Reply::Signature(Signature { bytes: sign.message.to_vec() })),
        Request::Random(random) => {
            Ok(Reply::RandomBytes(RandomBytes { bytes: vec![4; usize::from(random.length)] }))
        }
        Request::FindKey(_) => Err(Refusal::new(RefusalCode::NotFound, "no such key")),
        Request::DeleteKey(_) | Request::UserDelete(_) => Ok(Reply::Done(Done)),
        other => Err(Refusal::new(RefusalCode::UnknownOperation, other.name())),
    }
}
