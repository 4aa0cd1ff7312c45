//! Finding the end of a log that a process may have left in the middle of a write.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use crate::chain::{self, Broken, Chain};
use crate::file::segment::{self, HEADER, Header, HeaderError};
use crate::file::{Current, Cut, OpenError, Recovery, private, read_whole};

/// The chain at the end of the last segment, and that segment opened behind its last whole record.
pub(super) fn recover(
    directory: &Path,
    replica: u16,
) -> Result<(Chain, Option<Current>, Recovery), OpenError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    let mut recovery = Recovery::default();
    let mut segments = segment::list(directory).map_err(failed(directory))?;
    while let Some((first, path)) = segments.pop() {
        let mut file = private().open(&path).map_err(failed(&path))?;
        let bytes = read_whole(&mut file).map_err(failed(&path))?;
        let damaged = |offset, detail: String| Err(OpenError::Damaged { path: path.clone(), offset, detail });
        let header = match Header::decode(&bytes) {
            Ok(header) => header,
            // The crash was in the middle of beginning this segment: no record is in it.
            Err(HeaderError::Incomplete) => {
                fs::remove_file(&path).map_err(failed(&path))?;
                continue;
            }
            Err(HeaderError::NotALog) if bytes.iter().all(|&byte| byte == 0) => {
                fs::remove_file(&path).map_err(failed(&path))?;
                continue;
            }
            Err(HeaderError::NotALog) => return damaged(0, "not a segment of an audit log".into()),
            Err(HeaderError::Format(format)) => return damaged(8, format!("unknown format {format}")),
        };
        if header.replica != replica || header.first != first {
            let detail = format!("segment of replica {}, from record {}", header.replica, header.first);
            return damaged(10, detail);
        }
        let mut chain = header.chain();
        let mut end = HEADER as usize;
        while end < bytes.len() {
            match chain.follow(&bytes[end..]) {
                Ok((_, length)) => end += length,
                Err(broken) if is_torn(broken, &bytes[end..]) => break,
                Err(broken) => return damaged(end as u64, format!("record {}: {broken}", chain.next)),
            }
        }
        if end < bytes.len() {
            recovery.cut = Some(cut(&file, &path, end, &bytes[end..]).map_err(failed(&path))?);
        }
        if end == HEADER as usize {
            // Begun, and no record came: the next one begins it anew, with its own boot counter in the header.
            fs::remove_file(&path).map_err(failed(&path))?;
            return Ok((chain, None, recovery));
        }
        // What an earlier process wrote may not be durable yet; from here on it is.
        file.sync_data().map_err(failed(&path))?;
        let end = end as u64;
        let current = Current { file, end, since: Instant::now(), synced: (end, chain.head), suspect: false };
        return Ok((chain, Some(current), recovery));
    }
    Ok((Chain::new(replica), None, recovery))
}

/// Whether `rest`, which does not begin with the next record, can be what a crash left of a write: then no record
/// behind it fits together with its predecessor. If one does, somebody changed a record in the middle.
fn is_torn(broken: Broken, rest: &[u8]) -> bool {
    let mut at = match (broken, chain::parse(rest)) {
        (Broken::Undecodable | Broken::Sequence(_), _) => return false, // the hash is right: this was written
        (_, Err(_)) => return true,
        (_, Ok((body, head))) => (body.len() + chain::OVERHEAD, head),
    };
    while let Some(Ok((body, head))) = rest.get(at.0..).map(chain::parse) {
        if at.1.after(body) == head {
            return false;
        }
        at = (at.0 + body.len() + chain::OVERHEAD, head);
    }
    true
}

/// Moves the torn end into a file of its own, so that a wrong judgement destroys nothing.
fn cut(file: &File, segment: &Path, end: usize, torn: &[u8]) -> std::io::Result<Cut> {
    let kept_in = segment.with_extension(format!("{end}.torn"));
    let mut copy = private().create(true).truncate(true).open(&kept_in)?;
    copy.write_all(torn)?;
    copy.sync_all()?;
    file.set_len(end as u64)?;
    Ok(Cut { segment: segment.to_owned(), length: torn.len() as u64, kept_in })
}
