//! Runs a test of this program under strace, and reads what it did to files.

use core::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// Where the recorded process finds its directory.
pub(super) const DIRECTORY: &str = "KEYCORE_CRASH_DIRECTORY";

/// Name of the file that acknowledgements are written to; it is no part of the disk.
pub(super) const ACKNOWLEDGEMENTS: &str = "acknowledgements";

/// Calls that change a file or its name, and those that sync. `fatal` ones are not understood here: the history must not
/// use them on its files.
const CALLS: &str = "openat,write,pwrite64,ftruncate,fsync,fdatasync,unlink,rename,mkdir";
const FATAL: &str = "open,creat,writev,pwritev,pwritev2,truncate,fallocate,sync_file_range,copy_file_range,unlinkat,\
                     renameat,renameat2,mkdirat,rmdir,link,linkat,symlink";

/// Something that the history did. Paths are relative to its directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    Made(PathBuf),
    MadeDirectory(PathBuf),
    Written {
        path: PathBuf,
        offset: Option<u64>,
        bytes: Vec<u8>,
    },
    Resized {
        path: PathBuf,
        length: u64,
    },
    Synced(PathBuf),
    Unlinked(PathBuf),
    Renamed {
        from: PathBuf,
        to: PathBuf,
    },
    /// A client was told.
    Acknowledged(String),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Written { path, offset, bytes } => {
                write!(f, "{} bytes written to {} at {offset:?}", bytes.len(), path.display())
            }
            other => write!(f, "{other:?}"),
        }
    }
}

/// How many writes and how many syncs there are.
pub(super) fn census(events: &[Event]) -> (usize, usize) {
    let count = |is: fn(&Event) -> bool| events.iter().filter(|event| is(event)).count();
    (count(|event| matches!(event, Event::Written { .. })), count(|event| matches!(event, Event::Synced(_))))
}

/// A directory where a sync costs nothing, if there is one: thousands of stores are opened.
pub(super) fn fast_directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// Runs `test` of this program with [`DIRECTORY`] set, and gives what it did there. `None`, with a message, where strace is
/// missing or may not trace; a failure where `HSM_TEST_REQUIRE_TOOLS` is set.
pub(super) fn record(test: &str) -> Option<Vec<Event>> {
    let scratch = tempfile::tempdir().unwrap();
    let (directory, trace) = (scratch.path().join("disk"), scratch.path().join("trace"));
    std::fs::create_dir(&directory).unwrap();
    let run = Command::new("strace")
        .args(["-f", "-qq", "-y", "-xx", "-s", "16777216", "-e", "signal=none", "-o"])
        .arg(&trace)
        .args(["-e", &format!("trace={CALLS},{FATAL}")])
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(DIRECTORY, &directory)
        .stdin(Stdio::null())
        .output();
    let failure = match run {
        Ok(output) if output.status.success() => {
            let trace = std::fs::read_to_string(&trace).unwrap();
            return Some(trace.lines().filter_map(|line| event(line, &directory)).collect());
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            // Its own failure, not strace's, is the history's.
            assert!(!said.contains("panicked"), "the history failed: {said}");
            said
        }
        Err(error) => error.to_string(),
    };
    assert!(std::env::var_os("HSM_TEST_REQUIRE_TOOLS").is_none(), "strace is needed: {failure}");
    println!("SKIPPED: strace is not installed or may not trace: {failure}");
    None
}

/// What a line of the trace did to a file of the directory; none if nothing.
fn event(line: &str, directory: &Path) -> Option<Event> {
    let (_pid, call) = line.trim_start().split_once(' ')?;
    let (name, rest) = call.trim_start().split_once('(')?;
    let (arguments, result) = rest.rsplit_once(") = ").unwrap_or((rest, "?"));
    let path = |text: &str| unescape(text).strip_prefix(directory).ok().map(Path::to_owned);
    // `5<\x2f…>`: a descriptor with its path.
    let of_descriptor = |text: &str| path(text.split_once('<')?.1.split_once('>')?.0);
    let of_string = |text: &str| path(text.split('"').nth(1)?);
    if result.starts_with('-') || call.contains("resumed>") {
        return None;
    }
    let fields: Vec<_> = arguments.split(", ").collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    let bytes = |at: usize| unescape_bytes(fields.get(at).and_then(|field| field.split('"').nth(1)).unwrap());
    match name {
        "openat" => {
            let path = of_string(fields.get(1)?)?;
            let flags = fields.get(2)?;
            if flags.contains("O_TRUNC") {
                return Some(Event::Resized { path, length: 0 });
            }
            flags.contains("O_CREAT").then_some(Event::Made(path))
        }
        "write" => {
            let path = of_descriptor(fields.first()?)?;
            if path == Path::new(ACKNOWLEDGEMENTS) {
                return Some(Event::Acknowledged(String::from_utf8(bytes(1)).unwrap()));
            }
            Some(Event::Written { path, offset: None, bytes: bytes(1) })
        }
        "pwrite64" => {
            let path = of_descriptor(fields.first()?)?;
            let bytes = bytes(1);
            assert_eq!(result, bytes.len().to_string(), "a short write");
            Some(Event::Written { path, offset: Some(number(3)?), bytes })
        }
        "ftruncate" => Some(Event::Resized { path: of_descriptor(fields.first()?)?, length: number(1)? }),
        "fsync" | "fdatasync" => Some(Event::Synced(of_descriptor(fields.first()?)?)),
        "unlink" => Some(Event::Unlinked(of_string(fields.first()?)?)),
        "mkdir" => Some(Event::MadeDirectory(of_string(fields.first()?)?)),
        "rename" => {
            Some(Event::Renamed { from: of_string(fields.first()?)?, to: of_string(fields.get(1)?)? })
        }
        unknown => {
            let ours = of_descriptor(fields.first()?).or_else(|| of_string(arguments));
            assert!(ours.is_none(), "{unknown} on {ours:?} is not understood");
            None
        }
    }
}

fn unescape(text: &str) -> PathBuf {
    String::from_utf8(unescape_bytes(text)).unwrap().into()
}

/// `\x2f\x77`, as `strace -xx` prints every byte.
fn unescape_bytes(text: &str) -> Vec<u8> {
    text.split("\\x").skip(1).map(|digits| u8::from_str_radix(&digits[..2], 16).unwrap()).collect()
}
