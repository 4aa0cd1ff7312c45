//! `/status.json`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use time::OffsetDateTime;

use super::history::{Event, History, Sample};
use super::{INTERVAL, WINDOW, millis};
use crate::config::HostPattern;
use crate::generation::Generation;
use crate::keys::SignerStatus;
use crate::metrics::{HandshakeResult, Metrics};
use crate::sites::{Site, Upstream};
use crate::views::View;

/// Sites, and servers of upstreams, that are listed: those whose certificates end first, and those that are not well.
const LISTED: usize = 200;

/// Hosts of a site that are listed.
const HOSTS: usize = 10;

/// Whence a report is made.
pub(super) struct Sources<'a> {
    pub(super) metrics: &'a Metrics,
    pub(super) view: &'a View,
    pub(super) generation: &'a Generation,
    pub(super) history: &'a History,
    pub(super) workers: usize,
}

/// And when.
#[derive(Clone, Copy)]
pub(super) struct Moments {
    pub(super) started: OffsetDateTime,
    pub(super) now: OffsetDateTime,
    /// Milliseconds of Unix time.
    pub(super) since: u64,
    pub(super) draining: bool,
}

/// Times are milliseconds of Unix time, unless their names say otherwise.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Report<'a> {
    version: &'static str,
    pid: u32,
    started: u64,
    now: u64,
    ready: bool,
    draining: bool,
    workers: usize,
    silent_workers: usize,
    generation: u64,
    config_behind: bool,
    stale_certificates: usize,
    connections: u64,
    totals: Totals,
    engines: Vec<Engine<'a>>,
    /// How many there are; the list may be shorter.
    site_count: usize,
    sites: Vec<SiteRow<'a>>,
    server_count: usize,
    servers: Vec<Server<'a>>,
    interval_ms: u64,
    window_ms: u64,
    fields: [&'static str; Sample::FIELDS.len()],
    samples: Vec<[Option<u64>; Sample::FIELDS.len()]>,
    events: Vec<&'a Event>,
}

/// Since the start.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Totals {
    handshakes: BTreeMap<&'static str, u64>,
    requests: u64,
    server_errors: u64,
    signatures: u64,
    signature_failures: u64,
    failovers: u64,
    hedges: u64,
    hedge_wins: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Engine<'a> {
    name: &'a str,
    up: bool,
    state: &'a str,
    answers: u64,
    losses: u64,
    silences: u64,
    /// How many answers were timed, and how long they took together: two reports give the mean between them.
    timed_answers: u64,
    answer_us: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct SiteRow<'a> {
    name: &'a str,
    hosts: Vec<&'a str>,
    host_count: usize,
    to: &'a str,
    requests: u64,
    server_errors: u64,
    /// When the first of its certificates ends, in seconds of Unix time.
    not_after: i64,
    /// Whole days until then; negative if it is over.
    days_left: i64,
}

#[derive(Serialize)]
struct Server<'a> {
    upstream: &'a str,
    url: String,
    up: bool,
    state: &'static str,
}

impl<'a> Report<'a> {
    pub(super) fn new(sources: &Sources<'a>, moments: Moments) -> Self {
        let &Sources { metrics, view, generation, history, workers } = sources;
        let Moments { started, now, since, draining } = moments;
        let (server_count, servers) = servers(generation);
        Self {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            started: millis(started),
            now: millis(now),
            ready: view.ready && !draining,
            draining,
            workers,
            silent_workers: view.silent,
            generation: generation.number,
            config_behind: metrics.reloads.is_behind(),
            stale_certificates: generation.stale,
            connections: metrics.connections(),
            totals: Totals::new(metrics, view),
            engines: view.signers.iter().map(Engine::of).collect(),
            site_count: generation.site_count(),
            sites: sites(generation, now),
            server_count,
            servers,
            interval_ms: whole_millis(INTERVAL),
            window_ms: whole_millis(WINDOW),
            fields: Sample::FIELDS,
            samples: history.samples(since).map(Sample::row).collect(),
            events: history.events(since).collect(),
        }
    }
}

impl Totals {
    fn new(metrics: &Metrics, view: &View) -> Self {
        let (requests, server_errors) = metrics.requests.totals();
        let handshakes = HandshakeResult::ALL.into_iter().map(HandshakeResult::label);
        Self {
            handshakes: handshakes.zip(metrics.handshakes()).collect(),
            requests,
            server_errors,
            signatures: view.counts.calls,
            signature_failures: view.counts.failures,
            failovers: view.counts.failovers,
            hedges: view.counts.hedges,
            hedge_wins: view.counts.hedge_wins,
        }
    }
}

impl<'a> Engine<'a> {
    fn of(signer: &'a SignerStatus) -> Self {
        Self {
            name: &signer.name,
            up: signer.up,
            state: &signer.state,
            answers: signer.answers,
            losses: signer.losses,
            silences: signer.silences,
            timed_answers: signer.timed_answers,
            answer_us: u64::try_from(signer.answer_time.as_micros()).unwrap_or(u64::MAX),
        }
    }
}

/// The sites whose certificates end first.
fn sites(generation: &Generation, now: OffsetDateTime) -> Vec<SiteRow<'_>> {
    let soonest = generation.soonest(LISTED);
    soonest
        .iter()
        .filter_map(|expiry| {
            let site: &Site = generation.sites.find(&expiry.site)?;
            Some(SiteRow {
                name: site.name(),
                hosts: site.hosts.iter().take(HOSTS).map(HostPattern::as_str).collect(),
                host_count: site.hosts.len(),
                to: match &site.upstream {
                    Upstream::Http(group) => group.name(),
                    Upstream::Handler(_) => "this process",
                },
                requests: site.requests.all(),
                server_errors: site.requests.of_class(5),
                not_after: expiry.not_after.unix_timestamp(),
                days_left: (expiry.not_after - now).whole_days(),
            })
        })
        .collect()
}

/// How many servers there are, and some: those that are not well first.
fn servers(generation: &Generation) -> (usize, Vec<Server<'_>>) {
    let all = || generation.upstreams.states();
    let ill = all().filter(|(_, _, state)| !state.is_up()).take(LISTED);
    let well = all().filter(|(_, _, state)| state.is_up());
    let mut listed: Vec<_> = ill
        .chain(well)
        .take(LISTED)
        .map(|(upstream, url, state)| Server {
            upstream,
            url: url.to_string(),
            up: state.is_up(),
            state: state.label(),
        })
        .collect();
    listed.sort_by(|one, other| (one.upstream, &one.url).cmp(&(other.upstream, &other.url)));
    (all().count(), listed)
}

fn whole_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
