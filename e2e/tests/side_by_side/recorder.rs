use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// An upstream that notes each request that it was sent: its line, and the bytes of its body.
pub(crate) struct Recorder {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let noted = Arc::clone(&seen);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let noted = Arc::clone(&noted);
                std::thread::spawn(move || {
                    let _front_gone = serve(&stream, &noted);
                });
            }
        });
        Self { address, seen }
    }

    /// What came since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Answers with an empty body, so that no body can be taken for a response; `/range` and `/early` in a way of their own.
fn serve(stream: &TcpStream, noted: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    loop {
        let mut head = Vec::new();
        loop {
            let start = head.len();
            if reader.read_until(b'\n', &mut head)? == 0 {
                return Ok(());
            }
            if head[start..] == *b"\r\n" || head[start..] == *b"\n" {
                break;
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let line = head.lines().next().unwrap_or_default().to_owned();
        if field(&head, "expect").is_some() {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let body = body(&head, &mut reader)?;
        // Whole requests only, and before the answer: so whoever has the answer finds the note.
        noted.lock().unwrap_or_else(PoisonError::into_inner).push(note(&head, &line, body));
        let path = line.split(' ').nth(1).unwrap_or_default();
        writer.write_all(match path {
            "/range" if field(&head, "range").is_some() => {
                b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-0/2\r\nContent-Length: 1\r\n\r\nx"
            }
            "/early" => b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "/head" => b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            "/trailers" => {
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n1\r\nx\r\n0\r\nX: y\r\n\r\n"
            }
            _ => b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        })?;
    }
}

/// Method, target, the body's length, and the fields that some cases are about. Long targets are cut.
fn note(head: &str, line: &str, body: u64) -> String {
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let target: String = target.chars().take(24).map(|c| if c.is_ascii() { c } else { '?' }).collect();
    let mut note = format!("{method} {target}");
    if body > 0 {
        note.push_str(&format!(" +{body} B"));
    }
    for shown in [
        "transfer-encoding",
        "upgrade",
        "x_under",
        "x-dup",
        "x-empty",
        "x-forwarded-for",
        "te",
        "x-nul",
        "proxy",
    ] {
        for value in fields(head, shown) {
            let value = if value.contains("6.6.6.6") { "forged" } else { value };
            if shown != "x-forwarded-for" || value == "forged" {
                note.push_str(&format!(" {shown}={value}"));
            }
        }
    }
    note
}

fn fields<'a>(head: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    head.lines().filter_map(move |line| {
        let (found, value) = line.split_once(':')?;
        found.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn field<'a>(head: &'a str, name: &'a str) -> Option<&'a str> {
    fields(head, name).next()
}

/// Reads a body, chunks first (RFC 9112, section 6.3); its length.
fn body(head: &str, reader: &mut impl BufRead) -> std::io::Result<u64> {
    if field(head, "transfer-encoding").is_none() {
        let length = field(head, "content-length").and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
        return exactly(length, reader);
    }
    let mut total = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let size = u64::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16).unwrap_or(0);
        if size == 0 {
            while line != "\r\n" {
                line.clear();
                if reader.read_line(&mut line)? == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
            }
            return Ok(total);
        }
        total += exactly(size, reader)?;
        exactly(2, reader)?;
    }
}

fn exactly(length: u64, reader: &mut impl BufRead) -> std::io::Result<u64> {
    let taken = std::io::copy(&mut reader.take(length), &mut std::io::sink())?;
    if taken == length { Ok(length) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}
