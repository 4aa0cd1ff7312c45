//! Programs from the system that tests speak to.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::error::Error;
use crate::process::{find, run};

/// A program, who brings it, and what isn't tested without it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    /// Debian's and Ubuntu's package.
    package: &'static str,
    pub(crate) tests: &'static str,
}

/// All that any test asks for.
pub(crate) const TOOLS: [Tool; 14] = [
    Tool {
        program: "curl",
        package: "curl",
        tests: "HTTP/1.1 and HTTP/2 through a stock client, failover, streaming",
    },
    Tool {
        program: "openssl",
        package: "openssl",
        tests: "certificates before a foreign verifier, TLS before a foreign client, the search for keys",
    },
    Tool { program: "gnutls-cli", package: "gnutls-bin", tests: "TLS before another foreign client" },
    Tool { program: "nginx", package: "nginx", tests: "a real upstream" },
    Tool { program: "haproxy", package: "haproxy", tests: "the comparison in docs/http-behaviour.md" },
    Tool { program: "h2load", package: "nghttp2-client", tests: "HTTP/2 load by a foreign client" },
    Tool { program: "wrk", package: "wrk", tests: "HTTP/1.1 load by a foreign client" },
    Tool { program: "chromium", package: "chromium", tests: "the status page in a browser" },
    Tool { program: "systemd-analyze", package: "systemd", tests: "how exposed the units are" },
    Tool { program: "strace", package: "strace", tests: "power cuts at every write and sync" },
    Tool { program: "age", package: "age", tests: "backups before age's reference implementation" },
    Tool { program: "pebble", package: "pebble", tests: "certificates by ACME" },
    Tool { program: "pebble-challtestsrv", package: "pebble", tests: "the names that they are for" },
    Tool { program: "age-keygen", package: "age", tests: "its identities, read here" },
];

/// Modules of Python that tests import, those of one test together: it needs a Python that has all of them.
const PYTHON_MODULES: [&[(&str, Tool)]; 2] = [
    &[
        ("requests", python_tool("python3-requests", "HTTP/1.1 by a client in Python")),
        ("httpx", python_tool("python3-httpx", "HTTP/2 by a client in Python")),
        ("h2", python_tool("python3-h2", "HTTP/2 by a client in Python")),
    ],
    &[("grpc", python_tool("python3-grpcio", "gRPC by its own library"))],
];

/// The system's own, for which packages bring modules.
const SYSTEM_PYTHON: &str = "/usr/bin/python3";

const fn python_tool(package: &'static str, tests: &'static str) -> Tool {
    Tool { program: package, package, tests }
}

/// Those that are not installed.
pub(crate) fn missing() -> Vec<Tool> {
    let programs = TOOLS.into_iter().filter(|tool| find(tool.program).is_none());
    let modules = PYTHON_MODULES.into_iter().flat_map(|of_a_test| {
        let all: Vec<_> = of_a_test.iter().map(|(module, _)| *module).collect();
        let is_there = ["python3", SYSTEM_PYTHON].into_iter().any(|python| can_import(python, &all));
        let missing = move |module: &str| !is_there && !can_import(SYSTEM_PYTHON, &[module]);
        of_a_test.iter().filter(move |(module, _)| missing(module)).map(|(_, tool)| *tool)
    });
    programs.chain(modules).collect()
}

fn can_import(python: &str, modules: &[&str]) -> bool {
    let mut command = Command::new(python);
    command.args(["-c", &format!("import {}", modules.join(", "))]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// testssl.sh, which only `cargo xtask scan` asks for.
pub(crate) fn testssl() -> Result<PathBuf, Error> {
    let found = || find("testssl").or_else(|| find("testssl.sh"));
    found_or_installed(found, "testssl.sh")
}

/// valgrind, which only `cargo xtask bench instructions` asks for.
pub(crate) fn valgrind() -> Result<PathBuf, Error> {
    found_or_installed(|| find("valgrind"), "valgrind")
}

/// What a load of everything takes from the system.
pub(crate) fn for_load() -> Result<(), Error> {
    const PROGRAMS: [&str; 4] = ["nginx", "wrk", "h2load", "openssl"];

    let mut tools = TOOLS.into_iter().filter(|tool| PROGRAMS.contains(&tool.program));
    tools.try_for_each(|tool| found_or_installed(|| find(tool.program), tool.package).map(drop))
}

/// What is looked for; it is installed as the tests' tools are.
fn found_or_installed(found: impl Fn() -> Option<PathBuf>, package: &'static str) -> Result<PathBuf, Error> {
    if found().is_none() && may_install() {
        println!("xtask: installing {package}");
        install(&[package])?;
    }
    found().ok_or(Error::MissingTool(package))
}

/// Whether what is missing can be installed without a question.
fn may_install() -> bool {
    rustix::process::geteuid().is_root() && find("apt-get").is_some()
}

/// Installs what is missing where that needs no question: as root, with apt. Gives what is still missing.
pub(crate) fn provide() -> Vec<Tool> {
    let missing = missing();
    if missing.is_empty() || !may_install() {
        return missing;
    }
    let packages: Vec<_> = missing.iter().map(|tool| tool.package).collect();
    println!("xtask: installing {} for the tests", packages.join(", "));
    if let Err(error) = install(&packages) {
        println!("xtask: {error}");
    }
    self::missing()
}

fn install(packages: &[&str]) -> Result<(), Error> {
    run(apt_get(&["update", "-qq"]), "apt-get update")?;
    let mut command = apt_get(&["install", "-qq", "--yes", "--no-install-recommends"]);
    command.args(packages);
    run(command, "apt-get install")
}

fn apt_get(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// Parts of every system, or this workspace's own.
    const GIVEN: [&str; 6] = ["sh", "sleep", "false", "timeout", "unshare", "cargo"];

    #[test]
    fn whatever_the_tests_look_for_is_known_here() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut looked_for = BTreeSet::new();
        for member in ["e2e", "keycore", "proxy", "certs", "loadtest"] {
            add_programs(&root.join(member), &mut looked_for);
        }
        for expected in ["age", "openssl", "strace", "wrk"] {
            assert!(
                looked_for.contains(expected),
                "the tests moved: {expected} is not found in {looked_for:?}"
            );
        }
        for program in looked_for {
            let known = TOOLS.iter().any(|tool| tool.program == program) || GIVEN.contains(&&*program);
            assert!(known, "{program} is missing in TOOLS");
        }
    }

    /// Adds what sources name as a program to run or to look for. Paths are not looked for.
    fn add_programs(directory: &Path, to: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                add_programs(&path, to);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(path).unwrap();
                for call in ["tool::find(\"", "Command::new(\""] {
                    let named = text.split(call).skip(1).filter_map(|rest| rest.split('"').next());
                    to.extend(named.filter(|name| !name.contains('/')).map(str::to_owned));
                }
                let lists = text.split("tool::find_all([").skip(1).filter_map(|rest| rest.split(']').next());
                let named = lists.flat_map(|list| list.split('"').skip(1).step_by(2));
                to.extend(named.map(str::to_owned));
            }
        }
    }
}
