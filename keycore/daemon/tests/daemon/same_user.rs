//! What another process of the engine's own user can read of a replica: nothing, as it is not dumpable.
//!
//! Each test runs in a thread without capabilities, and so do the programs that it starts: root would be let in by
//! `CAP_SYS_PTRACE`, and a thief without capabilities kept out of a process that has some, dumpable or not.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, RawPid, Signal, kill_process, pidfd_getfd, pidfd_open,
};
use rustix::thread::{CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities};

use crate::fixture::Daemon;

/// A way to what a process knows.
type Theft = fn(u32) -> io::Result<()>;

const THEFTS: &[(&str, Theft)] = &[
    ("read its memory", |pid| {
        // What a debugger would look at first: a page of the program.
        let maps = fs::read_to_string(proc_file(pid, "maps"))?;
        let start = maps.split('-').next().and_then(|start| u64::from_str_radix(start, 16).ok());
        File::open(proc_file(pid, "mem"))?.read_exact_at(&mut [0; 16], start.unwrap())
    }),
    ("open its memory, for writing", |pid| File::options().write(true).open(proc_file(pid, "mem")).map(drop)),
    ("read its environment", |pid| fs::read(proc_file(pid, "environ")).map(drop)),
    ("see which files it has open", |pid| fs::read_link(proc_file(pid, "fd/0")).map(drop)),
    ("take a descriptor of it", |pid| {
        let process = pidfd_open(as_pid(pid), PidfdFlags::empty())?;
        Ok(pidfd_getfd(process, 0, PidfdGetfdFlags::empty()).map(drop)?)
    }),
    ("trace it", trace),
];

#[test]
fn no_process_of_the_same_user_reads_a_replica() {
    without_capabilities(|| {
        // The same attempts succeed on a process of this user that does not defend itself.
        let mut open = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let succeeding = |(what, theft): &(&str, Theft)| match theft(open.id()) {
            Ok(()) => true,
            Err(error) => {
                println!("SKIPPED: here nobody can {what}: {error}");
                assert!(std::env::var_os("HSM_TEST_REQUIRE_TOOLS").is_none(), "CI can");
                false
            }
        };
        let thefts: Vec<_> = THEFTS.iter().filter(|theft| succeeding(theft)).collect();
        end(&mut open);

        let daemon = Daemon::start("replicas = 1");
        let replica = daemon.await_replica(0, None);
        for (what, theft) in thefts {
            let kind = theft(replica).expect_err(what).kind();
            assert_eq!(kind, io::ErrorKind::PermissionDenied, "{what}");
        }
        assert_eq!(daemon.await_replica(0, None), replica, "and it goes on");
    });
}

fn without_capabilities(test: fn()) {
    let run = move || {
        // So that programs of root don't get them back; another user's have none.
        for (_, capability) in CapabilitySet::all().iter_names() {
            let _only_root_may = remove_capability_from_bounding_set(capability);
        }
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        let root = rustix::process::geteuid().is_root();
        assert!(!root || status.contains("CapBnd:\t0000000000000000\n"), "{status}");
        let none = CapabilitySet::empty();
        set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
            .unwrap();
        test();
    };
    if let Err(panic) = std::thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

fn proc_file(pid: u32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{name}"))
}

fn as_pid(pid: u32) -> Pid {
    Pid::from_raw(RawPid::try_from(pid).unwrap()).unwrap()
}

/// By strace, whose first step is the one of gcore and gdb: PTRACE_SEIZE.
fn trace(pid: u32) -> io::Result<()> {
    let mut strace = Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "-p", &pid.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let traced = format!("TracerPid:\t{}\n", strace.id());
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if fs::read_to_string(proc_file(pid, "status"))?.contains(&traced) {
            end(&mut strace);
            return Ok(());
        }
        if strace.try_wait()?.is_some() {
            let said = io::read_to_string(strace.stderr.take().unwrap())?;
            let kind = match said.contains("Operation not permitted") {
                true => io::ErrorKind::PermissionDenied,
                false => io::ErrorKind::Other,
            };
            return Err(io::Error::new(kind, said));
        }
        assert!(Instant::now() < deadline, "strace neither traces nor ends");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn end(child: &mut Child) {
    kill_process(Pid::from_child(child), Signal::KILL).unwrap();
    child.wait().unwrap();
}
