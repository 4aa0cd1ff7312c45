//! The audit log, as the pipeline writes it.

use core::time::Duration;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};

use keycore_audit::{AuditError, Command, Entry, Log, Outcome, Past, Retention, Subject};
use keycore_wire::{AuditAnchor, ClusterId, Refusal, RefusalCode, SessionHandle};

use crate::denial::Denial;
use crate::options::Now;
use crate::session::Caller;

/// Most entries that wait while the log is being synced; above it, what they would record is refused.
const MAX_WAITING: usize = 1 << 16;

/// How often a connection may fill a record with refusals that cost it nothing, and all together a number of them.
const THROTTLE_WINDOW: Duration = Duration::from_secs(1);

/// The log, shared by the loop and the workers.
///
/// A worker that syncs holds the log as long as the disk takes. The loop does not wait for it: its entries go into a queue,
/// encoded, and into the log before anything else as soon as it is free.
pub(crate) struct Journal {
    log: Mutex<Log>,
    waiting: Mutex<VecDeque<Vec<u8>>>,
    refusals: Mutex<Budget>,
    /// Why nothing is taken any more in the life of this process.
    closed: OnceLock<String>,
}

impl Journal {
    pub(crate) fn new(log: Log) -> Self {
        Self {
            log: Mutex::new(log),
            waiting: Mutex::default(),
            refusals: Mutex::default(),
            closed: OnceLock::new(),
        }
    }

    /// Whether what is done now can be written down. Asks no disk: after a failure [`Journal::flush`] tries again.
    pub(crate) fn ready(&self) -> Result<(), Denial> {
        self.check_open()?;
        match self.log.try_lock() {
            Ok(log) if log.healthy() => Ok(()),
            Ok(_) => Err(unavailable("since an earlier failure")),
            // Somebody writes or syncs; the outcome is known when this one's entry is due.
            Err(TryLockError::WouldBlock) => Ok(()),
            Err(TryLockError::Poisoned(_)) => {
                Err(Denial::internal("a thread died while it wrote the audit log"))
            }
        }
    }

    /// Takes an entry, without waiting for a sync that is under way.
    pub(crate) fn append(&self, entry: &Entry<'_>) -> Result<(), Denial> {
        self.check_open()?;
        match self.log.try_lock() {
            Ok(mut log) => self.drain(&mut log).and_then(|()| log.append(entry)),
            Err(TryLockError::Poisoned(log)) => log.into_inner().append(entry),
            Err(TryLockError::WouldBlock) if self.enqueue(entry) => Ok(()),
            Err(TryLockError::WouldBlock) => {
                return Err(unavailable("the disk takes too long, and too many records wait for it"));
            }
        }
        .map_err(|error| unwritable(&error))
    }

    /// Takes an entry, and returns when it and all before it are on the disk.
    pub(crate) fn append_and_sync(&self, entry: &Entry<'_>) -> Result<(), Denial> {
        self.check_open()?;
        let mut log = locked(&self.log);
        self.drain(&mut log)
            .and_then(|()| log.append(entry))
            .and_then(|()| log.sync())
            .map_err(|error| unwritable(&error))
    }

    /// From now on nothing is recorded, for this reason.
    pub(crate) fn close(&self, reason: String) {
        let _the_first_reason_stays = self.closed.set(reason);
    }

    fn check_open(&self) -> Result<(), Denial> {
        self.closed.get().map_or(Ok(()), |reason| Err(unavailable(reason.clone())))
    }

    /// Takes an entry of the engine itself.
    pub(crate) fn append_own(&self, entry: &Entry<'_>) -> Result<(), AuditError> {
        if self.closed.get().is_some() {
            return Err(AuditError::Closed);
        }
        let mut log = locked(&self.log);
        self.drain(&mut log)?;
        log.append(entry)
    }

    /// Records since the last checkpoint, those that wait included.
    pub(crate) fn unsigned(&self) -> u64 {
        let waiting = locked(&self.waiting).len() as u64;
        waiting + locked(&self.log).unsigned()
    }

    /// Number of the last record.
    pub(crate) fn records(&self) -> u64 {
        locked(&self.log).next_sequence() - 1
    }

    /// Where the log stood after an earlier record.
    pub(crate) fn head_at(&self, sequence: u64) -> Result<Past, AuditError> {
        locked(&self.log).head_at(sequence)
    }

