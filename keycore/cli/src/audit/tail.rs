//! `hsm audit tail`

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use keycore_audit::Merged;
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::filter::Filter;
use super::record::{HEAD, Line, line};
use crate::failure::Failure;
use crate::output::{Answer, Format, table};

/// How often logs are looked at for new records.
const PERIOD: Duration = Duration::from_millis(200);

/// Shows the last `count` records that pass, and those that come if it follows.
pub(super) fn tail(
    dir: &Path,
    count: usize,
    follow: bool,
    filter: &Filter<'_>,
    output: Format,
) -> Result<Answer, Failure> {
    let mut records = Merged::new(dir, filter.replicas(), follow)?;
    let latest = latest(&mut records, count, filter)?;
    let (rows, views): (Vec<_>, Vec<_>) = latest.into_iter().map(|line| (line.row, line.view)).unzip();
    if !follow {
        return Ok(Answer::new(table(HEAD, &rows), json!({ "records": views })));
    }
    let interrupted = Interrupt::new().map_err(stdout)?;
    let mut out = io::stdout().lock();
    let shown = match output {
        Format::Table => write!(out, "{}", table(HEAD, &rows)),
        Format::Json => views.iter().try_for_each(|view| writeln!(out, "{view}")),
    };
    let mut widths = HEAD.map(str::len);
    rows.iter().for_each(|row| widen(&mut widths, row));
    let mut shown = shown.and_then(|()| out.flush());
    loop {
        match shown {
            // Whoever read it has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Answer::streamed()),
            Err(error) => return Err(stdout(error)),
            Ok(()) if interrupted.within(PERIOD) => return Ok(Answer::streamed()),
            Ok(()) => {}
        }
        shown = Ok(());
        while shown.is_ok()
            && let Some(record) = records.next()?
        {
            if filter.passes(&record) {
                let Line { row, view } = line(&record);
                widen(&mut widths, &row);
                shown = match output {
                    Format::Table => writeln!(out, "{}", aligned(&widths, &row)),
                    Format::Json => writeln!(out, "{view}"),
                };
            }
        }
        shown = shown.and_then(|()| out.flush());
    }
}

fn latest(records: &mut Merged, count: usize, filter: &Filter<'_>) -> Result<VecDeque<Line>, Failure> {
    let mut latest = VecDeque::new();
    while let Some(record) = records.next()? {
        if count > 0 && filter.passes(&record) {
            if latest.len() == count {
                latest.pop_front();
            }
            latest.push_back(line(&record));
        }
    }
    Ok(latest)
}

/// Columns become as wide as their widest cell so far.
fn widen<const N: usize>(widths: &mut [usize; N], row: &[String; N]) {
    for (width, cell) in widths.iter_mut().zip(row) {
        *width = (*width).max(cell.chars().count());
    }
}

fn aligned<const N: usize>(widths: &[usize; N], row: &[String; N]) -> String {
    let cells: Vec<_> = row.iter().zip(widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
    cells.join("  ").trim_end().to_owned()
}

fn stdout(source: io::Error) -> Failure {
    Failure::Write { path: "standard output".into(), source }
}

/// Whether Ctrl-C was pressed, or an end was asked for.
struct Interrupt(UnixStream);

impl Interrupt {
    fn new() -> io::Result<Self> {
        let (told, tells) = UnixStream::pair()?;
        let again = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // The second time at once: whoever should read standard output may not.
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&again))?;
            signal_hook::flag::register(signal, Arc::clone(&again))?;
            signal_hook::low_level::pipe::register(signal, tells.try_clone()?)?;
        }
        Ok(Self(told))
    }

    /// Waits so long; returns at once when it happens.
    fn within(&self, period: Duration) -> bool {
        let mut told = &self.0;
        told.set_read_timeout(Some(period)).is_ok() && matches!(told.read(&mut [0]), Ok(1))
    }
}
