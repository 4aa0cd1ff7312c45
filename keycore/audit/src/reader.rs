//! Reads one replica's log a record at a time, checking the chain on the way, in constant memory.

mod window;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use keycore_wire::{AuditAnchor, ClusterId};

use crate::chain::{self, Broken, Chain};
use crate::checkpoint::AuditKey;
use crate::entry::{Entry, Subject};
use crate::file::{self, HEADER, Header, HeaderError};
use crate::pairing::Changes;
use crate::verify::{Record, ReplicaReport, Trust, VerifyError, Wrong};
use window::Window;

/// The way through the log of one replica. A record is given only if everything before it holds.
///
/// Takes some 64 KiB, however long the log is. At the end [`Reader::next`] gives nothing; called again later, it goes on with what was written since,
/// in new segments as well.
pub struct Reader<'a> {
    replica: u16,
    directory: PathBuf,
    key: Option<AuditKey>,
    anchor: Option<&'a AuditAnchor>,
    /// Whether an incomplete end is waited for even if nobody writes.
    follows: bool,
    chain: Chain,
    segment: Option<Segment>,
    report: ReplicaReport,
    /// The bytes of the record that was given last.
    record: Vec<u8>,
}

/// The segment that is being read.
struct Segment {
    path: PathBuf,
    header: Header,
    /// The log begins here, not with record 1: older segments were taken away.
    pruned: bool,
    window: Window,
}

/// Where in a segment something is wrong, and what. The chain stands before it.
type Flaw = (u64, Wrong);

impl<'a> Reader<'a> {
    /// Reads the log of `replica` under `dir` from its beginning.
    pub fn new(dir: &Path, replica: u16, trust: Trust<'a>) -> Self {
        let chain = Chain::new(replica);
        let report = ReplicaReport {
            replica,
            segments: 0,
            first: 1,
            records: 0,
            boot: 0,
            checkpoints: 0,
            signed_to: 0,
            head: chain.head,
            span_micros: None,
            in_progress: 0,
            changes: Changes::default(),
        };
        Self {
            replica,
            directory: file::replica_directory(dir, replica),
            key: trust.key,
            anchor: trust.anchors.iter().find(|anchor| anchor.replica == replica),
            follows: false,
            chain,
            segment: None,
            report,
            record: Vec::with_capacity(Window::MARGIN),
        }
    }

    /// The same for following the log: an incomplete end is waited for, whether an engine runs or not. The next start of
    /// one that was killed sets it aside and writes on in its place.
    #[must_use]
    pub fn following(self) -> Self {
        Self { follows: true, ..self }
    }

    /// Whose log it is.
    pub fn replica(&self) -> u16 {
        self.replica
    }

