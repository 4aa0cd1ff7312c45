use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A configuration that can't be used: where it is wrong, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    file: Option<PathBuf>,
    /// Line and column, from 1.
    position: Option<(usize, usize)>,
    message: String,
}

impl ConfigError {
    pub(super) fn syntax(text: &str, error: &toml::de::Error) -> Self {
        let message = error.message();
        let message = match suggestion(message) {
            Some(known) => format!("{}; did you mean `{known}`?", message.trim_end_matches('.')),
            None => match advice(message) {
                Some(advice) => format!("{message}: {advice}"),
                None => message.to_owned(),
            },
        };
        Self::at(text, error.span(), message)
    }

    pub(super) fn at(text: &str, span: Option<Range<usize>>, message: impl Into<String>) -> Self {
        let position = span.and_then(|span| text.get(..span.start)).map(|before| {
            let line_start = before.rfind('\n').map_or(0, |at| at + 1);
            (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
        });
        Self { file: None, position, message: message.into() }
    }

    pub(super) fn unreadable(path: &Path, error: &io::Error) -> Self {
        Self { file: Some(path.to_owned()), position: None, message: format!("can't be read: {error}") }
    }

    pub(super) fn in_file(self, path: &Path) -> Self {
        Self { file: Some(path.to_owned()), ..self }
    }

    /// The line, from 1, if one can be named.
    pub fn line(&self) -> Option<usize> {
        self.position.map(|(line, _)| line)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{}", file.display())?,
            None => f.write_str("configuration")?,
        }
        if let Some((line, column)) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for ConfigError {}

/// The known key that is closest to the unknown one, out of serde's message: ``unknown field `a`, expected one of `b`,
/// `c` ``.
fn suggestion(message: &str) -> Option<&str> {
    let rest = message.strip_prefix("unknown field `")?;
    let (unknown, rest) = rest.split_once('`')?;
    let known = rest.split('`').skip(1).step_by(2);
    known
        .map(|known| (edit_distance(unknown, known), known))
        .min()
        .filter(|&(distance, known)| distance <= 2 + known.len() / 4)
        .map(|(_, known)| known)
}

/// What to write instead, where the parser only says that it did not understand.
fn advice(message: &str) -> Option<&'static str> {
    if message.contains("socket address") {
        Some("write an IP address and a port, as in \"127.0.0.1:8443\"")
    } else if message.contains("integer") && message.contains("expected a string") {
        Some("durations and sizes have a unit, as in \"10s\" and \"64KiB\"")
    } else if message.contains("expected a sequence") {
        Some("write a list in brackets; sites are tables of their own, headed [[site]]")
    } else {
        None
    }
}

/// How many characters to insert, delete or replace (Levenshtein).
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
