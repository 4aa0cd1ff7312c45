/// What of a request's head tells where its body ends. The rest is hyper's to check.
#[derive(Default)]
pub(super) struct Head {
    has_request_line: bool,
    is_http_10: bool,
    lengths: u32,
    length: u64,
    codings: u32,
}

/// How a request goes on behind its head.
#[derive(Clone, Copy)]
pub(super) enum Body {
    None,
    /// In bytes, more than none.
    Length(u64),
    Chunked,
}

impl Head {
    /// Whether nothing of it has come.
    pub(super) fn is_empty(&self) -> bool {
        !self.has_request_line
    }

    /// Takes a line that is not empty, without its CR LF.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<(), &'static str> {
        if !self.has_request_line {
            self.has_request_line = true;
            self.is_http_10 = line.ends_with(b" HTTP/1.0");
            if memchr::memchr(b'#', line).is_some() {
                return Err("the request target has a fragment");
            }
            return Ok(());
        }
        match line[0] {
            b'c' | b'C' => {
                if let Some(value) = value_of(line, b"content-length") {
                    self.lengths += 1;
                    self.length = length(value).ok_or("Content-Length is not a number")?;
                }
            }
            b't' | b'T' => {
                if let Some(value) = value_of(line, b"transfer-encoding") {
                    self.codings += 1;
                    if !value.eq_ignore_ascii_case(b"chunked") {
                        return Err("Transfer-Encoding is not chunked");
                    }
                }
            }
            b' ' | b'\t' => return Err("a field is folded over two lines"),
            _ => {}
        }
        Ok(())
    }

    /// Its end; `None` if it has not begun: an empty line before a request is ignored (RFC 9112, section 2.2).
    pub(super) fn end(self) -> Result<Option<Body>, &'static str> {
        if !self.has_request_line {
            return Ok(None);
        }
        match (self.codings, self.lengths) {
            (0, 0) => Ok(Some(Body::None)),
            (0, 1) if self.length == 0 => Ok(Some(Body::None)),
            (0, 1) => Ok(Some(Body::Length(self.length))),
            (0, _) => Err("more than one Content-Length field"),
            (1, 0) if self.is_http_10 => Err("Transfer-Encoding in HTTP/1.0"),
            (1, 0) => Ok(Some(Body::Chunked)),
            (_, 0) => Err("more than one Transfer-Encoding field"),
            _ => Err("both Content-Length and Transfer-Encoding"),
        }
    }
}

/// The value of the field in `line`, if it has this name (in lower case), without the white space around it.
fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (found, rest) = line.split_at_checked(name.len())?;
    if !found.eq_ignore_ascii_case(name) {
        return None;
    }
    // White space before the colon is refused by hyper.
    let mut value = rest.trim_ascii_start().strip_prefix(b":")?;
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    Some(value)
}

fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}
