/// Follows each case on the same connection: where a front sees its end, there the case's request ended.
const AFTER: &str = "GET /after HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// One request, and why this proxy differs from nginx or HAProxy if it does.
pub(crate) struct Case {
    pub(crate) group: &'static str,
    pub(crate) name: &'static str,
    pub(crate) raw: String,
    pub(crate) why: &'static str,
}

impl Case {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        [self.raw.as_bytes(), AFTER.as_bytes()].concat()
    }

    /// For the document: control characters as their pictures, cut if it is long.
    pub(crate) fn shown(&self) -> String {
        let picture = |c: char| match c {
            '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(c)).unwrap_or(c),
            other => other,
        };
        let text = self.raw.replace("Host: localhost\r\n", "…");
        let shown: String = text.chars().take(120).map(picture).collect();
        let cut = if text.chars().count() > 120 { "…" } else { "" };
        format!("`{shown}{cut}`")
    }
}

const STRICT: &str = "refused: two servers could read it in two ways";
const REBUILT: &str = "the request is written anew, in one form";
const H: &str = "Host: localhost\r\n";
const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

pub(crate) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    let mut add = |group, rows: Vec<(&'static str, String, &'static str)>| {
        all.extend(rows.into_iter().map(|(name, raw, why)| Case { group, name, raw, why }));
    };
    add("Ordinary requests", ordinary());
    add("Framing of bodies", framing());
    add("Chunks", chunks());
    add("Lines", lines());
    add("Targets and hosts", targets());
    add("Fields", fields());
    all
}

type Rows = Vec<(&'static str, String, &'static str)>;

fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\n{H}{fields}\r\n")
}

fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\n{H}{fields}\r\n{body}")
}

fn target(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\n{H}\r\n")
}

fn ordinary() -> Rows {
    let early = "nginx 1.22 takes the hints for the answer; the HTTP library here has no way to send any, so the answer alone arrives";
    vec![
        ("GET", get(""), ""),
        ("GET in HTTP/1.0", format!("GET / HTTP/1.0\r\n{H}\r\n"), ""),
        ("GET in HTTP/1.0, kept alive", format!("GET / HTTP/1.0\r\n{H}Connection: keep-alive\r\n\r\n"), ""),
        ("HEAD", format!("HEAD /head HTTP/1.1\r\n{H}\r\n"), ""),
        ("POST with a length", post("Content-Length: 5\r\n", "hello"), ""),
        (
            "POST with chunks",
            post(CHUNKED, "5\r\nhello\r\n0\r\n\r\n"),
            "nginx collects the body first and gives it a length",
        ),
        ("POST without a body", post("", ""), ""),
        ("GET with a body", get("Content-Length: 5\r\n") + "hello", ""),
        ("DELETE with a body", format!("DELETE / HTTP/1.1\r\n{H}Content-Length: 2\r\n\r\nhi"), ""),
        ("OPTIONS *", format!("OPTIONS * HTTP/1.1\r\n{H}\r\n"), "nginx has no resource `*`"),
        ("an unknown method", format!("PURGE / HTTP/1.1\r\n{H}\r\n"), ""),
        (
            "Expect: 100-continue",
            post("Content-Length: 2\r\nExpect: 100-continue\r\n", "hi"),
            "the expectation goes to the upstream, so that it may refuse before the body comes; nginx answers by itself, and a body that is there already needs no 100",
        ),
        ("a range", format!("GET /range HTTP/1.1\r\n{H}Range: bytes=0-0\r\n\r\n"), ""),
        ("early hints", format!("GET /early HTTP/1.1\r\n{H}\r\n"), early),
        (
            "trailers of a response",
            format!("GET /trailers HTTP/1.1\r\n{H}TE: trailers\r\nConnection: te\r\n\r\n"),
            "nginx drops `TE: trailers`, by which an upstream like a gRPC server decides whether to send trailers",
        ),
        ("two pipelined requests", get("") + &get(""), ""),
        ("Connection: close", get("Connection: close\r\n"), ""),
        (
            "an absolute target",
            format!("GET http://localhost/x HTTP/1.1\r\n{H}\r\n"),
            "the upstream gets the path alone, as RFC 9112 has it for origin servers",
        ),
    ]
}

