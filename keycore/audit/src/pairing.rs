//! Which changes have a record of how they ended.
//!
//! A change has two records, `begun` and its outcome, of the same connection, operation and time: that at which the request was
//! taken up. If the second is missing, the engine was killed in between, or could not write it.

use std::collections::HashMap;

use crate::chain::Head;
use crate::entry::{Entry, Outcome, Subject};
use crate::verify::Record;

/// Most changes without an outcome that are named; more are counted.
const MAX_NAMED: usize = 1000;

/// Most changes at a time whose outcome is waited for. An engine has far fewer; who forges a log may claim more.
const MAX_OPEN: usize = 1 << 16;

/// The changes that a log tells of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Those that were begun.
    pub begun: u64,
    /// Those among them without a record of how they ended: they may or may not have been made.
    pub unfinished: u64,
    /// Those that the running engine may be making just now.
    pub in_progress: u64,
    /// The first thousand of the unfinished ones, by number.
    pub named: Vec<Unfinished>,
}

/// A change without an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    replica: u16,
    sequence: u64,
    boot: u32,
    head: Head,
    /// In postcard.
    entry: Vec<u8>,
}

impl Unfinished {
    /// The record that announced it.
    pub fn record(&self) -> Option<Record<'_>> {
        let entry = postcard::from_bytes(&self.entry).ok()?;
        Some(Record {
            replica: self.replica,
            sequence: self.sequence,
            boot: self.boot,
            head: self.head,
            entry,
        })
    }
}

/// Goes through the log of one replica and holds announcements against outcomes.
#[derive(Default)]
pub(crate) struct Pairing {
    boot: u32,
    /// Announced in this boot, by connection, opcode and time.
    open: HashMap<(u64, u8, u64), Vec<Unfinished>>,
    waiting: usize,
    changes: Changes,
}

impl Pairing {
    pub(crate) fn observe(&mut self, record: &Record<'_>) {
        if record.boot != self.boot {
            // The process that had begun them is gone.
            self.give_up();
            self.boot = record.boot;
        }
        let entry = &record.entry;
        let key = (entry.connection, entry.opcode, entry.time_micros);
        match entry.outcome {
            Outcome::Begun => {
                self.changes.begun += 1;
                let encoded = postcard::to_allocvec(entry).ok().filter(|_| self.waiting < MAX_OPEN);
                let Some(encoded) = encoded else {
                    self.changes.unfinished += 1;
                    return;
                };
                self.waiting += 1;
                self.open.entry(key).or_default().push(Unfinished {
                    replica: record.replica,
                    sequence: record.sequence,
                    boot: record.boot,
                    head: record.head,
                    entry: encoded,
                });
            }
            Outcome::Done | Outcome::Refused(_) => {
                let Some(begun) = self.open.get_mut(&key) else { return };
                let same = |begun: &Unfinished| begun.record().is_some_and(|it| alike(&it.entry, entry));
                // Several in the same instant on one connection: the one about the same thing, else the oldest.
                begun.remove(begun.iter().position(same).unwrap_or(0));
                self.waiting -= 1;
                if begun.is_empty() {
                    self.open.remove(&key);
                }
            }
        }
    }

    /// What was found; `live` tells whether the engine that wrote the end of the log still runs.
    pub(crate) fn finish(mut self, live: bool) -> Changes {
        if live {
            self.changes.in_progress = self.waiting as u64;
        } else {
            self.give_up();
        }
        self.changes
    }

    fn give_up(&mut self) {
        let mut left: Vec<_> = self.open.drain().flat_map(|(_, begun)| begun).collect();
        left.sort_unstable_by_key(|begun| begun.sequence);
        self.waiting = 0;
        self.changes.unfinished += left.len() as u64;
        let room = MAX_NAMED - self.changes.named.len();
        self.changes.named.extend(left.into_iter().take(room));
    }
}

/// Whether both can be about the same thing. What was asked for by one of a key's names may be known by others at the end.
fn alike(begun: &Entry<'_>, ended: &Entry<'_>) -> bool {
    match (&begun.subject, &ended.subject) {
        (Subject::Key { id: Some(one), .. }, Subject::Key { id: Some(other), .. }) => one == other,
        (Subject::Key { label: one, .. }, Subject::Key { label: other, .. }) => one == other,
        (one, other) => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Command;

    fn observe(pairing: &mut Pairing, sequence: u64, boot: u32, time: u64, about: &str, outcome: Outcome) {
        let entry = Entry {
            connection: 5,
            opcode: 0x20,
            command: Command::Management,
            outcome,
            ..Entry::by_engine(time, "UserCreate", Subject::User(about), "")
        };
        pairing.observe(&Record { replica: 0, sequence, boot, head: Head([0; 32]), entry });
    }

    fn numbers(changes: &Changes) -> Vec<u64> {
        changes.named.iter().map(|begun| begun.record().unwrap().sequence).collect()
    }

    #[test]
    fn what_has_no_outcome_is_named() {
        let mut pairing = Pairing::default();
        let mut note = |sequence, boot, time, about, outcome| {
            observe(&mut pairing, sequence, boot, time, about, outcome);
        };
        // Pipelined in the same instant: the second one ends, the first one does not.
        note(1, 1, 10, "ann", Outcome::Begun);
        note(2, 1, 10, "ben", Outcome::Begun);
        note(3, 1, 10, "ben", Outcome::Done);
        note(4, 1, 20, "cid", Outcome::Begun);
        note(5, 1, 20, "cid", Outcome::Refused(keycore_wire::RefusalCode::AlreadyExists));
        // An outcome whose announcement is not there is none of these.
        note(6, 1, 30, "ann", Outcome::Done);
        note(7, 2, 10, "ann", Outcome::Done);
        note(8, 2, 40, "dan", Outcome::Begun);
        let changes = pairing.finish(false);
        assert_eq!((changes.begun, changes.unfinished, changes.in_progress), (4, 2, 0));
        assert_eq!(numbers(&changes), [1, 8]);
    }

    #[test]
    fn a_running_engine_may_be_about_it() {
        let mut pairing = Pairing::default();
        observe(&mut pairing, 1, 1, 10, "ann", Outcome::Begun);
        observe(&mut pairing, 2, 2, 10, "ben", Outcome::Begun);
        let changes = pairing.finish(true);
        assert_eq!((changes.begun, changes.unfinished, changes.in_progress), (2, 1, 1));
        assert_eq!(numbers(&changes), [1]);
    }

    #[test]
    fn a_forged_log_takes_no_more_memory_than_that() {
        let mut pairing = Pairing::default();
        for n in 0..(MAX_OPEN as u64 + 10) {
            observe(&mut pairing, n + 1, 1, n, "ann", Outcome::Begun);
        }
        let changes = pairing.finish(false);
        assert_eq!((changes.unfinished, changes.named.len()), (MAX_OPEN as u64 + 10, MAX_NAMED));
    }
}
