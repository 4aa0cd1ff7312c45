//! `hsm audit export`

use std::io::{self, BufWriter, Write};
use std::path::Path;

use clap::ValueEnum;
use keycore_audit::{Merged, Record};

use super::cloudtrail;
use super::filter::Filter;
use super::record::line;
use super::syslog::Syslog;
use crate::failure::Failure;
use crate::output::Answer;

/// How a record is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// As `hsm audit tail --output json` shows it
    Jsonl,
    /// An event of AWS CloudTrail, in JSON
    Cloudtrail,
    /// RFC 5424, with structured data
    Syslog,
}

impl ExportFormat {
    fn text(self, record: &Record<'_>, syslog: &Syslog<'_>) -> String {
        match self {
            Self::Jsonl => line(record).view.to_string(),
            Self::Cloudtrail => cloudtrail::event(record).to_string(),
            Self::Syslog => syslog.line(record),
        }
    }
}

/// Writes the records that pass to standard output as they are read; how many, to standard error.
pub(super) fn export(
    dir: &Path,
    format: ExportFormat,
    syslog: &Syslog<'_>,
    filter: &Filter<'_>,
) -> Result<Answer, Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let exported = write(dir, format, syslog, filter, &mut out);
    // What was read before a broken record is good, and is written.
    let flushed = out.flush();
    let (read, written) = match (exported, flushed) {
        (Err(Stop::Log(failure)), _) => return Err(failure),
        (Err(Stop::Out(error)), _) | (Ok(_), Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            return Ok(Answer::streamed());
        }
        (Err(Stop::Out(source)), _) | (Ok(_), Err(source)) => {
            return Err(Failure::Write { path: "standard output".into(), source });
        }
        (Ok(counts), Ok(())) => counts,
    };
    Ok(Answer::streamed()
        .note(format!("exported {written} of {read} records, each in its place and unchanged")))
}

/// Why an export ended early.
enum Stop {
    Log(Failure),
    Out(io::Error),
}

/// Returns how many records there were, and how many were written.
fn write(
    dir: &Path,
    format: ExportFormat,
    syslog: &Syslog<'_>,
    filter: &Filter<'_>,
    out: &mut dyn Write,
) -> Result<(u64, u64), Stop> {
    let broken = |error| Stop::Log(Failure::Audit(error));
    let mut records = Merged::new(dir, filter.replicas(), false).map_err(broken)?;
    let (mut read, mut written) = (0, 0);
    while let Some(record) = records.next().map_err(broken)? {
        read += 1;
        if filter.passes(&record) {
            let mut text = format.text(&record, syslog);
            text.push('\n');
            out.write_all(text.as_bytes()).map_err(Stop::Out)?;
            written += 1;
        }
    }
    Ok((read, written))
}

#[cfg(test)]
mod tests;
