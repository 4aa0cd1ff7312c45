use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderValue, SET_COOKIE, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use hyper::body::{Body, Incoming};
use hyper::upgrade::OnUpgrade;
use tracing::debug;

use super::activity::InFlight;
use super::redirect::redirect;
use super::streams::unless_reset;
use super::target::{Target, origin_form};
use super::tunnel::Tunnel;
use super::{Client, Forwarder, Role};
use crate::body::{Gate, RequestBody, ResponseBody, Source};
use crate::clients::SharedBucket;
use crate::compression::Wish;
use crate::connection::Protocol;
use crate::headers::{self, Framing};
use crate::journal::Record;
use crate::respond::Failure;
use crate::sites::{Site, Upstream};
use crate::traces::Traced;
use crate::upstream::{Answer, Outgoing, ServerGroup};

/// One request and its response.
pub(super) async fn exchange(
    client: Rc<Client>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let in_flight = InFlight::begin(&client.activity, !request.body().is_end_stream());
    let mut record = client.journal.begin(&client.connection, &request);
    let version = request.version();
    if version == Version::HTTP_2 {
        unless_reset().await;
    }
    let answered = match client.role {
        Role::Forward => forward(&client, request, &mut record).await,
        Role::Redirect { port } => redirect(&client, port, request, &mut record),
    };
    let response = answered.unwrap_or_else(|failure| {
        log(&client, &failure);
        failure.response(version).map(Source::own)
    });
    let stall = client.forwarder.timeouts.stall;
    record.answered(response.status().as_u16());
    Ok(response.map(|source| ResponseBody::new(source, stall, in_flight, record)))
}

/// What happens to each request, in order: refuse what leaves a doubt, find the site, let its upstream answer.
async fn forward(
    client: &Client,
    request: Request<Incoming>,
    record: &mut Record,
) -> Result<Response<Source>, Failure> {
    let (parts, body) = request.into_parts();
    headers::check_framing(&parts.headers)?;
    if parts.headers.contains_key(UPGRADE) && !body.is_end_stream() {
        return Err(Failure::BadRequest("an upgrade with a body"));
    }
    let target = Target::of(&parts)?;
    let sni = client.connection.sni.as_deref();
    let site = client.sites.for_request(sni, target.host).ok_or(Failure::Misdirected)?;
    record.is_for(site);
    let version = parts.version;
    let told = client.forwarding.about(target.authority)?;
    let host_is_sent = target.host_is_sent;
    let tell = |headers: &mut HeaderMap| {
        told.write(headers, host_is_sent);
        if let Some(identity) = &client.connection.identity {
            identity.write(headers);
        }
        site.http.change_request(headers);
    };
    let traced = record.traced();
    let mut response = match answer(client, site, parts, body, tell, traced.as_ref()).await {
        Ok(response) => response,
        Err(failure) => {
            log(client, &failure);
            site.http.failure(&failure, version).map(Source::own)
        }
    };
    site.http.change_response(response.headers_mut());
    Ok(response)
}

/// What the site answers, by whichever upstream the path belongs to.
async fn answer(
    client: &Client,
    site: &Site,
    mut parts: Parts,
    body: Incoming,
    tell: impl FnOnce(&mut HeaderMap),
    traced: Option<&Rc<Traced>>,
) -> Result<Response<Source>, Failure> {
    let wish = site.http.compression.wish(&parts.headers);
    allow(client, site)?;
    // What is known to be too long is refused before any of it is asked for.
    if body.size_hint().lower() > site.body_bytes {
        return Err(Failure::BodyTooLarge);
    }
    let (routed, path) = site.routes.find(&parts.uri)?;
    if let Some(path) = path {
        parts.uri = path.into();
    }
    let response = match routed.unwrap_or(&site.upstream) {
        Upstream::Handler(handler) => handler.answer(&client.connection, &parts).map(Source::own),
        Upstream::Http(upstream) => to_upstream(client, site, upstream, parts, body, tell, traced).await?,
    };
    Ok(match wish {
        Some(wish) => compressed(client, site, &wish, response),
        None => response,
    })
}

