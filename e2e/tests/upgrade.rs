//! Another process takes the proxy's place, and clients don't notice.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use hsm_e2e::front::{configuration, replace};
use hsm_e2e::{Front, Stack, Upstream, binary, tool, wait};
use rustix::process::{Pid, Signal, kill_process};
use rustls_pki_types::pem::PemObject;

/// Clients that come again and again, each time with a handshake.
struct Load {
    done: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    clients: Vec<std::thread::JoinHandle<Result<(), String>>>,
}

impl Load {
    fn start(address: SocketAddr, ca: &Path) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(rustls_pki_types::CertificateDer::from_pem_file(ca).unwrap()).unwrap();
        let config =
            Arc::new(rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());
        let (done, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let clients = (0..4).map(|_| {
            let (config, done, served) = (Arc::clone(&config), Arc::clone(&done), Arc::clone(&served));
            std::thread::spawn(move || {
                while !done.load(Relaxed) {
                    get(address, &config).map_err(|error| error.to_string())?;
                    served.fetch_add(1, Relaxed);
                }
                Ok(())
            })
        });
        let clients = clients.collect();
        Self { done, served, clients }
    }

    fn go_on(&self) {
        let enough = self.served.load(Relaxed) + 40;
        wait::until("clients are served", Duration::from_secs(30), || {
            (self.served.load(Relaxed) >= enough
                || self.clients.iter().any(std::thread::JoinHandle::is_finished))
            .then_some(())
        });
    }

    fn end(self) {
        self.done.store(true, Relaxed);
        for client in self.clients {
            assert_eq!(client.join().unwrap(), Ok(()));
        }
    }
}

fn get(address: SocketAddr, config: &Arc<rustls::ClientConfig>) -> std::io::Result<()> {
    let tls = rustls::ClientConnection::new(Arc::clone(config), "localhost".try_into().unwrap()).unwrap();
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut stream = rustls::StreamOwned::new(tls, socket);
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(std::io::Error::other(answer)) }
}

/// The process that took over, as the service manager hears of it.
fn successor(front: &Front) -> i32 {
    let told = front.told();
    let pid = told.strip_prefix("MAINPID=").and_then(|rest| rest.strip_suffix("\nREADY=1"));
    pid.and_then(|pid| pid.parse().ok()).unwrap_or_else(|| panic!("{told}"))
}

/// Ends a process that is not our child when it is dropped.
struct Orphan(i32);

impl Orphan {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.0).unwrap(), signal).unwrap();
    }

    fn gone(&self) {
        wait::until("the process ends", Duration::from_secs(30), || {
            (!wait::is_running(self.0)).then_some(())
        });
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        let _gone = kill_process(Pid::from_raw(self.0).unwrap(), Signal::KILL);
    }
}

#[test]
fn another_process_takes_over_under_load_and_one_that_fails_does_not() {
    let (stack, directory, upstream) = (Stack::start(), tempfile::tempdir().unwrap(), Upstream::start());
    let mut front = Front::start(&stack, directory.path(), &upstream.url());
    let load = Load::start(front.address, &stack.ca());
    load.go_on();

    front.program().signal(Signal::USR2);
    let second = Orphan(successor(&front));
    assert_eq!(front.program().wait(Duration::from_secs(30)), Some(0), "the first one has drained");
    load.go_on();

    // One that can't start: the second goes on.
    let good = configuration(&stack, &front.certificate, front.address, &upstream.url());
    replace(&front.file, good.replace("localhost.pem", "missing.pem"));
    second.signal(Signal::USR2);
    let told = front.reloaded(); // the second one sees the file, too
    assert!(told.contains("missing.pem"), "{told}");
    load.go_on();
    assert!(wait::is_running(second.0));

    replace(&front.file, good);
    assert_eq!(front.reloaded(), "READY=1\nSTATUS=reloaded");
    second.signal(Signal::USR2);
    let third = Orphan(successor(&front));
    second.gone();
    load.go_on();
    load.end();
    third.signal(Signal::TERM);
    assert_eq!(front.told(), "STOPPING=1");
    third.gone();
    assert!(TcpStream::connect(front.address).is_err(), "nobody listens any more");
}

/// The child process that a process has started and that runs.
fn child_of(parent: i32) -> Option<i32> {
    let processes =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    processes.filter_map(|name| name.parse().ok()).find(|pid: &i32| {
        // proc_pid_stat(5): the parent is the second field after the name, which is in parentheses.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(") ").map(|(_, fields)| fields.split(' '));
        fields.and_then(|mut fields| fields.nth(1)?.parse().ok()) == Some(parent)
    })
}

#[test]
fn whoever_ends_the_proxy_ends_the_one_that_is_about_to_take_over() {
    let (stack, directory, upstream) = (Stack::start(), tempfile::tempdir().unwrap(), Upstream::start());
    let mut front = Front::start(&stack, directory.path(), &upstream.url());
    // It takes over once an engine can sign.
    for replica in [0, 1] {
        stack.signal_engine(replica, Signal::STOP);
    }
    front.program().signal(Signal::USR2);
    let pid = front.program().pid().as_raw_nonzero().get();
    let second = wait::until("another process is started", Duration::from_secs(30), || child_of(pid));
    let second = Orphan(second);
    front.program().signal(Signal::TERM);
    assert_eq!(front.told(), "STOPPING=1");
    for replica in [0, 1] {
        stack.signal_engine(replica, Signal::CONT);
    }
    assert_eq!(front.program().wait(Duration::from_secs(30)), Some(0), "it has drained");
    second.gone();
    assert!(TcpStream::connect(front.address).is_err(), "nobody listens any more");
}

#[test]
fn a_service_manager_may_hold_the_socket() {
    let Some(curl) = tool::find("curl") else { return };
    let (stack, directory, upstream) = (Stack::start(), tempfile::tempdir().unwrap(), Upstream::start());
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    // As sd_listen_fds(3) wants it: descriptor 3, and the process's own id.
    let mut command = Command::new("sh");
    command.args(["-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\" 3<&0 0</dev/null"]);
    command.arg(binary("hsm-proxy")).stdin(OwnedFd::from(listener.try_clone().unwrap()));
    let mut front = Front::start_by(command, address, &stack, directory.path(), &upstream.url());
    front.get(&stack, &curl);

    // While it is away, clients wait in the kernel.
    front.program().signal(Signal::TERM);
    assert_eq!(front.program().wait(Duration::from_secs(30)), Some(0));
    assert!(TcpStream::connect(address).is_ok());
    drop(listener);
}
