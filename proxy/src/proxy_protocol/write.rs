use std::io;
use std::net::{IpAddr, SocketAddr};

use ppp::v2::{Addresses, Builder, Command, Protocol, Type, Version};

use super::Ends;

/// The header, of version 2, of a connection that is passed on for a client; with what TLS says of it, where it is known:
/// the name that the client asked for, and the protocol that it speaks (ALPN).
///
/// # Errors
///
/// None for a name that fits into SNI.
pub(crate) fn header_of(ends: Ends, name: Option<&str>, alpn: Option<&[u8]>) -> io::Result<Vec<u8>> {
    let mut header =
        Builder::with_addresses(Version::Two | Command::Proxy, Protocol::Stream, addresses(ends));
    if let Some(alpn) = alpn {
        header = header.write_tlv(Type::ALPN, alpn)?;
    }
    if let Some(name) = name {
        header = header.write_tlv(Type::Authority, name.as_bytes())?;
    }
    header.build()
}

/// The header of a connection that is nobody's but this proxy's: a health check.
pub(crate) fn own_header() -> io::Result<Vec<u8>> {
    Builder::with_addresses(Version::Two | Command::Local, Protocol::Unspecified, Addresses::Unspecified)
        .build()
}

/// Both ends in one family, IPv4 if they can be.
fn addresses(ends: Ends) -> Addresses {
    let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
    let (client, server) = (canonical(ends.client), canonical(ends.server));
    if client.is_ipv4() == server.is_ipv4() {
        return (client, server).into();
    }
    let mapped = |end: SocketAddr| match end.ip() {
        IpAddr::V4(address) => SocketAddr::new(address.to_ipv6_mapped().into(), end.port()),
        IpAddr::V6(_) => end,
    };
    (mapped(client), mapped(server)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(client: &str, server: &str) -> Ends {
        Ends { client: client.parse().unwrap(), server: server.parse().unwrap() }
    }

    #[test]
    fn headers_are_those_of_the_specification() {
        const START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
        let header = header_of(ends("192.0.2.1:4660", "198.51.100.2:443"), None, None).unwrap();
        let expected = [START, &[0x21, 0x11, 0, 12, 192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x34, 1, 0xbb]];
        assert_eq!(header, expected.concat());

        let mapped = ends("[::ffff:192.0.2.1]:4660", "[::ffff:198.51.100.2]:443");
        let header = header_of(mapped, Some("a.b"), Some(b"h2")).unwrap();
        let expected = [
            START,
            &[0x21, 0x11, 0, 23, 192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x34, 1, 0xbb],
            &[1, 0, 2, b'h', b'2', 2, 0, 3, b'a', b'.', b'b'],
        ];
        assert_eq!(header, expected.concat());

        let header = header_of(ends("192.0.2.1:80", "[2001:db8::1]:443"), None, None).unwrap();
        assert_eq!(header[12..16], [0x21, 0x21, 0, 36]);
        assert_eq!(header[26..32], [0xff, 0xff, 192, 0, 2, 1]);
        assert_eq!(own_header().unwrap(), [START, &[0x20, 0, 0, 0]].concat());
    }
}
