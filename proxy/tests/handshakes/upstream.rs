//! A web server that does not answer as it should.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex};

use crate::support::PATIENCE;

/// What each connection gets.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    /// Nothing, while all that comes is read.
    Never,
    /// A response that does not end.
    Forever,
}

/// Listens until it is dropped.
pub(crate) struct Upstream {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    stop: AtomicBool,
    counts: Mutex<Counts>,
    changed: Condvar,
    sent: AtomicU64,
}

/// Connections so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) begun: usize,
    /// Those that the proxy has reset.
    pub(crate) reset: usize,
}

impl Upstream {
    pub(crate) fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, state) = (listener.local_addr().unwrap(), Arc::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if shared.stop.load(Relaxed) {
                    return;
                }
                shared.count(|counts| counts.begun += 1);
                let shared = Arc::clone(&shared);
                // An error is the proxy's end of the connection.
                std::thread::spawn(move || {
                    let ended = serve(stream, answer, &shared);
                    if ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset) {
                        shared.count(|counts| counts.reset += 1);
                    }
                });
            }
        });
        Self { address, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.state.counts.lock().unwrap().begun
    }

    /// Waits until it has had such connections.
    pub(crate) fn wait_for(&self, is_so: impl Fn(&Counts) -> bool) {
        let counts = self.state.counts.lock().unwrap();
        let waited = self.state.changed.wait_timeout_while(counts, PATIENCE, |counts| !is_so(counts));
        let (counts, waited) = waited.unwrap();
        assert!(!waited.timed_out(), "{counts:?}");
    }

    /// Bytes of all responses that the kernel has taken.
    pub(crate) fn sent(&self) -> u64 {
        self.state.sent.load(Relaxed)
    }
}

impl State {
    fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock().unwrap());
        self.changed.notify_all();
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.state.stop.store(true, Relaxed);
        drop(TcpStream::connect(self.address));
    }
}

fn serve(mut stream: TcpStream, answer: Answer, state: &State) -> std::io::Result<()> {
    let mut buffer = [0; 64 * 1024];
    match answer {
        Answer::Never => {
            while stream.read(&mut buffer)? > 0 {}
            Ok(())
        }
        Answer::Forever => {
            let _request = stream.read(&mut buffer)?;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")?;
            loop {
                state.sent.fetch_add(stream.write(&buffer)? as u64, Relaxed);
            }
        }
    }
}