fn framing() -> Rows {
    vec![
        ("length, then coding", post(&format!("Content-Length: 5\r\n{CHUNKED}"), "0\r\n\r\n"), STRICT),
        ("coding, then length", post(&format!("{CHUNKED}Content-Length: 5\r\n"), "0\r\n\r\n"), STRICT),
        ("two different lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"), ""),
        ("the same length twice", post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), STRICT),
        ("a list of equal lengths", post("Content-Length: 5, 5\r\n", "hello"), STRICT),
        ("a signed length", post("Content-Length: +5\r\n", "hello"), ""),
        ("a negative length", post("Content-Length: -5\r\n", "hello"), ""),
        ("a hexadecimal length", post("Content-Length: 0x5\r\n", "hello"), ""),
        ("an empty length", post("Content-Length:\r\n", ""), ""),
        (
            "a length beyond 64 bits",
            post("Content-Length: 18446744073709551617\r\n", "x"),
            "HAProxy calculates modulo 2⁶⁴",
        ),
        ("coding in HTTP/1.0", format!("POST / HTTP/1.0\r\n{H}{CHUNKED}\r\n0\r\n\r\n"), STRICT),
        (
            "gzip, chunked",
            post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
            "no server here undoes gzip: passing it on would hide the body from every rule",
        ),
        (
            "chunked, identity",
            post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
            "400 and 501 both refuse it",
        ),
        ("identity", post("Transfer-Encoding: identity\r\nContent-Length: 2\r\n", "hi"), STRICT),
        ("chunked twice", post(&format!("{CHUNKED}{CHUNKED}"), "0\r\n\r\n"), STRICT),
        ("xchunked", post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), "400 and 501 both refuse it"),
        (
            "a coding behind a vertical tab",
            post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"),
            "400 and 501 both refuse it",
        ),
        (
            "an upgrade with a body",
            format!(
                "GET / HTTP/1.1\r\n{H}Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nhi"
            ),
            STRICT,
        ),
        (
            "an upgrade to h2c",
            get("Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
            "`h2c` would carry requests past every rule: it is never offered to an upstream",
        ),
    ]
}

fn chunks() -> Rows {
    let post = |chunks: &str| post(CHUNKED, chunks);
    let sent = "RFC 9112 wants CR LF; servers that take LF alone and those that do not see other ends";
    vec![
        ("an extension", post("5;a=b\r\nhello\r\n0\r\n\r\n"), REBUILT),
        ("a trailer", post("2\r\nhi\r\n0\r\nX-T: y\r\n\r\n"), REBUILT),
        ("LF behind a size", post("5\nhello\r\n0\r\n\r\n"), sent),
        ("LF in an extension", post("5;a\nhello\r\n0\r\n\r\n"), sent),
        ("a space behind a size", post("5 \r\nhello\r\n0\r\n\r\n"), STRICT),
        ("0x5", post("0x5\r\nhello\r\n0\r\n\r\n"), sent),
        ("a negative size", post("-1\r\nhello\r\n0\r\n\r\n"), sent),
        ("a size beyond 64 bits", post("10000000000000005\r\nhello\r\n0\r\n\r\n"), sent),
        ("no size", post("\r\nhello\r\n0\r\n\r\n"), sent),
        ("more data than the size", post("3\r\nhello\r\n0\r\n\r\n"), sent),
        ("LF in a trailer", post("2\r\nhi\r\n0\r\nX-T: y\n\r\n"), STRICT),
    ]
}

fn lines() -> Rows {
    vec![
        ("LF alone", "GET / HTTP/1.1\nHost: localhost\n\n".to_owned(), STRICT),
        ("LF behind a field", format!("GET / HTTP/1.1\r\n{H}X: y\n\r\n"), STRICT),
        ("CR in a value", get("X: a\rb\r\n"), ""),
        ("CR alone", "GET / HTTP/1.1\rHost: localhost\r\r".to_owned(), ""),
        ("a folded field", get("X: a\r\n b\r\n"), STRICT),
        ("a folded first field", format!("GET / HTTP/1.1\r\n {H}\r\n"), ""),
        (
            "a null byte in a value",
            get("X: a\0b\r\n"),
            "no field may have one; some servers end the value there",
        ),
        ("space before a colon", get("X : y\r\n"), STRICT),
        ("a field without a colon", get("X\r\n"), STRICT),
        ("a field without a name", get(": y\r\n"), STRICT),
        ("an empty line before", "\r\n".to_owned() + &get(""), ""),
        ("two spaces in the request line", format!("GET  / HTTP/1.1\r\n{H}\r\n"), STRICT),
        ("a tab in the request line", format!("GET\t/ HTTP/1.1\r\n{H}\r\n"), STRICT),
        ("HTTP/1.2", format!("GET / HTTP/1.2\r\n{H}\r\n"), "nobody knows what HTTP/1.2 would be"),
        (
            "HTTP/2.0 in HTTP/1",
            format!("GET / HTTP/2.0\r\n{H}\r\n"),
            "the version is not spoken in this form",
        ),
        ("HTTP/0.9", "GET /\r\n".to_owned(), "HTTP/0.9 has no host, so it belongs to no site"),
        ("http/1.1 in lower case", format!("GET / http/1.1\r\n{H}\r\n"), ""),
    ]
}

