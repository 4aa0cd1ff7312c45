//! Active health checks: by one worker for all, whatever requests there are.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use http::{Request, StatusCode, Uri};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Settings;
use super::connect::Connection;
use super::group::Server;
use super::resolve::Addresses;
use super::send::framed;
use crate::body::RequestBody;
use crate::config::{HealthCheck, UpstreamPlace};
use crate::generation::Generation;
use crate::respond::Failure;

/// How a server is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) what: HealthCheck,
    /// What an HTTP check wants; absent for any 2xx or 3xx.
    pub(super) status: Option<StatusCode>,
    pub(super) interval: Duration,
    /// One check, from connecting to the head of the response.
    pub(super) timeout: Duration,
    /// So many good ones in a row bring a server back, so many bad ones take it out.
    pub(super) rise: u32,
    pub(super) fall: u32,
}

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
enum Bad {
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error("it answers {0}")]
    Status(StatusCode),
    #[error(transparent)]
    Failure(#[from] Failure),
    #[error("its connection failed: {0}")]
    Lost(hyper::Error),
}

/// Checks the servers of each generation while it is current; to be run by one worker, for ever.
pub(crate) async fn run(mut news: watch::Receiver<Arc<Generation>>) {
    loop {
        let mut checking = JoinSet::new();
        {
            let generation = Arc::clone(&news.borrow_and_update());
            let settings = Arc::new(Settings::new(&generation.limits, &generation.timeouts));
            for (name, server) in generation.upstreams.servers() {
                if let Some(check) = server.options.check.clone() {
                    let (name, server) = (name.into(), Arc::clone(server));
                    checking.spawn_local(follow(name, server, check, Arc::clone(&settings)));
                }
            }
        }
        if news.changed().await.is_err() {
            // Nobody can reload any more.
            while checking.join_next().await.is_some() {}
            return;
        }
    }
}

async fn follow(upstream: Box<str>, server: Arc<Server>, check: Check, settings: Arc<Settings>) {
    let addresses = Addresses::new(server.options.resolve_interval);
    let mut ticks = interval(check.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Of results that speak against its state.
    let mut row = 0;
    loop {
        ticks.tick().await;
        let found = match timeout(check.timeout, probe(&server, &addresses, &check, &settings)).await {
            Ok(found) => found,
            Err(_elapsed) => Err(Bad::Late(check.timeout)),
        };
        let is_down = server.health.is_down();
        row = if found.is_ok() == is_down { row + 1 } else { 0 };
        match found {
            Ok(()) if row >= check.rise => {
                server.health.came_back();
                tracing::info!(%upstream, server = %server.url, "up again, says its health check");
            }
            Err(reason) if row >= check.fall => {
                server.health.went_down();
                tracing::warn!(%upstream, server = %server.url, %reason, "down, says its health check");
            }
            _ => continue,
        }
        row = 0;
    }
}

/// One check, over a connection of its own: what is kept for requests proves nothing about new ones.
async fn probe(
    server: &Server,
    addresses: &Addresses,
    check: &Check,
    settings: &Settings,
) -> Result<(), Bad> {
    let no_room = |_| Failure::NoRoom(check.timeout);
    let room = Arc::new(Semaphore::new(1)).acquire_owned().await.map_err(no_room)?;
    let mut connection = Connection::open(server, addresses, settings, None, room, false).await?;
    let HealthCheck::Http(path) = &check.what else { return Ok(()) };
    let mut request = Request::new(RequestBody::empty());
    *request.uri_mut() = Uri::from(path.clone());
    let headers = request.headers_mut();
    let host = match server.url.place() {
        UpstreamPlace::Tcp { authority, .. } => HeaderValue::try_from(authority.as_str()).ok(),
        UpstreamPlace::Unix(_) => None,
    };
    headers.insert(HOST, host.unwrap_or(HeaderValue::from_static("localhost")));
    headers.insert(USER_AGENT, HeaderValue::from_static("hsm-proxy health check"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    framed(&mut request, &connection, server.url.scheme(), None)?;
    let answer = connection.send(request).await.map_err(|error| Bad::Lost(error.into_error()))?;
    let status = answer.status();
    let is_good = match check.status {
        Some(wanted) => status == wanted,
        None => status.is_success() || status.is_redirection(),
    };
    if is_good { Ok(()) } else { Err(Bad::Status(status)) }
}

#[cfg(test)]
mod tests;