    /// The next record; none if the log has no more for now.
    ///
    /// # Errors
    ///
    /// [`VerifyError`] names what is wrong. Every further call fails in the same way while it is.
    #[expect(clippy::should_implement_trait, reason = "it lends")]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, VerifyError> {
        loop {
            let Some(segment) = &mut self.segment else {
                if self.enter()? { continue } else { return Ok(None) }
            };
            if segment.window.rest().len() >= Window::MARGIN {
                break;
            }
            // Asked before reading: an end that is incomplete although nobody was writing is not excused. Listed before reading, too:
            // a segment is complete when the next one is there.
            let live = self.follows || file::is_being_written(&self.directory);
            let later = later(&self.directory, Some(segment.header.first))?;
            segment.window.fill().map_err(|source| VerifyError::Io { path: segment.path.clone(), source })?;
            let rest = segment.window.rest();
            self.report.in_progress = 0;
            if rest.is_empty() {
                if segment.pruned && segment.window.offset() == HEADER {
                    let path = segment.path.clone();
                    let wrong = Wrong::NoCheckpoint;
                    return Err(VerifyError::Broken {
                        path,
                        offset: HEADER,
                        sequence: self.chain.next,
                        wrong,
                    });
                }
                if later.is_empty() || !self.enter()? {
                    return Ok(None);
                }
                continue;
            }
            let incomplete = matches!(chain::parse(rest), Err(Broken::Incomplete));
            if incomplete && live && later.is_empty() {
                self.report.in_progress = rest.len();
                return Ok(None);
            }
            break;
        }
        self.step()
    }

    /// The record that [`Reader::next`] gave last, once more.
    pub fn last(&self) -> Option<Record<'_>> {
        let Chain { next, head, boot } = self.chain;
        let entry = chain::entry(&self.record)?;
        Some(Record { replica: self.replica, sequence: next - 1, boot, head, entry })
    }

    /// What the log holds, as far as it was read.
    ///
    /// # Errors
    ///
    /// [`VerifyError::Broken`] if the log ends before its anchor.
    pub fn finish(mut self) -> Result<ReplicaReport, VerifyError> {
        self.report.records = self.chain.next - self.report.first;
        self.report.boot = self.chain.boot;
        self.report.head = self.chain.head;
        match self.anchor {
            Some(anchor) if anchor.sequence >= self.chain.next => {
                let path = self.segment.map_or(self.directory, |segment| segment.path);
                let offset = path.metadata().map_or(0, |metadata| metadata.len());
                let wrong = Wrong::RolledBack { anchor: anchor.sequence };
                Err(VerifyError::Broken { path, offset, sequence: self.chain.next, wrong })
            }
            _ => Ok(self.report),
        }
    }

    /// Goes to the next segment; not if there is none, or no record in it yet.
    fn enter(&mut self) -> Result<bool, VerifyError> {
        let live = self.follows || file::is_being_written(&self.directory);
        let behind = self.segment.as_ref().map(|segment| segment.header.first);
        let later = later(&self.directory, behind)?;
        let Some(path) = later.first() else { return Ok(false) };
        let is_last = later.len() == 1;
        let failed = |source| VerifyError::Io { path: path.clone(), source };
        let mut window = Window::new(File::open(path).map_err(failed)?);
        window.fill().map_err(failed)?;
        let header = self.header(window.rest(), behind.is_none(), is_last && live);
        let header = header.map_err(|(offset, wrong)| VerifyError::Broken {
            path: path.clone(),
            offset,
            sequence: self.chain.next,
            wrong,
        })?;
        let Some(header) = header else {
            self.report.in_progress = window.rest().len();
            return Ok(false);
        };
        window.advance(HEADER as usize);
        // The next start of the engine may begin a segment without a record anew, in another file.
        let empty = window.rest().is_empty() && is_last;
        let pruned = behind.is_none() && header.first > 1;
        if empty && !pruned {
            return Ok(false);
        }
        self.report.segments += 1;
        if pruned {
            // Its head is vouched for by the first record, if that is a checkpoint.
            self.chain = header.chain();
            self.report.first = header.first;
        }
        self.segment = Some(Segment { path: path.clone(), header, pruned, window });
        Ok(true)
    }

    /// The header at the beginning of `bytes`, if it continues the log; none if it may be written just now.
    fn header(&mut self, bytes: &[u8], is_first: bool, may_be_growing: bool) -> Result<Option<Header>, Flaw> {
        let header = match Header::decode(bytes) {
            Ok(header) => header,
            Err(HeaderError::Incomplete) if may_be_growing => return Ok(None),
            Err(_) => return Err((0, Wrong::Header)),
        };
        if header.replica != self.replica {
            return Err((10, Wrong::Header));
        }
        if is_first && header.first > 1 {
            self.chain = header.chain();
        }
        if header.first != self.chain.next {
            return Err((16, Wrong::MissingBefore { found: header.first }));
        }
        if header.head != self.chain.head {
            return Err((24, Wrong::NotContinued));
        }
        Ok(Some(header))
    }

    /// Takes the record that the window begins with.
    fn step(&mut self) -> Result<Option<Record<'_>>, VerifyError> {
        let Self { replica, key, anchor, chain, segment, report, record, .. } = self;
        let Some(segment) = segment else { return Ok(None) };
        let before = *chain;
        let offset = segment.window.offset();
        let broken = |offset, wrong| VerifyError::Broken {
            path: segment.path.clone(),
            offset,
            sequence: before.next,
            wrong,
        };
        let rest = segment.window.rest();
        record.clear();
        record.extend_from_slice(&rest[..rest.len().min(Window::MARGIN)]);
        let (entry, length) = chain.follow(record).map_err(|wrong| broken(offset, wrong.into()))?;
        let is_first = before.next == segment.header.first;
        let held = if is_first && chain.boot != segment.header.boot {
            Err((12, Wrong::Header))
        } else {
            let checkpoint = checkpoint(*replica, before, *chain, &entry);
            match (&checkpoint, key, anchor) {
                (Some((cluster, signed)), Some(key), _) if !key.signed(*cluster, signed) => {
                    Err((offset, Wrong::Signature))
                }
                (None, ..) if segment.pruned && is_first => Err((offset, Wrong::NoCheckpoint)),
                (_, _, Some(anchor)) if !(agrees(anchor, before) && agrees(anchor, *chain)) => {
                    Err((offset, Wrong::NotAnchored))
                }
                _ => Ok(checkpoint.is_some()),
            }
        };
        let is_checkpoint = held.map_err(|(offset, wrong)| {
            *chain = before;
            broken(offset, wrong)
        })?;
        if is_checkpoint {
            report.checkpoints += 1;
            report.signed_to = before.next - 1;
        }
        let (first, _) = report.span_micros.unwrap_or((entry.time_micros, 0));
        report.span_micros = Some((first, entry.time_micros));
        segment.window.advance(length);
        let Chain { boot, head, .. } = *chain;
        Ok(Some(Record { replica: *replica, sequence: before.next, boot, head, entry }))
    }
}

/// What a checkpoint signs, if the record is one; `before` and `after` are the chain around it.
fn checkpoint(
    replica: u16,
    before: Chain,
    after: Chain,
    entry: &Entry<'_>,
) -> Option<(ClusterId, AuditAnchor)> {
    let Subject::Checkpoint { cluster, signature } = &entry.subject else { return None };
    let signed = AuditAnchor {
        replica,
        boot: after.boot,
        at_micros: entry.time_micros,
        sequence: before.next - 1,
        head: before.head.0,
        signature: signature.to_vec(),
    };
    Some((*cluster, signed))
}

/// Whether a log that stands here can be the anchored one.
fn agrees(anchor: &AuditAnchor, at: Chain) -> bool {
    anchor.sequence != at.next - 1 || anchor.head == at.head.0
}

/// The segments of a replica behind the one that begins with record `first`, in order; all without one.
fn later(directory: &Path, first: Option<u64>) -> Result<Vec<PathBuf>, VerifyError> {
    let failed = |source: io::Error| VerifyError::Io { path: directory.to_owned(), source };
    let segments = file::list(directory).map_err(failed)?;
    Ok(segments.into_iter().filter(|(number, _)| Some(*number) > first).map(|(_, path)| path).collect())
}
