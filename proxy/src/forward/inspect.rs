//! Reads along with hyper on HTTP/1 connections and refuses what hyper would accept, or repair before anybody sees it: a
//! line that ends without CR, `Content-Length` beside `Transfer-Encoding`, a length that comes twice, a transfer coding
//! that is not exactly `chunked`, spaces and other liberties in chunk sizes (RFC 9112, sections 2.2, 6.1, 6.3 and 7.1).
//! Servers disagree about each of them, and two that disagree about where a request ends let a second one through.
//!
//! It follows the framing alone, line by line, over the bytes where they lie. Only a line that two reads share is copied.

mod head;
#[cfg(test)]
mod tests;

use std::mem;

use head::Head;

/// Why a request is refused, and where in the bytes that were looked at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Violation {
    /// Position of the byte that may not be there.
    pub(super) at: usize,
    pub(super) reason: &'static str,
    /// Whether it is in a head, which hyper will answer when it finds a byte there that no head can have.
    pub(super) in_head: bool,
}

/// Follows the requests of one connection.
pub(super) struct Inspector {
    expects: Expects,
    /// What came of a line whose end did not.
    partial: Vec<u8>,
    longest_line: usize,
    heads: u32,
}

enum Expects {
    /// A line of a head.
    Head(Head),
    /// This much of a body.
    Body(u64),
    ChunkSize,
    /// This much of a chunk.
    Chunk(u64),
    /// The line end behind a chunk.
    ChunkEnd,
    Trailers,
    /// Nothing: there was a violation.
    Nothing,
}

impl Inspector {
    /// At the start of a connection. Longer lines than `longest_line` are nobody's: hyper refuses them by its own limits.
    pub(super) fn new(longest_line: usize) -> Self {
        Self { expects: Expects::Head(Head::default()), partial: Vec::new(), longest_line, heads: 0 }
    }

    /// How many heads of requests have ended.
    pub(super) fn heads(&self) -> u32 {
        self.heads
    }

    /// Whether a request has begun and not ended, as far as its framing tells.
    pub(super) fn is_within_request(&self) -> bool {
        !matches!(&self.expects, Expects::Head(head) if head.is_empty()) || !self.partial.is_empty()
    }

    /// Looks at the next bytes.
    ///
    /// # Errors
    ///
    /// [`Violation`]; everything that follows is one as well.
    pub(super) fn inspect(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            at += match &mut self.expects {
                Expects::Body(left) | Expects::Chunk(left) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= taken as u64;
                    match self.expects {
                        Expects::Body(0) => self.expects = Expects::Head(Head::default()),
                        Expects::Chunk(0) => self.expects = Expects::ChunkEnd,
                        _ => {}
                    }
                    taken
                }
                Expects::Nothing => return Err(self.refuse(at, "bytes behind a refused request", false)),
                _ => match memchr::memchr(b'\n', rest) {
                    Some(end) => {
                        let in_head = matches!(self.expects, Expects::Head(_));
                        self.line(&rest[..end]).map_err(|reason| self.refuse(at + end, reason, in_head))?;
                        end + 1
                    }
                    None => {
                        if self.partial.len() + rest.len() > self.longest_line {
                            // Enough for hyper to refuse it; whatever follows is not read.
                            self.expects = Expects::Nothing;
                            self.partial = Vec::new();
                            return Ok(());
                        }
                        self.partial.extend_from_slice(rest);
                        rest.len()
                    }
                },
            };
        }
        Ok(())
    }

    /// Takes a line without its LF.
    fn line(&mut self, end: &[u8]) -> Result<(), &'static str> {
        if self.partial.is_empty() {
            return self.whole_line(end);
        }
        let mut line = mem::take(&mut self.partial);
        line.extend_from_slice(end);
        self.whole_line(&line)
    }

    fn whole_line(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let Some(line) = line.strip_suffix(b"\r") else { return Err("a line ends without CR") };
        let next = match &mut self.expects {
            Expects::Head(head) if line.is_empty() => {
                let body = mem::take(head).end()?;
                self.heads = self.heads.wrapping_add(u32::from(body.is_some()));
                body.map(Expects::of)
            }
            Expects::Head(head) => {
                head.line(line)?;
                None
            }
            Expects::ChunkSize => Some(match chunk_size(line)? {
                0 => Expects::Trailers,
                size => Expects::Chunk(size),
            }),
            Expects::ChunkEnd if line.is_empty() => Some(Expects::ChunkSize),
            Expects::ChunkEnd => return Err("a chunk is longer than its size"),
            Expects::Trailers if line.is_empty() => Some(Expects::Head(Head::default())),
            Expects::Trailers if line.starts_with(b" ") || line.starts_with(b"\t") => {
                return Err("a trailer field is folded");
            }
            Expects::Trailers | Expects::Body(_) | Expects::Chunk(_) | Expects::Nothing => None,
        };
        if let Some(next) = next {
            self.expects = next;
        }
        Ok(())
    }

    fn refuse(&mut self, at: usize, reason: &'static str, in_head: bool) -> Violation {
        self.expects = Expects::Nothing;
        Violation { at, reason, in_head }
    }
}

impl Expects {
    fn of(body: head::Body) -> Self {
        match body {
            head::Body::None => Self::Head(Head::default()),
            head::Body::Length(length) => Self::Body(length),
            head::Body::Chunked => Self::ChunkSize,
        }
    }
}

/// Reads the line before a chunk: hexadecimal digits, and extensions behind a semicolon, which are not passed on.
fn chunk_size(line: &[u8]) -> Result<u64, &'static str> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, extensions) = line.split_at(digits);
    let is_text = |&byte: &u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    let extensions_are_valid = match extensions.trim_ascii_start() {
        [] => extensions.is_empty(),
        [b';', text @ ..] => text.iter().all(is_text),
        _ => false,
    };
    if !extensions_are_valid {
        return Err("a chunk's size is not hexadecimal digits");
    }
    if digits.is_empty() || digits.len() > 16 {
        return Err("a chunk's size has no digits or more than 16");
    }
    let size = std::str::from_utf8(digits).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
    size.ok_or("a chunk's size is not hexadecimal digits")
}