    /// Signs where the log stands, in a record that is on the disk when this returns.
    pub(crate) fn checkpoint(
        &self,
        place: (ClusterId, u16),
        at_micros: u64,
        sign: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
    ) -> Result<AuditAnchor, AuditError> {
        let mut log = locked(&self.log);
        log.flush()?;
        self.drain(&mut log)?;
        log.checkpoint(place, at_micros, sign)
    }

    /// Takes away old records of the log; see [`Log::prune`].
    pub(crate) fn prune(&self, keep: &Retention, now_micros: u64, anchored: u64) -> Result<(), AuditError> {
        let mut log = locked(&self.log);
        log.flush()?;
        self.drain(&mut log)?;
        log.prune(keep, now_micros, anchored).map(drop)
    }

    /// Hands over what is buffered, so that the death of this process loses nothing.
    pub(crate) fn flush(&self) -> Result<(), AuditError> {
        let mut log = locked(&self.log);
        log.flush()?;
        self.drain(&mut log)?;
        log.flush()
    }

    /// Flushes, and makes all of it durable.
    pub(crate) fn sync(&self) -> Result<(), AuditError> {
        let mut log = locked(&self.log);
        log.flush()?;
        self.drain(&mut log)?;
        log.sync()
    }

    /// Asks for a record of a refusal that cost the peer nothing, with `unrecorded` more before it. Returns how many came
    /// unrecorded before it in all, or none if such records are too many already: then it is counted.
    pub(crate) fn admit_refusal(&self, now: Now, unrecorded: u64) -> Option<u64> {
        locked(&self.refusals).admit(now, unrecorded)
    }

    fn enqueue(&self, entry: &Entry<'_>) -> bool {
        let Ok(encoded) = postcard::to_allocvec(entry) else { return false };
        let mut waiting = locked(&self.waiting);
        if waiting.len() >= MAX_WAITING {
            return false;
        }
        waiting.push_back(encoded);
        true
    }

    /// Puts what waited into the log; what does not go in now, waits on.
    fn drain(&self, log: &mut Log) -> Result<(), AuditError> {
        let mut waiting = locked(&self.waiting);
        while let Some(encoded) = waiting.front() {
            let entry: Entry<'_> = postcard::from_bytes(encoded).map_err(|_| AuditError::Entry)?;
            log.append(&entry)?;
            waiting.pop_front();
        }
        Ok(())
    }
}

/// Counts the records of refusals that cost nothing, those of all connections together: a peer that connects anew for each of
/// them must not fill the disk either.
#[derive(Debug, Default)]
struct Budget {
    window: Option<Duration>,
    records: u32,
    untold: u64,
}

impl Budget {
    /// Records in one window.
    const RECORDS: u32 = 32;

    fn admit(&mut self, now: Now, unrecorded: u64) -> Option<u64> {
        if self.window.is_none_or(|start| now.mono.saturating_sub(start) >= THROTTLE_WINDOW) {
            (self.window, self.records) = (Some(now.mono), 0);
        }
        if self.records == Self::RECORDS {
            self.untold = self.untold.saturating_add(unrecorded).saturating_add(1);
            return None;
        }
        self.records += 1;
        Some(unrecorded.saturating_add(core::mem::take(&mut self.untold)))
    }
}

/// Counts a connection's refusals that cost it nothing, so that a flood of them does not fill the disk.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    window: Option<Duration>,
    unrecorded: u64,
}

impl Throttle {
    /// Whether refusals of this sort are counted rather than recorded one by one.
    pub(crate) fn applies_to(code: RefusalCode) -> bool {
        matches!(
            code,
            RefusalCode::Malformed
                | RefusalCode::UnknownOperation
                | RefusalCode::HelloExpected
                | RefusalCode::UnsupportedVersion
                | RefusalCode::TooManyInFlight
                | RefusalCode::NotLoggedIn
                | RefusalCode::SessionEnded
                | RefusalCode::LoginThrottled
                | RefusalCode::WrongClusterState
                | RefusalCode::Overloaded
                | RefusalCode::ShuttingDown
                | RefusalCode::SelfTestFailed
                | RefusalCode::Sealed
                // Anybody may send pieces of a backup that he has not begun.
                | RefusalCode::BadBackup
        )
    }

    /// Counts one; returns how many came unrecorded before it if a record is due now, as far as this connection goes.
    pub(crate) fn count(&mut self, now: Now) -> Option<u64> {
        if self.window.is_some_and(|start| now.mono.saturating_sub(start) < THROTTLE_WINDOW) {
            self.unrecorded += 1;
            return None;
        }
        self.window = Some(now.mono);
        Some(core::mem::take(&mut self.unrecorded))
    }

