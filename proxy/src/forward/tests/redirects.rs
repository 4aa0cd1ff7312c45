//! The listener in plain HTTP.

use super::*;
use crate::journal::Journal;

async fn plain(proxy: &Proxy, request: impl AsRef<[u8]>) -> String {
    let (mut client, server) = tokio::io::duplex(PIPE);
    let (forwarder, sites) = (Rc::clone(&proxy.forwarder), Arc::clone(&proxy.sites));
    let shutdown = proxy.shutdown.clone();
    let journal = Rc::new(Journal::default());
    let connection = Rc::new(connection_from("192.0.2.7:4711", Protocol::Http1));
    spawn_local(async move { forwarder.redirect(server, connection, sites, journal, 8443, shutdown).await });
    client.write_all(request.as_ref()).await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[test]
fn clients_are_sent_to_https_and_nothing_is_forwarded() {
    on_worker(async {
        let (upstream, seen) = answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        let proxy = Proxy::to(upstream);
        for (request, status, location) in [
            ("GET /a?b HTTP/1.1\r\nHost: Example.org:80\r\n", "301", Some("https://example.org:8443/a?b")),
            ("HEAD / HTTP/1.0\r\nHost: example.org\r\n", "301", Some("https://example.org:8443/")),
            (
                "POST / HTTP/1.1\r\nHost: example.org\r\nContent-Length: 0\r\n",
                "308",
                Some("https://example.org:8443/"),
            ),
            ("GET / HTTP/1.1\r\nHost: other.org\r\n", "421", None),
            ("GET /.well-known/acme-challenge/x HTTP/1.1\r\nHost: example.org\r\n", "404", None),
            ("GET / HTTP/1.1\r\nHost: example.org\r\nX: y\nZ: z\r\n", "400", None),
            ("GET / HTTP/1.1\r\n", "400", None),
        ] {
            let answer = plain(&proxy, format!("{request}Connection: close\r\n\r\n")).await;
            assert!(answer.get(9..12) == Some(status), "{request}: {answer}");
            let sent = answer.lines().find_map(|line| line.strip_prefix("location: "));
            assert_eq!(sent, location, "{request}");
        }
        assert_eq!(seen.count(), 0);
    });
}
