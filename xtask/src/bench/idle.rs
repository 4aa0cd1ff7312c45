//! `cargo xtask bench idle`: what ten thousand kept connections of TLS on which nothing happens cost, here and in nginx.
//!
//! Each has made one request. Memory is what is resident of the server's processes: for nginx its master and worker, for
//! hsm-proxy its one process. Each measurement has a process of its own, for allocators keep what they had.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::Bench;
use super::cores::{Cores, resident_kib_of_all};
use super::figures::{now, write_json};
use super::machine::{self, Machine};
use super::peers::{Peer, Setting, Stage};
use super::visitors::{Visitors, raise_file_limit};
use crate::error::Error;

/// Connections before anything is counted.
const WARM_UP: usize = 200;

/// What a server does behind a response, before it is idle: hsm-proxy keeps what requests need for two seconds.
const SETTLING: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize)]
struct Results {
    when: String,
    machine: Machine,
    connections: usize,
    servers: Vec<Figure>,
}

#[derive(Debug, Serialize)]
struct Figure {
    server: &'static str,
    protocol: &'static str,
    before_kib: u64,
    after_kib: u64,
}

pub(super) fn run(
    bench: &Bench,
    connections: usize,
    programs: &Path,
    root: &Path,
    cores: &Cores,
) -> Result<(), Error> {
    raise_file_limit()?;
    let (stage, visitors) = (Stage::set(programs, cores)?, Visitors { programs, cores });
    let mut servers = Vec::new();
    for (protocol, directory, arguments) in [("HTTP/1.1", "1", &[][..]), ("HTTP/2", "2", &["--http2"][..])] {
        let usual = stage.setting();
        let scratch = usual.scratch.join(directory);
        std::fs::create_dir(&scratch).map_err(Error::file(&scratch))?;
        let setting = Setting { scratch: &scratch, patient: true, ..usual };
        for (server, start) in [("hsm-proxy", Peer::ours as fn(&_) -> _), ("nginx", Peer::nginx)] {
            let figure = measured(&visitors, server, protocol, start(&setting)?, connections, arguments)?;
            println!("{}", figure.row(connections));
            servers.push(figure);
        }
    }
    println!(
        "\n| server | protocol | resident before | with {connections} | per connection |\n|---|---|---|---|---|"
    );
    servers.iter().for_each(|figure| println!("{}", figure.row(connections)));
    let results = Results { when: now(), machine: machine::describe(root), connections, servers };
    let directory = bench.out.clone().unwrap_or_else(|| root.join("loadtest/results"));
    let name = format!("idle-{}", results.when.replace([':', '-'], ""));
    write_json(&directory, &name, &results)
}

fn measured(
    visitors: &Visitors<'_>,
    server: &'static str,
    protocol: &'static str,
    mut peer: Peer,
    connections: usize,
    arguments: &[&str],
) -> Result<Figure, Error> {
    let held = |count: usize| {
        let count = count.to_string();
        let mut clients =
            visitors.start_client(&peer, "idle", &[&["--count", &count], arguments].concat())?;
        clients.line()?;
        Ok::<_, Error>(clients)
    };
    drop(held(WARM_UP)?);
    std::thread::sleep(SETTLING);
    let before_kib = resident_kib_of_all(peer.pid()?)?;
    let clients = held(connections)?;
    std::thread::sleep(SETTLING);
    let after_kib = resident_kib_of_all(peer.pid()?)?;
    drop(clients);
    peer.check()?;
    Ok(Figure { server, protocol, before_kib, after_kib })
}

impl Figure {
    fn row(&self, connections: usize) -> String {
        let Self { server, protocol, before_kib, after_kib } = self;
        let each = after_kib.saturating_sub(*before_kib) * 1024 / connections as u64;
        format!("| {server} | {protocol} | {before_kib} KiB | {after_kib} KiB | {each} B |")
    }
}
