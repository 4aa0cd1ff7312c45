use std::fmt::{self, Display, Formatter, Write};
use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderValue, Method, Version};
use time::OffsetDateTime;

use crate::traces::TraceId;

/// A request and its response, as they are written down. Everything in it that a client chose is escaped: whatever it
/// sends, a line stays a line.
pub(crate) struct Entry<'a> {
    /// When the request's head was there.
    pub(crate) received: OffsetDateTime,
    /// From then to the response's last byte.
    pub(crate) took: Duration,
    pub(crate) client: IpAddr,
    /// The site's name; empty if it was none's.
    pub(crate) site: &'a str,
    /// The host that was asked for, as far as it is known; else the site's name. Not written.
    pub(crate) host: &'a str,
    pub(crate) method: &'a Method,
    /// Path, and query if that is wanted.
    pub(crate) target: &'a str,
    pub(crate) version: Version,
    /// [`Self::CLIENT_GONE`] if there was none.
    pub(crate) status: u16,
    /// Whether that is why there was none: a server may answer with the same number.
    pub(crate) is_client_gone: bool,
    /// Bytes of the response's body that were sent.
    pub(crate) bytes: u64,
    pub(crate) referer: Option<&'a HeaderValue>,
    pub(crate) user_agent: Option<&'a HeaderValue>,
    pub(crate) tls_version: &'a str,
    pub(crate) cipher_suite: &'a str,
    pub(crate) resumed: bool,
    /// The engine that signed the connection's handshake.
    pub(crate) signed_by: Option<&'a str>,
    /// What its trace is called, if there are traces.
    pub(crate) trace: Option<TraceId>,
    /// Whether queries may be written.
    pub(crate) with_query: bool,
}

impl<'a> Entry<'a> {
    /// The status of a request whose client was gone before there was one, as nginx has it.
    pub(crate) const CLIENT_GONE: u16 = 499;

    /// A JSON object.
    pub(super) fn json(&'a self) -> impl Display + 'a {
        fmt_fn(move |f| {
            write!(
                f,
                "{{\"time\":\"{}\",\"client\":\"{}\",\"site\":{},\"method\":{},\"target\":{},\"protocol\":\"{:?}\",\
                 \"status\":{},\"bytes\":{},\"seconds\":{:.6}",
                Rfc3339(self.received),
                self.client,
                Json(self.site.as_bytes()),
                Json(self.method.as_str().as_bytes()),
                Json(self.target.as_bytes()),
                self.version,
                self.status,
                self.bytes,
                self.took.as_secs_f64(),
            )?;
            for (name, value) in [("referer", self.referer()), ("user-agent", self.user_agent())] {
                if let Some(value) = value {
                    write!(f, ",\"{name}\":{}", Json(value))?;
                }
            }
            write!(
                f,
                ",\"tls\":\"{}\",\"cipher\":\"{}\",\"resumed\":{}",
                self.tls_version, self.cipher_suite, self.resumed
            )?;
            if let Some(trace) = self.trace {
                write!(f, ",\"trace_id\":\"{trace}\"")?;
            }
            match self.signed_by {
                Some(engine) => write!(f, ",\"engine\":{}}}", Json(engine.as_bytes())),
                None => f.write_char('}'),
            }
        })
    }

    /// `host ident user [date] "request" status bytes`.
    pub(super) fn common(&'a self) -> impl Display + 'a {
        fmt_fn(move |f| {
            write!(
                f,
                "{} - - [{}] \"{} {} {:?}\" {} ",
                self.client,
                Ncsa(self.received),
                Quoted(self.method.as_str().as_bytes()),
                Quoted(self.target.as_bytes()),
                self.version,
                self.status
            )?;
            if self.bytes == 0 { f.write_char('-') } else { write!(f, "{}", self.bytes) }
        })
    }

    /// The same, `"referer" "user agent"`.
    pub(super) fn combined(&'a self) -> impl Display + 'a {
        fmt_fn(move |f| {
            let field = |value: Option<&'a [u8]>| Quoted(value.unwrap_or(b"-"));
            write!(f, "{} \"{}\" \"{}\"", self.common(), field(self.referer()), field(self.user_agent()))
        })
    }

    fn user_agent(&self) -> Option<&'a [u8]> {
        self.user_agent.map(HeaderValue::as_bytes)
    }

    /// Where the client came from; the same site's query is as secret there as in the target.
    fn referer(&self) -> Option<&'a [u8]> {
        let referer = self.referer?.as_bytes();
        let end = referer.iter().position(|&byte| byte == b'?').filter(|_| !self.with_query);
        Some(&referer[..end.unwrap_or(referer.len())])
    }
}

/// A connection that was passed on, as it is written down when it has ended.
pub(crate) struct PassedEntry<'a> {
    /// When it began.
    pub(crate) received: OffsetDateTime,
    pub(crate) took: Duration,
    pub(crate) client: IpAddr,
    /// The passthrough's name.
    pub(crate) passthrough: &'a str,
    /// What the client asked for.
    pub(crate) sni: &'a str,
    /// `ok`, `unreachable` or `broken`.
    pub(crate) result: &'a str,
    pub(crate) from_client: u64,
    pub(crate) to_client: u64,
}