    /// How many are still unrecorded when the connection ends.
    pub(crate) fn rest(&self) -> u64 {
        self.unrecorded
    }
}

/// An entry of one request's outcome, with nothing known of user or subject.
pub(crate) fn entry<'a>(
    operation: &'a str,
    caller: &Caller,
    now: Now,
    refused: Option<&Refusal>,
    detail: &'a str,
) -> Entry<'a> {
    Entry {
        time_micros: now.wall.0.saturating_mul(1000),
        connection: caller.connection,
        peer: caller.peer,
        session: caller.session.map(|session| SessionHandle(session.id)),
        user: None,
        command: Command::Unknown,
        opcode: 0,
        operation,
        subject: Subject::None,
        outcome: refused.map_or(Outcome::Done, |refusal| Outcome::Refused(refusal.code)),
        detail,
    }
}

/// Tells the peer what is to be done about it, and the engine's log what the system said.
fn unwritable(error: &AuditError) -> Denial {
    if error.is_storage_full() {
        let detail = "the disk of the audit log is full, so nothing is done until there is room on it";
        return Denial::new(RefusalCode::AuditUnavailable, detail).because(error.to_string());
    }
    unavailable(error.to_string())
}

fn unavailable(reason: impl Into<Cow<'static, str>>) -> Denial {
    Denial::new(RefusalCode::AuditUnavailable, "the audit log can't be written, so nothing is done")
        .because(reason)
}

/// Locks; a thread that died while it held the lock left a log that is whole records, or a queue of them.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use keycore_audit::{Chain, Peer, Sink};
    use keycore_wire::UnixMillis;

    use super::*;

    const NOW: Now = Now { wall: UnixMillis(1), mono: Duration::ZERO };

    /// Tells when a sync begins, and syncs as long as it is not told that it may end.
    struct SlowDisk {
        written: Arc<Mutex<Vec<u8>>>,
        began: Sender<()>,
        may_end: Receiver<()>,
    }

    impl Sink for SlowDisk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
            locked(&self.written).extend_from_slice(bytes);
            Ok(())
        }

        fn sync(&mut self) -> io::Result<()> {
            self.began.send(()).map_err(io::Error::other)?;
            self.may_end.recv().map_err(io::Error::other)
        }
    }

    #[test]
    fn an_entry_does_not_wait_for_the_disk_and_is_not_lost() {
        let (began, syncing) = channel();
        let (end, may_end) = channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let disk = SlowDisk { written: Arc::clone(&written), began, may_end };
        let journal = Journal::new(Log::new(Chain::new(0), Box::new(disk)));
        let peer = Peer::Local { uid: 0, gid: 0, pid: 0 };
        let caller = Caller { connection: 1, peer: Some(peer), session: None };
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| journal.append_and_sync(&entry("Login", &caller, NOW, None, "")));
            syncing.recv().unwrap();
            // The worker holds the log; this would deadlock if it waited for it.
            for operation in ["first", "second"] {
                journal.append(&entry(operation, &caller, NOW, None, "")).unwrap();
            }
            for _ in 2..MAX_WAITING {
                journal.append(&entry("more", &caller, NOW, None, "")).unwrap();
            }
            let denied = journal.append(&entry("too many", &caller, NOW, None, "")).unwrap_err();
            assert_eq!(denied.refusal.code, RefusalCode::AuditUnavailable);
            end.send(()).unwrap();
            worker.join().unwrap().unwrap();
        });
        journal.append(&entry("third", &caller, NOW, None, "")).unwrap();
        journal.flush().unwrap();
        let written = locked(&written);
        let at = |operation: &str| {
            written.windows(operation.len()).position(|bytes| bytes == operation.as_bytes())
        };
        let order = ["Login", "first", "second", "third"].map(|operation| at(operation).unwrap());
        assert!(order.is_sorted(), "{order:?}");
    }

    #[test]
    fn a_flood_is_counted() {
        let mut throttle = Throttle::default();
        let at = |millis| Now { mono: Duration::from_millis(millis), ..NOW };
        assert_eq!(throttle.count(at(10)), Some(0));
        assert_eq!(throttle.count(at(11)), None);
        assert_eq!(throttle.count(at(1009)), None);
        assert_eq!(throttle.count(at(1010)), Some(2));
        assert_eq!((throttle.count(at(1011)), throttle.rest()), (None, 1));
    }
}
