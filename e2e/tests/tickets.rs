//! Session tickets across processes: their keys are the engines'.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use hsm_e2e::{Program, Stack, binary, run, tool, wait};
use rustix::process::Signal;

const PATIENCE: Duration = Duration::from_secs(20);

/// A proxy of the user web, with workers of its own.
struct Proxy {
    _program: Program,
    log: PathBuf,
    address: String,
}

fn start(stack: &Stack, directory: &Path, name: &str, tls: &str) -> Proxy {
    let log = directory.join(format!("{name}.log"));
    let configuration = format!(
        "[proxy]\nlisten = [\"127.0.0.1:0\"]\nworkers = 2\n[tls]\n{tls}\n\
         [hsm]\nengines = [{:?}, {:?}]\nuser = \"web\"\npassword-file = {:?}\n\
         [[site]]\nhost = \"localhost\"\ncert = {:?}\nto = \"http://127.0.0.1:9\"\n",
        stack.engine_socket(0),
        stack.engine_socket(1),
        stack.password_file("web"),
        stack.state_dir().join("localhost.pem"),
    );
    let file = directory.join(format!("{name}.toml"));
    fs::write(&file, configuration).unwrap();
    let mut command = Command::new(binary("hsm-proxy"));
    command.args(["run", "--config"]).arg(&file).stdin(Stdio::null()).stderr(fs::File::create(&log).unwrap());
    let program = Program::start(&mut command);
    let address = wait::until("the proxy serves", PATIENCE, || {
        let log = fs::read_to_string(&log).unwrap();
        let (_, rest) = log.split_once("serving address=")?;
        Some(rest.split_once(' ')?.0.to_owned())
    });
    Proxy { _program: program, log, address }
}

/// Whether openssl resumes the session in the file, or after that keeps a new one there.
fn resumes(openssl: &Path, proxy: &Proxy, session: &Path) -> bool {
    let mut command = Command::new(openssl);
    command.args(["s_client", "-connect", &proxy.address, "-servername", "localhost", "-tls1_2"]);
    if session.exists() {
        command.arg("-sess_in").arg(session);
    }
    command.arg("-sess_out").arg(session).stdin(Stdio::null());
    let said = run(&mut command).stdout;
    let (new, reused) = (said.contains("New, TLSv1.2"), said.contains("Reused, TLSv1.2"));
    assert!(new != reused, "{said}\n{}", fs::read_to_string(&proxy.log).unwrap());
    reused
}

/// How many keys of tickets the user web has.
fn ticket_keys(stack: &Stack) -> usize {
    let listed = run(stack.hsm_as("web").args(["--output", "json", "key", "list"])).success();
    listed.matches("\"hsm-proxy-tickets-").count()
}

#[test]
fn a_session_resumes_on_another_proxy_and_after_a_restart() {
    let Some(openssl) = tool::find("openssl") else { return };
    let (stack, directory) = (Stack::start(), tempfile::tempdir().unwrap());
    // Both at once: they find each other's keys.
    let first = start(&stack, directory.path(), "first", "");
    let second = start(&stack, directory.path(), "second", "");
    let kept = directory.path().join("session");
    // A proxy may just be on its way to the keys.
    wait::until("a session that another proxy resumes", PATIENCE, || {
        let _ = fs::remove_file(&kept);
        assert!(!resumes(&openssl, &first, &kept));
        resumes(&openssl, &second, &kept).then_some(())
    });
    assert_eq!(ticket_keys(&stack), 2, "of this period and the next");
    drop((first, second));
    let third = start(&stack, directory.path(), "third", "");
    wait::until("the session resumes after the restart", PATIENCE, || {
        let copy = directory.path().join("copy");
        fs::copy(&kept, &copy).unwrap();
        resumes(&openssl, &third, &copy).then_some(())
    });
    assert_eq!(ticket_keys(&stack), 2, "no further keys");
}

#[test]
fn sessions_of_a_process_with_keys_of_its_own_resume_nowhere_else() {
    let Some(openssl) = tool::find("openssl") else { return };
    let (stack, directory) = (Stack::start(), tempfile::tempdir().unwrap());
    let own = "ticket-keys = \"process\"";
    let first = start(&stack, directory.path(), "first", own);
    let second = start(&stack, directory.path(), "second", own);
    let kept = directory.path().join("session");
    assert!(!resumes(&openssl, &first, &kept));
    assert!(resumes(&openssl, &first, &kept));
    assert!(!resumes(&openssl, &second, &kept));
}

#[test]
fn sessions_resume_while_no_engine_answers() {
    let Some(openssl) = tool::find("openssl") else { return };
    let (stack, directory) = (Stack::start(), tempfile::tempdir().unwrap());
    let proxy = start(&stack, directory.path(), "proxy", "");
    let kept = directory.path().join("session");
    assert!(!resumes(&openssl, &proxy, &kept));
    for replica in 0..2 {
        stack.signal_engine(replica, Signal::STOP);
    }
    assert!(resumes(&openssl, &proxy, &kept));
    for replica in 0..2 {
        stack.signal_engine(replica, Signal::CONT);
    }
}
