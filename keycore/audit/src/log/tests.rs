use std::sync::{Arc, Mutex};

use super::*;
use crate::entry::{Command, Outcome, Subject};

/// A sink whose disk can be full or broken.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<DiskState>>);

#[derive(Default)]
struct DiskState {
    bytes: Vec<u8>,
    synced: usize,
    write_fails: bool,
    sync_fails: bool,
}

impl Sink for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        if disk.write_fails {
            return Err(io::ErrorKind::StorageFull.into());
        }
        disk.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        if disk.sync_fails {
            return Err(io::Error::other("the disk is gone"));
        }
        disk.synced = disk.bytes.len();
        Ok(())
    }
}

impl Disk {
    fn set(&self, change: impl FnOnce(&mut DiskState)) {
        change(&mut self.0.lock().unwrap());
    }

    /// The details of all records, whose chain must hold.
    fn details(&self) -> Vec<String> {
        let disk = self.0.lock().unwrap();
        let (mut chain, mut rest, mut details) = (Chain::new(0), &disk.bytes[..], Vec::new());
        while !rest.is_empty() {
            let (entry, length) = chain.follow(rest).unwrap();
            details.push(entry.detail.to_owned());
            rest = &rest[length..];
        }
        details
    }
}

fn entry(detail: &str) -> Entry<'_> {
    Entry {
        time_micros: 1,
        connection: 2,
        peer: None,
        session: None,
        user: None,
        command: Command::Management,
        opcode: 0x30,
        operation: "Ping",
        subject: Subject::None,
        outcome: Outcome::Done,
        detail,
    }
}

#[test]
fn entries_reach_the_sink_in_order_when_flushed() {
    let disk = Disk::default();
    let mut log = Log::new(Chain::new(0), Box::new(disk.clone()));
    log.append(&entry("a")).unwrap();
    log.append(&entry("b")).unwrap();
    assert_eq!(disk.details(), [] as [&str; 0]);
    log.flush().unwrap();
    assert_eq!(disk.details(), ["a", "b"]);
    assert_eq!(disk.0.lock().unwrap().synced, 0);
    log.sync().unwrap();
    let disk = disk.0.lock().unwrap();
    assert_eq!(disk.synced, disk.bytes.len());
    assert_eq!(log.next_sequence(), 3);
}

#[test]
fn a_full_disk_loses_nothing_that_was_taken_and_takes_nothing_more() {
    let disk = Disk::default();
    let mut log = Log::new(Chain::new(0), Box::new(disk.clone()));
    log.append(&entry("a")).unwrap();
    disk.set(|disk| disk.write_fails = true);
    assert!(log.healthy());
    assert!(matches!(log.flush(), Err(AuditError::Sink(_))));
    assert!(!log.healthy());
    let refused = log.append(&entry("never done")).unwrap_err();
    assert!(matches!(refused, AuditError::Failed(io::ErrorKind::StorageFull)), "{refused}");
    assert!(log.sync().is_err(), "still full");

    disk.set(|disk| disk.write_fails = false);
    log.flush().unwrap();
    assert!(log.healthy());
    log.append(&entry("b")).unwrap();
    log.flush().unwrap();
    assert_eq!(disk.details(), ["a", "b"], "gapless");
}

#[test]
fn a_failed_sync_keeps_the_log_failed_until_one_succeeds() {
    let disk = Disk::default();
    let mut log = Log::new(Chain::new(0), Box::new(disk.clone()));
    log.append(&entry("a")).unwrap();
    disk.set(|disk| disk.sync_fails = true);
    assert!(log.sync().is_err());
    assert!(log.append(&entry("never done")).is_err());
    assert!(log.flush().is_err(), "a flush alone does not make it healthy");
    disk.set(|disk| disk.sync_fails = false);
    log.flush().unwrap();
    assert!(log.healthy());
    let disk = disk.0.lock().unwrap();
    assert_eq!(disk.synced, disk.bytes.len());
}

#[test]
fn a_full_buffer_is_flushed_and_never_grows() {
    let disk = Disk::default();
    let mut log = Log::new(Chain::new(0), Box::new(disk.clone()));
    let detail = "d".repeat(crate::MAX_DETAIL);
    let mut taken = 0;
    while disk.0.lock().unwrap().bytes.is_empty() {
        log.append(&entry(&detail)).unwrap();
        taken += 1;
    }
    assert!(taken > 1000, "buffered before: {taken}");
    disk.set(|disk| disk.write_fails = true);
    let capacity = log.buffer.capacity();
    while log.append(&entry(&detail)).is_ok() {
        taken += 1;
    }
    assert_eq!(log.buffer.capacity(), capacity);
    disk.set(|disk| disk.write_fails = false);
    log.flush().unwrap();
    assert_eq!(disk.details().len(), taken);
}

#[test]
fn long_texts_are_cut_at_a_character() {
    let disk = Disk::default();
    let mut log = Log::new(Chain::new(0), Box::new(disk.clone()));
    let long = "é".repeat(100_000);
    let subject = Subject::User(&long);
    log.append(&Entry { operation: &long, subject, ..entry(&long) }).unwrap();
    log.flush().unwrap();
    assert_eq!(disk.details(), ["é".repeat(crate::MAX_DETAIL / 2)]);
}
