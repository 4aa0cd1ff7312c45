//! A web server that does not answer as it should.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

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
    connections: AtomicUsize,
    sent: AtomicU64,
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
                shared.connections.fetch_add(1, Relaxed);
                let shared = Arc::clone(&shared);
                // An error is the proxy's end of the connection.
                std::thread::spawn(move || serve(stream, answer, &shared));
            }
        });
        Self { address, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Relaxed)
    }

    /// Bytes of all responses that the kernel has taken.
    pub(crate) fn sent(&self) -> u64 {
        self.state.sent.load(Relaxed)
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
