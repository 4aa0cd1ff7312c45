//! The certificate that the proxy shows to upstream servers. Its key is in the engines, as those of the sites are.

use std::future::{Future, poll_fn};
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use handshake_fiber::{Fiber, StackPool};
use rustls::InconsistentKeys;
use rustls::sign::CertifiedKey;

use super::tls::TrustError;
use crate::chain::Chain;
use crate::handshake::next_poll;
use crate::keys::{KeyError, KeySource};

/// Stacks that a worker keeps for the next handshakes with servers.
const STACKS: usize = 8;

thread_local! {
    static POOL: StackPool = StackPool::new(STACKS);
}

tokio::task_local! {
    /// The server whose handshake runs.
    static SERVER: Rc<str>;
}

/// The server that asks for the signature which is made just now, for the engines' audit log; none outside of such a handshake.
pub(crate) fn asked_server() -> Option<Rc<str>> {
    SERVER.try_with(Rc::clone).ok()
}

/// Reads a certificate, and finds its key.
pub(super) fn load(path: &Path, keys: &dyn KeySource) -> Result<Arc<CertifiedKey>, TrustError> {
    let chain = Chain::load(path)?;
    let key = keys.signing_key(chain.spki())?;
    let shown = CertifiedKey::new(chain.certificates().to_vec(), key);
    match shown.keys_match() {
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Err(KeyError::Mismatch.into()),
        _ => Ok(Arc::new(shown)),
    }
}

/// Makes a handshake in which an engine signs: each of its steps in a fiber, so that the worker goes on meanwhile. While the
/// server is waited for there is no stack.
pub(super) async fn in_fibers<F: Future + 'static>(
    mut handshake: Pin<Box<F>>,
    server: Rc<str>,
) -> io::Result<F::Output> {
    loop {
        let step = async move {
            let polled = poll_fn(|cx| Poll::Ready(handshake.as_mut().poll(cx))).await;
            (handshake, polled)
        };
        let fiber = POOL.with(|stacks| Fiber::new(stacks, step))?;
        let (unfinished, polled) = SERVER.scope(Rc::clone(&server), fiber).await;
        if let Poll::Ready(output) = polled {
            return Ok(output);
        }
        handshake = unfinished;
        next_poll().await;
    }
}
