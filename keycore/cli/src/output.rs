//! What a command says, to people and to programs.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::ValueEnum;
use keycore_wire::UnixMillis;
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::failure::Failure;

/// Who reads the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    // No help texts: they would make every command's --help three times as long.
    #[default]
    Table,
    Json,
}

/// What a successful command has to say.
pub(crate) struct Answer {
    text: String,
    /// None if it was printed already.
    data: Option<Value>,
    notes: Vec<String>,
    /// What it means if nobody gets it, where that is not nothing.
    once: Option<&'static str>,
    exit: u8,
}

impl Answer {
    /// `text` is for people, `data` for programs.
    pub(crate) fn new(text: impl Into<String>, data: impl Serialize) -> Self {
        let data = Some(serde_json::to_value(data).unwrap_or(Value::Null));
        Self { text: text.into(), data, notes: Vec::new(), once: None, exit: 0 }
    }

    /// What there is to say went to standard output as it came.
    pub(crate) fn streamed() -> Self {
        Self { text: String::new(), data: None, notes: Vec::new(), once: None, exit: 0 }
    }

    /// Adds something that people should know; it goes to standard error.
    #[must_use]
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Tells something that nobody can ask for again: if it can't be printed, that is a failure, a closed pipe as well.
    /// `meaning` says what it comes to and what to do.
    #[must_use]
    pub(crate) fn told_once(mut self, meaning: &'static str) -> Self {
        self.once = Some(meaning);
        self
    }

    /// Ends in failure all the same, since a file could not be written.
    #[must_use]
    pub(crate) fn in_part(mut self) -> Self {
        self.exit = Failure::WRITE;
        self
    }
}

impl Format {
    /// Prints the outcome; returns the process's exit code.
    pub(crate) fn print(self, outcome: Result<Answer, Failure>) -> ExitCode {
        match outcome {
            Ok(Answer { text, data, notes, once, exit }) => {
                for note in notes {
                    // Standard error may be closed; there is nobody to tell then.
                    let _ = writeln!(io::stderr(), "{note}");
                }
                let written = match (self, data) {
                    (_, None) => Ok(()),
                    (Self::Table, Some(_)) => print(&text),
                    (Self::Json, Some(data)) => {
                        print(&json!({ "error_code": exit, "data": data }).to_string())
                    }
                };
                match written {
                    Ok(()) => ExitCode::from(exit),
                    Err(error) if once.is_some() => {
                        let meaning = once.unwrap_or_default();
                        let _ =
                            writeln!(io::stderr(), "hsm: can't print the answer: {error}\n     {meaning}");
                        ExitCode::from(Failure::WRITE)
                    }
                    // `hsm key list | head` is no failure.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
                    Err(_) => ExitCode::from(Failure::WRITE),
                }
            }
            Err(failure) => {
                let _ = match self {
                    Self::Table => write!(io::stderr(), "{}", failure.text()),
                    Self::Json => print(&failure.json().to_string()),
                };
                ExitCode::from(failure.exit_code())
            }
        }
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.is_empty() && !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Columns side by side, two spaces between them, as wide as their widest cell.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = head.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in core::iter::once(&head.map(str::to_owned)).chain(rows) {
        let mut line = String::new();
        for (&width, cell) in widths.iter().zip(row) {
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Name and value, one pair a line.
pub(crate) fn fields(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    fields.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

/// A time of the engine, in RFC 3339 and UTC, to the second.
pub(crate) fn timestamp(at: UnixMillis) -> String {
    let seconds = i64::try_from(at.0 / 1000).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{} ms after 1970", at.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_tail() {
        let rows = [["ä".to_owned(), "x".to_owned()], ["long".to_owned(), String::new()]];
        assert_eq!(table(["A", "B"], &rows), "A     B\nä     x\nlong\n");
        assert_eq!(fields(&[("id", "1".to_owned()), ("label", "2".to_owned())]), "id     1\nlabel  2\n");
    }

    #[test]
    fn times_are_readable_and_never_fail() {
        assert_eq!(timestamp(UnixMillis(1_795_000_000_123)), "2026-11-18T11:06:40Z");
        assert_eq!(timestamp(UnixMillis(u64::MAX)), format!("{} ms after 1970", u64::MAX));
    }
}