fn compressed(client: &Client, site: &Site, wish: &Wish, mut response: Response<Source>) -> Response<Source> {
    let compression = &site.http.compression;
    let status = response.status();
    // The length that a response to HEAD tells is that of another body.
    let told = response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let length = told.or_else(|| response.body().length().filter(|&length| length > 0));
    match compression.apply(wish, status, response.headers_mut(), length, &client.forwarder.compressors) {
        Some((encoder, place)) => response.map(|source| source.compressed(encoder, place)),
        None => response,
    }
}

/// Keeps to the rates of the client, and of all clients of the site.
fn allow(client: &Client, site: &Site) -> Result<(), Failure> {
    let Forwarder { clients, limits, .. } = &*client.forwarder;
    clients.request(client.connection.remote.ip(), limits).map_err(Failure::TooManyRequests)?;
    site.max_requests.as_deref().map_or(Ok(()), SharedBucket::take).map_err(Failure::TooManyRequests)
}

fn log(client: &Client, failure: &Failure) {
    let status = failure.status().as_u16();
    debug!(client = %client.connection.remote, status, reason = %failure, "request not forwarded");
}

async fn to_upstream(
    client: &Client,
    site: &Site,
    upstream: &Arc<ServerGroup>,
    mut parts: Parts,
    body: Incoming,
    tell: impl FnOnce(&mut HeaderMap),
    traced: Option<&Rc<Traced>>,
) -> Result<Response<Source>, Failure> {
    let websocket = parts.extensions.remove::<OnUpgrade>().filter(|_| asks_for_websocket(&parts, &body));
    let expects_continue = headers::expects_continue(&parts.headers);
    headers::prepare_request(&mut parts.headers, framing_of(&parts.method, &body), websocket.is_some());
    tell(&mut parts.headers);
    parts.uri = origin_form(parts.uri);
    parts.version = Version::HTTP_11;

    let outgoing = if body.is_end_stream() {
        Outgoing { request: Request::from_parts(parts, RequestBody::empty()), progress: None, gate: None }
    } else {
        let gate = expects_continue.then(Gate::default);
        let stall = client.forwarder.timeouts.stall;
        let (body, progress) = RequestBody::streaming(body, stall, site.body_bytes, gate.clone());
        Outgoing { request: Request::from_parts(parts, body), progress: Some(progress), gate }
    };
    let upstreams = &client.forwarder.upstreams;
    let (answer, cookie) = upstreams.send(upstream, &client.connection, outgoing, traced).await?;
    let mut response = from_upstream(client, answer, websocket)?;
    if let Some(cookie) = cookie.and_then(|cookie| HeaderValue::try_from(cookie).ok()) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    Ok(response)
}

/// Makes an upstream's response the client's. `websocket` is the client's end, if it asked for one.
fn from_upstream(
    client: &Client,
    (mut response, lease): Answer,
    websocket: Option<OnUpgrade>,
) -> Result<Response<Source>, Failure> {
    let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if switched && !(websocket.is_some() && headers::is_websocket(response.headers())) {
        return Err(Failure::UpstreamBroken("it switched to a protocol that nobody asked for"));
    }
    let length = response.body().size_hint().exact();
    headers::prepare_response(response.headers_mut(), length, switched)?;
    if client.connection.protocol == Protocol::Http2 {
        headers::detach(response.headers_mut());
    }
    *response.version_mut() = Version::HTTP_11;
    if let (true, Some(websocket)) = (switched, websocket) {
        let upstream = hyper::upgrade::on(&mut response);
        client.activity.switch();
        client.tunnel.replace(Some(Tunnel { client: websocket, upstream, lease }));
        return Ok(response.map(|_| Source::own(Bytes::new())));
    }
    Ok(response.map(|incoming| Source::upstream(incoming, lease)))
}

fn framing_of(method: &Method, body: &Incoming) -> Framing {
    if body.is_end_stream() {
        match *method {
            Method::POST | Method::PUT | Method::PATCH => Framing::Empty,
            _ => Framing::AsSent,
        }
    } else if body.size_hint().exact().is_some() {
        Framing::AsSent
    } else {
        Framing::Chunked
    }
}

fn asks_for_websocket(request: &Parts, body: &Incoming) -> bool {
    request.method == Method::GET && body.is_end_stream() && headers::wants_websocket(&request.headers)
}
