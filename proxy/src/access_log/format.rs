use std::fmt::{self, Display, Formatter, Write};
use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderValue, Method, Version};
use time::OffsetDateTime;

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
    pub(crate) method: &'a Method,
    /// Path, and query if that is wanted.
    pub(crate) target: &'a str,
    pub(crate) version: Version,
    /// 499, as nginx has it, if the client was gone before there was one.
    pub(crate) status: u16,
    /// Bytes of the response's body that were sent.
    pub(crate) bytes: u64,
    pub(crate) referer: Option<&'a HeaderValue>,
    pub(crate) user_agent: Option<&'a HeaderValue>,
    pub(crate) tls_version: &'a str,
    pub(crate) cipher_suite: &'a str,
    pub(crate) resumed: bool,
    /// The engine that signed the connection's handshake.
    pub(crate) signed_by: Option<&'a str>,
    /// Whether queries may be written.
    pub(crate) with_query: bool,
}

impl<'a> Entry<'a> {
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
        for c in String::from_utf8_lossy(self.0).chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                // Also those above U+007F, and what some programs take for the end of a line.
                c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                    write!(f, "\\u{:04x}", u32::from(c))?;
                }
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

/// What stands between quotation marks in the NCSA formats: as in nginx and Apache, all but printable ASCII becomes `\xHH`.
struct Quoted<'a>(&'a [u8]);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|&byte| match byte {
            b'"' | b'\\' => write!(f, "\\x{byte:02X}"),
            b' '..=b'~' => f.write_char(char::from(byte)),
            _ => write!(f, "\\x{byte:02X}"),
        })
    }
}

/// UTC to the millisecond.
struct Rfc3339(OffsetDateTime);

impl Display for Rfc3339 {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (date, time) = (self.0.date(), self.0.time());
        write!(f, "{:04}-{:02}-{:02}T", date.year(), u8::from(date.month()), date.day())?;
        write!(f, "{:02}:{:02}:{:02}.{:03}Z", time.hour(), time.minute(), time.second(), time.millisecond())
    }
}

/// As in `10/Oct/2000:13:55:36 +0000`.
struct Ncsa(OffsetDateTime);

impl Display for Ncsa {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (date, time) = (self.0.date(), self.0.time());
        let month = date.month().to_string();
        let month = month.get(..3).unwrap_or(&month);
        write!(f, "{:02}/{month}/{:04}:", date.day(), date.year())?;
        write!(f, "{:02}:{:02}:{:02} +0000", time.hour(), time.minute(), time.second())
    }
}
