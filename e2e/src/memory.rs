//! What a process holds in memory: its size, and whether certain bytes are in it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Resident memory of a process, in KiB (`VmRSS`).
///
/// # Panics
///
/// If there is no such process.
pub fn resident_kib(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse().ok())
        .expect("VmRSS")
}

/// Counts where `needle` occurs in all readable memory of a process: what a core dump of it would hold.
///
/// # Errors
///
/// If the process may not be read: that takes root, or the same user and a process that allows it.
pub fn occurrences(pid: i32, needle: &[u8]) -> io::Result<usize> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let mut count = 0;
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(range), Some(permissions)) = (fields.next(), fields.next()) else { continue };
        if !permissions.starts_with('r') || line.ends_with("[vvar]") || line.ends_with("[vsyscall]") {
            continue;
        }
        let Some((start, end)) = range.split_once('-') else { continue };
        let (Ok(start), Ok(end)) = (u64::from_str_radix(start, 16), u64::from_str_radix(end, 16)) else {
            continue;
        };
        count += count_in_range(&memory, start, end, needle);
    }
    Ok(count)
}

fn count_in_range(memory: &File, start: u64, end: u64, needle: &[u8]) -> usize {
    const CHUNK: usize = 1 << 20;
    let overlap = needle.len() - 1;
    let mut buffer = vec![0; CHUNK + overlap];
    let finder = memchr::memmem::Finder::new(needle);
    let mut count = 0;
    for at in (start..end).step_by(CHUNK) {
        let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        // Pages without backing can't be read; nothing is in them.
        let read = memory.read_at(&mut buffer[..want], at).unwrap_or(0);
        count += finder.find_iter(&buffer[..read]).filter(|&position| position < CHUNK).count();
    }
    count
}

/// Counts where `needle` occurs in `bytes`.
pub fn in_bytes(bytes: &[u8], needle: &[u8]) -> usize {
    memchr::memmem::find_iter(bytes, needle).count()
}
