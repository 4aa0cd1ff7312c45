//! The logs of several replicas as one stream.

use std::path::{Path, PathBuf};

use crate::reader::Reader;
use crate::verify::{Record, Trust, VerifyError, replicas_in};

/// Records of several replicas in the order of their times, those of each replica in the order of their numbers. Takes
/// some 64 KiB for each replica, however long the logs are.
pub struct Merged {
    dir: PathBuf,
    /// Empty for all.
    only: Vec<u16>,
    follows: bool,
    sources: Vec<Source>,
}

struct Source {
    reader: Reader<'static>,
    state: State,
}

/// What is known of a source's next record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Unknown,
    /// It is there, and has this time.
    Ready(u64),
    Ended,
}

impl Merged {
    /// Reads the logs under `dir` from their beginnings: those of the named replicas, or all if none is named. If it follows, an
    /// incomplete end is waited for, and so are replicas that have no log yet.
    ///
    /// # Errors
    ///
    /// [`VerifyError::Empty`] if there is no such log, and [`VerifyError::Io`].
    pub fn new(dir: &Path, only: &[u16], follows: bool) -> Result<Self, VerifyError> {
        let mut merged = Self { dir: dir.to_owned(), only: only.to_vec(), follows, sources: Vec::new() };
        merged.look_for_logs()?;
        if merged.sources.is_empty() {
            return Err(VerifyError::Empty(merged.dir));
        }
        Ok(merged)
    }

    /// The next record; none if the logs have no more for now. Called again later, it goes on with what was written since.
    ///
    /// # Errors
    ///
    /// [`VerifyError`] names what is wrong with a log, when everything before it was given.
    #[expect(clippy::should_implement_trait, reason = "it lends")]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, VerifyError> {
        for source in &mut self.sources {
            if source.state == State::Unknown {
                let record = source.reader.next()?;
                source.state = record.map_or(State::Ended, |record| State::Ready(record.entry.time_micros));
            }
        }
        let ready = self.sources.iter().enumerate().filter_map(|(n, source)| match source.state {
            State::Ready(at) => Some((at, n)),
            State::Unknown | State::Ended => None,
        });
        // Of equal times, the one of the first replica.
        if let Some((_, n)) = ready.min() {
            let source = &mut self.sources[n];
            source.state = State::Unknown;
            return Ok(source.reader.last());
        }
        for source in &mut self.sources {
            source.state = State::Unknown;
        }
        if self.follows {
            self.look_for_logs()?;
        }
        Ok(None)
    }

    fn look_for_logs(&mut self) -> Result<(), VerifyError> {
        for replica in replicas_in(&self.dir)? {
            let wanted = self.only.is_empty() || self.only.contains(&replica);
            if wanted && !self.sources.iter().any(|source| source.reader.replica() == replica) {
                let reader = Reader::new(&self.dir, replica, Trust::default());
                let reader = if self.follows { reader.following() } else { reader };
                self.sources.push(Source { reader, state: State::Unknown });
            }
        }
        self.sources.sort_by_key(|source| source.reader.replica());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
