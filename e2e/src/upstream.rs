//! A small upstream web server in the test's own process: takes any body, gives bodies of any size.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Answers `GET /` with its page, if it has one, `GET /bytes/N` with N bytes, `POST` with the number of bytes it took, anything
/// else with the request's head as it arrived.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    requests: Arc<AtomicUsize>,
}

impl Upstream {
    /// Starts on a free port.
    ///
    /// # Panics
    ///
    /// If no port can be bound.
    pub fn start() -> Self {
        Self::with_page("")
    }

    /// The same with a page in HTML; none if it is empty.
    ///
    /// # Panics
    ///
    /// If no port can be bound.
    pub fn with_page(page: &'static str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let stopped = Arc::new(AtomicBool::new(false));
        let requests = Arc::new(AtomicUsize::new(0));
        let (flag, counter) = (Arc::clone(&stopped), Arc::clone(&requests));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if flag.load(Ordering::Relaxed) {
                    return;
                }
                let counter = Arc::clone(&counter);
                std::thread::spawn(move || {
                    let _client_gone = serve(&stream, &counter, page);
                });
            }
        });
        Self { address, stopped, requests }
    }

    /// Its URL without a trailing slash.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests it was asked.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        let _woken = TcpStream::connect(self.address);
    }
}

fn serve(stream: &TcpStream, requests: &AtomicUsize, page: &str) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(256 * 1024, stream);
    let mut writer = stream;
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        requests.fetch_add(1, Ordering::Relaxed);
        let taken = take_body(&head, &mut reader)?;
        let target = head.split(' ').nth(1).unwrap_or_default();
        if let Some(length) = target.strip_prefix("/bytes/").and_then(|digits| digits.parse::<u64>().ok()) {
            write!(writer, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n")?;
            std::io::copy(&mut std::io::repeat(b'x').take(length), &mut writer)?;
        } else if target == "/" && !page.is_empty() {
            let kind = "content-type: text/html; charset=utf-8";
            write!(writer, "HTTP/1.1 200 OK\r\n{kind}\r\ncontent-length: {}\r\n\r\n{page}", page.len())?;
        } else {
            let body = if head.starts_with("POST") { format!("took {taken} bytes\n") } else { head };
            write!(writer, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())?;
        }
    }
}

fn take_body(head: &str, reader: &mut impl BufRead) -> std::io::Result<u64> {
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    if let Some(length) = header("content-length").and_then(|value| value.parse::<u64>().ok()) {
        return std::io::copy(&mut reader.take(length), &mut std::io::sink());
    }
    if header("transfer-encoding").is_none() {
        return Ok(0);
    }
    let mut total = 0;
    loop {
        let mut size = String::new();
        reader.read_line(&mut size)?;
        let size = u64::from_str_radix(size.trim(), 16).unwrap_or(0);
        total += std::io::copy(&mut reader.take(size), &mut std::io::sink())?;
        let mut end = String::new();
        reader.read_line(&mut end)?;
        if size == 0 {
            return Ok(total);
        }
    }
}
