//! The built-in page: who signed the handshake that brought you here.

use std::fmt::Write;
use std::path::PathBuf;

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};

use crate::connection::ClientConnection;
use crate::sites::Handler;

/// A handler that answers every GET with the page: HTML for browsers, text for the rest.
pub(super) fn handler(replicas: u16, run: PathBuf) -> Handler {
    Handler::new(move |connection, request| {
        if request.method != Method::GET && request.method != Method::HEAD {
            let mut response = Response::new(Bytes::from_static(b"GET or HEAD, please\n"));
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            return response;
        }
        let wants_html = request
            .headers
            .get(ACCEPT)
            .and_then(|accept| accept.to_str().ok())
            .is_some_and(|accept| accept.contains("text/html"));
        let facts = facts(connection, replicas, &run);
        let (content_type, body) = if wants_html {
            ("text/html; charset=utf-8", html(&facts))
        } else {
            ("text/plain; charset=utf-8", text(&facts))
        };
        let mut response = Response::new(Bytes::from(body));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(
            CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'"),
        );
        response
    })
}

struct Fact {
    name: &'static str,
    value: String,
}

fn facts(connection: &ClientConnection, replicas: u16, run: &std::path::Path) -> Vec<Fact> {
    let handshake = &connection.handshake;
    let signed_by = match &handshake.signed_by {
        Some(engine) => engine_name(engine),
        None if handshake.resumed => "no engine this time: your client resumed an earlier session".to_owned(),
        None => "nobody knows".to_owned(),
    };
    let mut facts = vec![
        Fact { name: "handshake signed by", value: signed_by },
        Fact { name: "protocol", value: handshake.version.to_owned() },
        Fact { name: "cipher suite", value: handshake.cipher_suite.to_owned() },
        Fact { name: "key exchange", value: handshake.group.to_owned() },
        Fact { name: "proxy", value: format!("pid {}, no private key", std::process::id()) },
    ];
    facts.extend((0..replicas).map(|number| {
        let pid = std::fs::read_to_string(run.join(format!("engine-{number}.pid"))).unwrap_or_default();
        let value = match pid.trim() {
            "" => format!("engine {number}: down"),
            pid => format!("engine {number}: pid {pid}    (kill -9 {pid} and reload)"),
        };
        Fact { name: "engines", value }
    }));
    facts
}

/// `…/engine-0.sock` as people call it.
fn engine_name(endpoint: &str) -> String {
    let name = endpoint.rsplit('/').next().unwrap_or(endpoint);
    match name.strip_prefix("engine-").and_then(|rest| rest.strip_suffix(".sock")) {
        Some(number) => format!("engine {number}"),
        None => name.to_owned(),
    }
}

fn text(facts: &[Fact]) -> String {
    let mut text =
        String::from("hsm-proxy: this TLS connection was made without a private key in the proxy\n\n");
    for fact in facts {
        let _ = writeln!(text, "{:<20} {}", fact.name, fact.value);
    }
    text
}

fn html(facts: &[Fact]) -> String {
    let mut rows = String::new();
    for fact in facts {
        let _ = write!(rows, "<tr><th scope=row>{}<td>{}", escape(fact.name), escape(&fact.value));
    }
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>\
         <title>hsm-proxy</title><style>:root{{color-scheme:light dark;font:1rem/1.5 system-ui,sans-serif}}\
         body{{max-width:46rem;margin:3rem auto;padding:0 1rem}}th{{text-align:left;font-weight:600;padding:.3rem 1.5rem .3rem 0;\
         vertical-align:top}}td{{font-family:ui-monospace,monospace}}</style>\
         <h1>No private key here</h1><p>hsm-proxy terminated your TLS connection. The key that signed its handshake is in \
         another process, which never gives it away.</p><table>{rows}</table>\
         <p>Reload for another handshake, or kill an engine and reload: nothing is lost."
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_named_by_number() {
        assert_eq!(engine_name("/run/x/engine-1.sock"), "engine 1");
        assert_eq!(engine_name("/run/x/other"), "other");
    }

    #[test]
    fn values_are_escaped() {
        let page = html(&[Fact { name: "a", value: "<script>&".to_owned() }]);
        assert!(page.contains("&lt;script&gt;&amp;") && !page.contains("<script>"));
    }
}
