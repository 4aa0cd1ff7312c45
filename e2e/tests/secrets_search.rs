//! Where a key and a password are, and above all where they are not: memory of every process, store, log, core dump.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::Command;
use std::time::Duration;

use hsm_e2e::needle::{Needle, forms};
use hsm_e2e::{SelfMadeKey, Stack, binary, files, memory, run, tool, wait};
use rustix::process::Signal;

/// A process that is searched.
struct Searched {
    name: &'static str,
    pid: i32,
}

/// Where any of the needles are in memory; none if this user may not look.
fn in_memory(processes: &[Searched], needles: &[Needle]) -> Option<Vec<String>> {
    let mut hits = Vec::new();
    for Searched { name, pid } in processes {
        for needle in needles {
            match memory::occurrences(*pid, &needle.bytes) {
                Ok(0) => {}
                Ok(count) => hits.push(format!("{name}: {}, {count} times", needle.what)),
                Err(error) => {
                    println!("SKIPPED: this user may not read the memory of {name}: {error}");
                    assert!(std::env::var_os("HSM_TEST_REQUIRE_TOOLS").is_none(), "CI may");
                    return None;
                }
            }
        }
    }
    Some(hits)
}

#[test]
fn keys_are_in_the_engines_alone_and_passwords_in_no_engine_and_neither_in_any_file() {
    let Some(openssl) = tool::find("openssl") else { return };
    let outside = tempfile::tempdir().unwrap();
    let key = SelfMadeKey::generate(&openssl, outside.path());
    let stack = Stack::start();
    let secrets = stack.state_dir().join("secrets");
    let import = ["key", "import", "--label", "self-made", "--file"];
    run(stack.hsm_as("web").args(import).arg(&key.pem)).success();
    for _ in 0..4 {
        let sign = ["crypto", "sign", "--key", "self-made", "--data-file", "/dev/null"];
        run(stack.hsm_as("web").args(sign)).success();
    }
    // Handshakes until the end, so that the proxy and the load generator are searched at work.
    let load = hsm_e2e::Program::start(
        Command::new(binary("hsm-loadtest"))
            .args(["handshakes", "--count", "10000000", "--concurrency", "4", "--connect"])
            .arg(stack.address().to_string())
            .arg("--ca")
            .arg(stack.ca())
            .stdout(std::process::Stdio::null()),
    );

    let supervisor = std::fs::read_to_string(stack.state_dir().join("run/supervisor.pid")).unwrap();
    let engines = [0, 1].map(|replica| Searched { name: "an engine", pid: stack.engine_pid(replica) });
    let others = [
        Searched { name: "the proxy", pid: stack.proxy_pid() },
        Searched { name: "the supervisor", pid: supervisor.trim().parse().unwrap() },
        Searched { name: "the load generator", pid: load.pid().as_raw_nonzero().get() },
    ];
    let scalar = forms("the key", &key.scalar);
    let password = std::fs::read_to_string(stack.password_file("web")).unwrap();
    let password = forms("the password", password.trim_end().as_bytes());
    let unseal = std::fs::read(secrets.join("unseal")).unwrap();
    let unseal = forms("the unseal secret", unseal.trim_ascii_end());

    let none: [String; 0] = [];
    let Some(hits) = in_memory(&others, &scalar) else { return };
    assert_eq!(hits, none);
    assert_eq!(in_memory(&others, &unseal).unwrap(), none);
    assert_eq!(in_memory(&engines, &password).unwrap(), none);
    for needles in [&scalar, &password, &unseal] {
        assert_eq!(files::hits(stack.state_dir(), Some(&secrets), needles), none);
    }

    // A crash leaves nothing either.
    let crashed = stack.signal_engine(1, Signal::ABORT);
    wait::until("the crashed engine is replaced", Duration::from_secs(20), || {
        (!wait::is_running(crashed) && stack.engine_pid(1) != crashed).then_some(())
    });
    for needles in [&scalar, &password, &unseal] {
        assert_eq!(files::hits(stack.state_dir(), Some(&secrets), needles), none, "after a crash");
    }

    // The searches find what is there: the key where it belongs, and everything that is planted, in every form.
    assert!(!in_memory(&engines[..1], &scalar).unwrap().is_empty(), "the engine that signed has the key");
    for needles in [&scalar, &password, &unseal] {
        for needle in needles {
            let planted = stack.state_dir().join("engine/planted");
            std::fs::write(&planted, [b"before ", &needle.bytes[..], b" after"].concat()).unwrap();
            assert!(
                !files::hits(stack.state_dir(), Some(&secrets), needles).is_empty(),
                "{} is not found",
                needle.what
            );
            std::fs::remove_file(&planted).unwrap();
        }
    }
    let planted: Vec<u8> = scalar.iter().flat_map(|needle| needle.bytes.clone()).collect();
    let this = [Searched { name: "this test", pid: i32::try_from(std::process::id()).unwrap() }];
    assert!(in_memory(&this, &scalar).unwrap().len() >= scalar.len(), "{} bytes", planted.len());
}
