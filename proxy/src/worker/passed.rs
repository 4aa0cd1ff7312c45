//! A connection that is passed on to the server that its client asks for.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::{Serving, Worker};
use crate::access_log::PassedEntry;
use crate::metrics::Passed;
use crate::passthrough::Passthrough;
use crate::proxy_protocol::{Ends, header_of};
use crate::relay::{Moved, Patience, relay};
use crate::respond::Failure;
use crate::upstream::{Addresses, Stream, connect_to};

/// How long the addresses of a server's name are used before it is looked up again.
const RESOLVE: Duration = Duration::from_secs(10);

/// One that is about to be passed on.
pub(super) struct ToPass {
    pub(super) client: TcpStream,
    /// What was read of it: the ClientHello.
    pub(super) first_bytes: Vec<u8>,
    pub(super) sni: Option<Arc<str>>,
    pub(super) to: Arc<Passthrough>,
}

/// Counts a connection and writes it down when it has ended, however.
struct Record<'a> {
    serving: &'a Serving,
    worker: &'a Worker,
    to: &'a Passthrough,
    client: Ends,
    sni: &'a str,
    start: Instant,
    received: OffsetDateTime,
    moved: Moved,
    passed: Passed,
}

impl Worker {
    pub(super) async fn pass(&self, connection: ToPass, ends: Ends, serving: &Serving) {
        let ToPass { client, first_bytes, sni, to } = connection;
        let sni = sni.as_deref().unwrap_or_default();
        let mut record = Record {
            serving,
            worker: self,
            to: &to,
            client: ends,
            sni,
            start: Instant::now(),
            received: OffsetDateTime::now_utc(),
            moved: Moved::default(),
            passed: Passed::Unreachable,
        };
        let timeouts = &serving.generation.timeouts;
        let connected =
            timeout(timeouts.upstream_connect, reach(&to, ends, sni, &first_bytes, serving)).await;
        let server = match connected.unwrap_or(Err(Failure::ConnectTimeout(timeouts.upstream_connect))) {
            Ok(server) => server,
            Err(error) => {
                if let Some(held_back) = self.shared.complaints.passthroughs.pass() {
                    let (passthrough, to) = (&*to.name, &to.to);
                    tracing::warn!(passthrough, %to, %error, held_back, "connection not passed on");
                }
                return;
            }
        };
        record.moved.from_client.set(first_bytes.len() as u64);
        record.passed = Passed::Broken;
        drop(first_bytes);
        let patience =
            Patience { idle: timeouts.idle, drain: timeouts.drain, retired: serving.retired.clone() };
        match relay(client, server, patience, &record.moved).await {
            Ok(()) => record.passed = Passed::Ok,
            Err(error) => tracing::debug!(client = %ends.client, %error, "passed connection ended early"),
        }
    }
}

/// A connection to the server that has got all that the client has sent.
async fn reach(
    to: &Arc<Passthrough>,
    ends: Ends,
    sni: &str,
    first_bytes: &[u8],
    serving: &Serving,
) -> Result<Stream, Failure> {
    let header = if to.introduces {
        header_of(ends, Some(sni), None).map_err(Failure::Unreachable)?
    } else {
        Vec::new()
    };
    let addresses = serving.addresses_of(to);
    let (mut server, _) = connect_to(to.to.place(), &addresses, &header).await?;
    server.write_all(first_bytes).await.map_err(Failure::Unreachable)?;
    Ok(server)
}

impl Serving {
    /// What this worker knows of the server's addresses.
    fn addresses_of(&self, to: &Arc<Passthrough>) -> std::rc::Rc<Addresses> {
        let mut known = self.addresses.borrow_mut();
        let new = || std::rc::Rc::new(Addresses::new(RESOLVE));
        // The generation keeps them all, so no other gets its place in memory.
        std::rc::Rc::clone(known.entry(Arc::as_ptr(to)).or_insert_with(new))
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        let (from_client, to_client) = (self.moved.from_client.get(), self.moved.to_client.get());
        self.worker.shared.metrics.passthroughs.count(self.passed, from_client, to_client);
        self.serving.journal.passed(&PassedEntry {
            received: self.received,
            took: self.start.elapsed(),
            client: self.client.client.ip(),
            passthrough: &self.to.name,
            sni: self.sni,
            result: self.passed.name(),
            from_client,
            to_client,
        });
    }
}
