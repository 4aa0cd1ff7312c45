//! HTTP/2 frame by frame, as no library would send it.

use std::io::{self, Read, Write};
use std::time::Duration;

use crate::support::{Client, Connection, Running};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// One frame (RFC 9113, section 4.1).
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The head of a request, in HPACK without its tables (RFC 7541): `:scheme: https`, `:path: /`.
pub(crate) fn head(method: &str, authority: &str) -> Vec<u8> {
    let mut block = vec![0x87, 0x84];
    for (name, value) in [(2, method), (1, authority)] {
        block.extend([name, u8::try_from(value.len()).unwrap()]);
        block.extend(value.as_bytes());
    }
    block
}

/// A whole GET.
pub(crate) fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &head("GET", "a.example"))
}

/// The head of a POST, whose body is to come.
pub(crate) fn post(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &head("POST", "a.example"))
}

/// A frame that came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// A client whose frames are what the test says.
pub(crate) struct Raw {
    connection: Connection,
}

/// How a connection ended.
#[derive(Debug, Default)]
pub(crate) struct End {
    /// Code and text of the last `GOAWAY`.
    pub(crate) go_away: Option<(u32, String)>,
    pub(crate) frames: Vec<Frame>,
}

impl Raw {
    /// Connects to `a.example`, with these settings.
    pub(crate) fn connect(proxy: &Running, settings: &[u8]) -> Self {
        let mut connection = Client::new(proxy).alpn(&["h2"]).connect("a.example").unwrap();
        connection.stream().sock.set_nodelay(true).unwrap();
        let mut raw = Self { connection };
        let hello = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, settings)].concat();
        raw.send(&hello).unwrap();
        // The server's settings, so that what follows is read apart.
        assert_eq!(raw.receive().unwrap().kind, SETTINGS);
        raw.send(&frame(SETTINGS, ACK, 0, &[])).unwrap();
        raw
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stream = self.connection.stream();
        stream.sock.set_write_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(bytes)
    }

    /// Reads until there is a frame of this kind; `false` if the connection ends before.
    pub(crate) fn hears(&mut self, kind: u8) -> bool {
        loop {
            match self.receive() {
                Ok(frame) if frame.kind == kind => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    }

    pub(crate) fn receive(&mut self) -> io::Result<Frame> {
        let mut head = [0; 9];
        let stream = self.connection.stream();
        stream.read_exact(&mut head)?;
        let [a, b, c, kind, _flags, id @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload)?;
        Ok(Frame { kind, stream: u32::from_be_bytes(id), payload })
    }

    /// Reads what there is until the server closes.
    pub(crate) fn end(mut self) -> End {
        let mut end = End::default();
        loop {
            match self.receive() {
                Ok(frame) => {
                    if frame.kind == GOAWAY {
                        let code = u32::from_be_bytes(frame.payload[4..8].try_into().unwrap());
                        end.go_away = Some((code, String::from_utf8_lossy(&frame.payload[8..]).into_owned()));
                    }
                    end.frames.push(frame);
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    panic!("the connection stays open");
                }
                Err(_) => return end,
            }
        }
    }
}
