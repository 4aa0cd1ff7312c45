//! When tickets of TLS 1.3 come.

use std::io::{Read, Write};

use rustls::version::TLS13;

use crate::support::{Client, Running, Signing, config};

/// A client whose kernel collects small writes would send its request only when its Finished is acknowledged.
#[test]
fn who_says_nothing_after_the_handshake_has_its_ticket_at_once() {
    let proxy = Running::start(config(&[&["a.example"]]), Signing::AtOnce);
    let mut connection = Client::new(&proxy).versions(&[&TLS13]).connect("a.example").unwrap();
    let stream = connection.stream();
    while stream.conn.tls13_tickets_received() == 0 {
        assert_ne!(stream.conn.read_tls(&mut stream.sock).unwrap(), 0, "closed before there was a ticket");
        stream.conn.process_new_packets().unwrap();
    }
}

#[test]
fn a_ticket_comes_with_the_response_to_a_request_that_came_with_the_finished() {
    let proxy = Running::start(config(&[&["a.example"]]), Signing::AtOnce);
    let client = Client::new(&proxy).versions(&[&TLS13]);
    let (mut connection, mut socket) = client.before_its_second_flight("a.example");
    assert!(!connection.is_handshaking(), "the server's flight is here");
    connection.writer().write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
    let mut both = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut both).unwrap();
    }
    socket.write_all(&both).unwrap();
    let mut response = [0; 15];
    rustls::Stream::new(&mut connection, &mut socket).read_exact(&mut response).unwrap();
    assert_eq!(&response, b"HTTP/1.1 200 OK");
    assert_eq!(connection.tls13_tickets_received(), 1);
}