impl<'a> PassedEntry<'a> {
    /// A JSON object.
    pub(super) fn json(&'a self) -> impl Display + 'a {
        fmt_fn(move |f| {
            write!(
                f,
                "{{\"time\":\"{}\",\"client\":\"{}\",\"passthrough\":{},\"sni\":{},\"result\":\"{}\",\"received\":{},\
                 \"bytes\":{},\"seconds\":{:.6}}}",
                Rfc3339(self.received),
                self.client,
                Json(self.passthrough.as_bytes()),
                Json(self.sni.as_bytes()),
                self.result,
                self.from_client,
                self.to_client,
                self.took.as_secs_f64(),
            )
        })
    }

    /// As a request would be, with `PASSTHROUGH` for its method, the name for its target and 0 for its status.
    pub(super) fn common(&'a self) -> impl Display + 'a {
        fmt_fn(move |f| {
            write!(
                f,
                "{} - - [{}] \"PASSTHROUGH {} {}\" 0 {}",
                self.client,
                Ncsa(self.received),
                Quoted(self.sni.as_bytes()),
                self.result,
                self.to_client
            )
        })
    }
}

/// Displays by a function.
struct FmtFn<F>(F);

fn fmt_fn<F: Fn(&mut Formatter<'_>) -> fmt::Result>(f: F) -> FmtFn<F> {
    FmtFn(f)
}

impl<F: Fn(&mut Formatter<'_>) -> fmt::Result> Display for FmtFn<F> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        (self.0)(f)
    }
}

/// A JSON string (RFC 8259, section 7). Bytes that are not UTF-8 become U+FFFD.
struct Json<'a>(&'a [u8]);

impl Display for Json<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        let is_plain = |&byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        match std::str::from_utf8(self.0) {
            Ok(text) if self.0.iter().all(is_plain) => f.write_str(text)?,
            _ => self.escaped(f)?,
        }
        f.write_char('"')
    }
}

impl Json<'_> {
    fn escaped(&self, f: &mut Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(self.0).chars().try_for_each(|c| match c {
            '"' | '\\' => write!(f, "\\{c}"),
            // Also those above U+007F, and what some programs take for the end of a line.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                write!(f, "\\u{:04x}", u32::from(c))
            }
            c => f.write_char(c),
        })
    }
}

/// What stands between quotation marks in the NCSA formats: as in nginx and Apache, all but printable ASCII becomes `\xHH`.
struct Quoted<'a>(&'a [u8]);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        // Most fields are one plain piece.
        let mut rest = self.0;
        while !rest.is_empty() {
            let (plain, others) =
                rest.split_at(rest.iter().position(|byte| !is_plain(byte)).unwrap_or(rest.len()));
            f.write_str(std::str::from_utf8(plain).unwrap_or_default())?;
            let (escaped, next) = others.split_at(others.iter().position(is_plain).unwrap_or(others.len()));
            escaped.iter().try_for_each(|byte| write!(f, "\\x{byte:02X}"))?;
            rest = next;
        }
        Ok(())
    }
}

/// UTC to the millisecond.
struct Rfc3339(OffsetDateTime);

impl Display for Rfc3339 {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (date, time) = (self.0.date(), self.0.time());
        let mut text = *b"0000-00-00T00:00:00.000Z";
        put(&mut text[..4], date.year().unsigned_abs());
        put(&mut text[5..7], u8::from(date.month()).into());
        put(&mut text[8..10], date.day().into());
        put(&mut text[11..13], time.hour().into());
        put(&mut text[14..16], time.minute().into());
        put(&mut text[17..19], time.second().into());
        put(&mut text[20..23], time.millisecond().into());
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// As in `10/Oct/2000:13:55:36 +0000`.
struct Ncsa(OffsetDateTime);

const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

impl Display for Ncsa {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (date, time) = (self.0.date(), self.0.time());
        let mut text = *b"00/Jan/0000:00:00:00 +0000";
        put(&mut text[..2], date.day().into());
        text[3..6].copy_from_slice(MONTHS[usize::from(u8::from(date.month()) - 1)]);
        put(&mut text[7..11], date.year().unsigned_abs());
        put(&mut text[12..14], time.hour().into());
        put(&mut text[15..17], time.minute().into());
        put(&mut text[18..20], time.second().into());
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// Writes a number over the zeros of `digits`. By hand, for a time is in every line, and `{:02}` costs as much as the rest.
fn put(digits: &mut [u8], mut number: u32) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}
