//! Many connections on which nothing happens.

use std::io::{self, Read, Write};
use std::net::Ipv4Addr;

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::Error;
use crate::frames::{END_HEADERS, END_STREAM, GET, HEADERS, frame, head, hello};
use crate::tls::{Stream, Target};

const REQUEST: &[u8] = b"GET /small HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// So that there are ports left, also soon after another such run.
const CONNECTIONS_OF_ADDRESS: usize = 4000;

pub(crate) fn run(target: &Target, count: usize, http2: bool) -> Result<(), Error> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    let mut held = Vec::with_capacity(count);
    for number in 0..count {
        let network = u8::try_from(number / CONNECTIONS_OF_ADDRESS).map_err(|_| "too many connections")?;
        let target = target.clone().from(Ipv4Addr::new(127, 0, network, 3));
        let mut stream = target.connect().map_err(|error| format!("connection {number}: {error}"))?;
        if http2 { request_http2(&mut stream) } else { request_http1(&mut stream) }
            .map_err(|error| format!("the request on connection {number}: {error}"))?;
        // What this end keeps of TLS is not what is measured.
        held.push(stream.sock);
    }
    println!("ready");
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn request_http1(stream: &mut Stream) -> io::Result<()> {
    stream.write_all(REQUEST)?;
    read_response(stream).map(drop)
}

/// Reads a response with a `Content-Length`; its status.
pub(crate) fn read_response(stream: &mut Stream) -> io::Result<u16> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length: Option<usize> =
                text.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
            if bytes.len() >= end + 4 + length.unwrap_or(0) {
                let status = text.get(9..12).and_then(|status| status.parse().ok());
                return status.ok_or_else(|| io::Error::other("no response of HTTP/1.1"));
            }
        }
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => bytes.extend(&buffer[..count]),
        }
    }
}

fn request_http2(stream: &mut Stream) -> io::Result<()> {
    let mut bytes = hello();
    frame(&mut bytes, HEADERS, END_STREAM | END_HEADERS, 1, &head(GET));
    stream.write_all(&bytes)?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload)?;
        let ends = head[4] & END_STREAM != 0 && head[3] <= HEADERS;
        if ends && head[8] == 1 {
            return Ok(());
        }
    }
}