fn targets() -> Rows {
    let long = format!("/{}", "a".repeat(40_000));
    vec![
        ("no Host", "GET / HTTP/1.1\r\n\r\n".to_owned(), "RFC 9112 wants 400"),
        ("an empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n".to_owned(), "it belongs to no site"),
        ("two Hosts", format!("GET / HTTP/1.1\r\n{H}{H}\r\n"), STRICT),
        (
            "a Host with a path",
            "GET / HTTP/1.1\r\nHost: localhost/x\r\n\r\n".to_owned(),
            "it is no host name",
        ),
        (
            "a Host of nobody",
            "GET / HTTP/1.1\r\nHost: other.example\r\n\r\n".to_owned(),
            "the certificate is not that host's: 421; the others have one site here, which takes all hosts",
        ),
        (
            "a Host with a user",
            "GET / HTTP/1.1\r\nHost: a@localhost\r\n\r\n".to_owned(),
            "it is no host name",
        ),
        (
            "an absolute target of another host",
            format!("GET http://other.example/ HTTP/1.1\r\n{H}\r\n"),
            STRICT,
        ),
        (
            "CONNECT",
            "CONNECT localhost:443 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
            "405 says what is wrong; a reverse proxy has no tunnels",
        ),
        ("TRACE", format!("TRACE / HTTP/1.1\r\n{H}\r\n"), "it would show fields that this proxy adds"),
        ("a target without a slash", target("x"), ""),
        (
            "a fragment",
            target("/a#b"),
            "no client sends one; servers disagree whether it belongs to the path",
        ),
        ("a target with ..", target("/a/../b"), "passed on as it came: the upstream resolves it"),
        ("a target with %2e%2e", target("/a/%2e%2e/b"), ""),
        ("a null byte in the target", target("/a\0b"), ""),
        ("bytes beyond ASCII in the target", target("/ä"), "passed on as they came, like nginx does"),
        ("a target of 40 kB", target(&long), "the limit is `limits.header-bytes`, 64 KiB"),
    ]
}

fn fields() -> Rows {
    let many: String = (0..120).map(|n| format!("X-{n}: y\r\n")).collect();
    let long = format!("X: {}\r\n", "y".repeat(70_000));
    vec![
        (
            "a forged X-Forwarded-For",
            get("X-Forwarded-For: 6.6.6.6\r\n"),
            "what a client claims about its address is dropped; the others append to it",
        ),
        ("an underscore in X_Forwarded_For", get("X_Forwarded_For: 6.6.6.6\r\n"), ""),
        (
            "an underscore in a name",
            get("X_Under: y\r\n"),
            "passed on, but for names that CGI takes for those of this proxy",
        ),
        ("a field twice", get("X-Dup: a\r\nX-Dup: b\r\n"), ""),
        ("an empty value", get("X-Empty:\r\n"), ""),
        (
            "Proxy",
            get("Proxy: http://6.6.6.6/\r\n"),
            "CVE-2016-5385: CGI takes it for the setting HTTP_PROXY",
        ),
        (
            "Connection names Content-Length",
            post("Content-Length: 2\r\nConnection: content-length\r\n", "hi"),
            "",
        ),
        (
            "Upgrade without Connection",
            get("Upgrade: websocket\r\n"),
            "a field of one connection, which is not passed on",
        ),
        ("120 fields", get(&many), "the limit is `limits.headers`"),
        ("a field of 70 kB", get(&long), "the limit is `limits.header-bytes`"),
    ]
}
