//! Each case is a process of its own, this very test program, which confines itself and then tries something.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;

use super::*;

const ATTEMPT: &str = "HSM_ENGINE_SANDBOX_ATTEMPT";
const STATE: &str = "HSM_ENGINE_SANDBOX_STATE";

/// What became of an attempt.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Succeeds,
    Fails,
    /// By SIGSYS.
    IsDeadly,
}

/// Tries something that begins at the state directory.
type Attempt = fn(&Path) -> io::Result<()>;

/// What an intruder would try, and what the engine does.
const ATTEMPTS: &[(&str, Outcome, Attempt)] = &[
    ("write a file of the state directory", Outcome::Succeeds, |state| fs::write(state.join("a"), "x")),
    ("read it, rename it, remove it", Outcome::Succeeds, |state| {
        fs::write(state.join("b"), "x")?;
        fs::rename(state.join("b"), state.join("c"))?;
        fs::read(state.join("c"))?;
        fs::remove_file(state.join("c"))
    }),
    ("start a thread", Outcome::Succeeds, |_| {
        std::thread::Builder::new().spawn(|| ())?.join().map_err(|_| io::Error::other("it panicked"))
    }),
    ("lock memory", Outcome::Succeeds, |_| {
        keycore_secmem::SecretBytes::zeroed(32).map(drop).map_err(io::Error::other)
    }),
    ("read the passwords of the system", Outcome::Fails, |_| fs::read("/etc/passwd").map(drop)),
    ("read another process's memory", Outcome::Fails, |_| fs::File::open("/proc/1/mem").map(drop)),
    ("list the parent of the state directory", Outcome::Fails, |state| {
        fs::read_dir(state.join("..")).map(drop)
    }),
    ("write beside the state directory", Outcome::Fails, |state| fs::write(state.join("../d"), "x")),
    ("start a process", Outcome::Fails, |_| Command::new("/bin/true").status().map(drop)),
    ("become another program", Outcome::IsDeadly, |_| Err(Command::new("/bin/true").exec())),
    ("connect over TCP", Outcome::IsDeadly, |_| TcpStream::connect("127.0.0.1:9").map(drop)),
    ("listen on TCP", Outcome::IsDeadly, |_| TcpListener::bind("127.0.0.1:0").map(drop)),
    ("connect to another Unix socket", Outcome::IsDeadly, |_| UnixStream::connect("/run/x").map(drop)),
];

/// Not a test by itself: confines this process and makes the attempt that the environment names.
#[test]
fn attempt() {
    let (Ok(number), Ok(state)) = (std::env::var(ATTEMPT), std::env::var(STATE)) else { return };
    let state = Path::new(&state);
    files::confine(&Needs { write: vec![state.to_owned()], read: Vec::new(), port: None }).unwrap();
    syscalls::confine().unwrap();
    let (_, _, attempt) = ATTEMPTS[number.parse::<usize>().unwrap()];
    std::process::exit(if attempt(state).is_ok() { 0 } else { 1 });
}

#[test]
fn what_is_needed_works_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    fs::create_dir(&state).unwrap();
    for (number, (what, expected, _)) in ATTEMPTS.iter().enumerate() {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sandbox::tests::attempt", "--nocapture"])
            .env(ATTEMPT, number.to_string())
            .env(STATE, &state)
            .output()
            .unwrap();
        let outcome = match (status.status.code(), status.status.signal()) {
            (Some(0), _) => Outcome::Succeeds,
            (Some(1), _) => Outcome::Fails,
            (_, Some(libc::SIGSYS)) => Outcome::IsDeadly,
            _ => panic!("{what}: {status:?}"),
        };
        assert_eq!(&outcome, expected, "{what}: {}", String::from_utf8_lossy(&status.stderr));
    }
}

#[test]
fn what_a_replica_needs_follows_the_configuration() {
    let config = Config::parse("state-dir = '/a'\nsocket-dir = '/b'\nunseal-file = '/c/unseal'").unwrap();
    let needs = Needs::of(&config, 0);
    assert_eq!(needs.write, [Path::new("/a"), Path::new("/b")]);
    assert_eq!(needs.read, [Path::new("/c/unseal"), Path::new("/dev/urandom")]);
    assert_eq!(needs.port, None);
    let config = Config::parse("replicas = 2\nlisten-tcp = ['[::]:2223', '[::]:2224']").unwrap();
    assert_eq!([0, 1].map(|index| Needs::of(&config, index).port), [Some(2223), Some(2224)]);
}

#[test]
fn a_gap_is_fatal_where_the_sandbox_is_required() {
    let gap = || Err(Gap::Unsupported);
    assert!(judge(Sandbox::BestEffort, "landlock", gap()).is_ok());
    let error = judge(Sandbox::Required, "landlock", gap()).unwrap_err().to_string();
    assert!(error.contains("landlock") && error.contains("sandbox"), "{error}");
}
