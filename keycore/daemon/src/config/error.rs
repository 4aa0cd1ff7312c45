//! What is wrong with a configuration file, and on which line.

/// A configuration that can't be used; whoever wrote the file has to change it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A key that there is not.
    #[error("line {line}: unknown key `{key}`; {advice}")]
    UnknownKey {
        /// Line of the key, from 1.
        line: usize,
        /// The key as written.
        key: String,
        /// The nearest valid key, or all of them.
        advice: String,
    },
    /// Not TOML, or a value of the wrong type or out of bounds.
    #[error("line {line}: {message}")]
    Invalid {
        /// Line of the value, from 1.
        line: usize,
        /// What was expected, in one line.
        message: String,
    },
    /// `socket-dir` leaves no room for the sockets' names.
    #[error(
        "socket-dir: the path of a socket in it would be {length} bytes long, Linux allows {limit}; choose a shorter one"
    )]
    SocketPathTooLong {
        /// Bytes of the longest socket path.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// Not every replica has a port, or not every port a replica.
    #[error(
        "listen-tcp: {addresses} addresses for {replicas} replicas; name one for each, replica n listens at the n-th"
    )]
    ListenTcpCount {
        /// How many addresses there are.
        addresses: usize,
        /// How many replicas.
        replicas: u16,
    },
    /// A port that nobody could know, or that two replicas would share.
    #[error("listen-tcp: {address} has no port, or is there twice; 2223, 2224 and 2225 are usual")]
    ListenTcpAddress {
        /// Which.
        address: std::net::SocketAddr,
    },
    /// An unseal secret in a file, and people who are to give it.
    #[error("unseal = \"custodians\" and unseal-file contradict each other; remove one of them")]
    UnsealTwice,
    /// Backups without a place, or for nobody.
    #[error("[backup]: set both directory and recipients, or neither; hsm backup keygen makes a recipient")]
    BackupIncomplete,
}

impl ConfigError {
    /// Puts a parser's error into words.
    pub(super) fn new(text: &str, error: &toml::de::Error) -> Self {
        let start = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = 1 + text.as_bytes()[..start].iter().filter(|&&byte| byte == b'\n').count();
        let mut message = error.message().trim().replace('\n', ", ");
        // serde's text: unknown field `a`, expected one of `b`, `c`. Its list is the one list of the keys.
        if message.starts_with("unknown field") {
            let mut quoted = message.split('`').skip(1).step_by(2).map(str::to_owned);
            let key = quoted.next().unwrap_or_default();
            let advice = advice(&key, &quoted.collect::<Vec<_>>());
            return Self::UnknownKey { line, key, advice };
        }
        if let Some(key) = key_on(text, line).filter(|_| error.span().is_some()) {
            message = format!("{message} (key `{key}`)");
        }
        Self::Invalid { line, message }
    }
}

/// The bare key that line `line` begins with, if it does.
fn key_on(text: &str, line: usize) -> Option<&str> {
    let (key, _) = text.lines().nth(line - 1)?.split_once('=')?;
    let key = key.trim();
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (!key.is_empty() && key.chars().all(bare)).then_some(key)
}

fn advice(key: &str, valid: &[String]) -> String {
    let nearest = valid.iter().map(|valid| (edit_distance(key, valid), valid)).min();
    match nearest {
        // A third of the letters wrong is still a slip of the finger; more is another word.
        Some((distance, valid)) if distance * 3 <= valid.len() => format!("did you mean `{valid}`?"),
        _ => {
            let all: Vec<_> = valid.iter().map(|valid| format!("`{valid}`")).collect();
            format!("the keys are {}", all.join(", "))
        }
    }
}

/// Levenshtein's distance in bytes.
fn edit_distance(a: &str, b: &str) -> usize {
    // A hostile key of a megabyte must not cost a megabyte times the number of keys.
    if a.len() > b.len() * 2 {
        return a.len();
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_single_edits() {
        for (a, b, expected) in
            [("", "abc", 3), ("abc", "abc", 0), ("abc", "axc", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(edit_distance(a, b), expected, "{a} {b}");
        }
    }
}
