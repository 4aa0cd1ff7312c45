//! What the log says of handshakes that failed.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use crate::support::{Client, Running, Signing, config};

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Workers are threads, so it is the process's log that is read.
fn read_log() {
    static START: Once = Once::new();
    START.call_once(|| tracing_subscriber::fmt().with_ansi(false).with_writer(|| Log).init());
}

/// The line of the handshake on this connection.
fn line_about(client: std::net::SocketAddr) -> String {
    let wanted = format!("client={client} ");
    let start = Instant::now();
    loop {
        let log = String::from_utf8(LOG.lock().unwrap().clone()).unwrap();
        if let Some(line) = log.lines().find(|line| line.contains(&wanted)) {
            return line.to_owned();
        }
        assert!(start.elapsed() < Duration::from_secs(20), "no {wanted} in\n{log}");
        std::thread::sleep(Duration::from_millis(5)); // a log can't be awaited
    }
}

#[test]
fn each_failed_handshake_is_told_with_its_client_name_and_category() {
    read_log();
    let proxy = Running::start(config(&[&["a.example"]]), Signing::AtOnce);
    let failing = |client: Client, name: &str| {
        let stream = TcpStream::connect(proxy.address()).unwrap();
        let from = stream.local_addr().unwrap();
        assert!(client.connect_over(stream, name).is_err(), "{name}");
        line_about(from)
    };
    let line = failing(Client::new(&proxy), "b.example");
    assert!(line.contains("INFO") && line.contains("handshake failed"), "{line}");
    assert!(line.contains("category=\"unknown-site\"") && line.contains("sni=\"b.example\""), "{line}");
    let line = failing(Client::new(&proxy), "127.0.0.1");
    assert!(line.contains("category=\"no-sni\"") && line.contains("sni=\"-\""), "{line}");
    let line = failing(Client::new(&proxy).alpn(&["spdy/1"]), "a.example");
    assert!(line.contains("category=\"alpn\"") && line.contains("sni=\"a.example\""), "{line}");
    let line = failing(Client::new(&proxy).trusting_nobody(), "a.example");
    assert!(line.contains("category=\"client-refused\"") && line.contains("sni=\"a.example\""), "{line}");

    let mut rude = TcpStream::connect(proxy.address()).unwrap();
    rude.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
    // It may be reset, for it wrote more than was read.
    let _ = rude.read_to_end(&mut Vec::new());
    let line = line_about(rude.local_addr().unwrap());
    assert!(line.contains("category=\"not-tls\""), "{line}");

    let silent = TcpStream::connect(proxy.address()).unwrap();
    let from = silent.local_addr().unwrap();
    drop(silent);
    assert!(line_about(from).contains("category=\"client-gone\""));
}

#[test]
fn what_is_the_engines_fault_is_a_warning_and_a_silent_client_times_out() {
    read_log();
    let mut config = config(&[&["a.example"]]);
    config.timeouts.handshake = Duration::from_millis(200);
    let proxy = Running::start(config, Signing::Never);
    let stream = TcpStream::connect(proxy.address()).unwrap();
    let from = stream.local_addr().unwrap();
    assert!(Client::new(&proxy).connect_over(stream, "a.example").is_err());
    let line = line_about(from);
    assert!(line.contains("WARN") && line.contains("category=\"no-signature\""), "{line}");
    let silent = TcpStream::connect(proxy.address()).unwrap();
    assert!(line_about(silent.local_addr().unwrap()).contains("category=\"timed-out\""));
}
