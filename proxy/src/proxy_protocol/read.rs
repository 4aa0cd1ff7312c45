use std::net::SocketAddr;

use ppp::{v1, v2};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::{Ends, HeaderError};

/// The longest header of version 1, its line's end included.
const TEXT_MOST: usize = 107;

/// What is read of a header first: less than the shortest of either version, and enough to tell them.
const START: usize = v2::PROTOCOL_PREFIX.len();

/// The fixed part of version 2, up to its length.
const HEAD: usize = 16;

/// The most that may follow it: addresses, and what the load balancer adds. The protocol allows 64 KiB.
const BINARY_MOST: usize = 4096;

/// Reads the header that a connection has to begin with, and not a byte more. How long that may take is up to the caller.
///
/// `None` if the sender speaks for itself (`LOCAL`: a health check), or knows of no addresses of the internet (`UNKNOWN`,
/// `UNSPEC`, Unix sockets) or none of TCP: then it is the socket's peer that counts.
///
/// # Errors
///
/// [`HeaderError`]; the connection is of no use any more then.
pub(crate) async fn read(stream: &mut TcpStream) -> Result<Option<Ends>, HeaderError> {
    let mut header = vec![0; START];
    stream.read_exact(&mut header).await?;
    if header == v2::PROTOCOL_PREFIX {
        header.resize(HEAD, 0);
        stream.read_exact(&mut header[START..]).await?;
        let length = usize::from(u16::from_be_bytes([header[HEAD - 2], header[HEAD - 1]]));
        if length > BINARY_MOST {
            return Err(HeaderError::TooLong(HEAD + BINARY_MOST));
        }
        header.resize(HEAD + length, 0);
        stream.read_exact(&mut header[HEAD..]).await?;
        return of_binary(&header);
    }
    if !header.starts_with(b"PROXY ") {
        return Err(HeaderError::Missing);
    }
    while !header.ends_with(b"\r\n") {
        let before = header.len();
        if before >= TEXT_MOST {
            return Err(HeaderError::TooLong(TEXT_MOST));
        }
        // What is behind the line is TLS, or HTTP: looked at here, and left where it is.
        header.resize(TEXT_MOST, 0);
        let seen = stream.peek(&mut header[before..]).await?;
        let line = header[before..before + seen].iter().position(|&byte| byte == b'\n');
        header.truncate(before + line.map_or(seen.max(1), |at| at + 1));
        stream.read_exact(&mut header[before..]).await?;
        if line.is_some() {
            break;
        }
    }
    of_text(&header)
}

fn of_text(header: &[u8]) -> Result<Option<Ends>, HeaderError> {
    let parsed = v1::Header::try_from(header)?;
    Ok(match parsed.addresses {
        v1::Addresses::Unknown => None,
        v1::Addresses::Tcp4(ends) => Some(ends_of(
            (ends.source_address, ends.source_port),
            (ends.destination_address, ends.destination_port),
        )),
        v1::Addresses::Tcp6(ends) => Some(ends_of(
            (ends.source_address, ends.source_port),
            (ends.destination_address, ends.destination_port),
        )),
    })
}

fn of_binary(header: &[u8]) -> Result<Option<Ends>, HeaderError> {
    let parsed = v2::Header::try_from(header)?;
    if parsed.command == v2::Command::Local || parsed.protocol != v2::Protocol::Stream {
        return Ok(None);
    }
    Ok(match parsed.addresses {
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
        v2::Addresses::IPv4(ends) => Some(ends_of(
            (ends.source_address, ends.source_port),
            (ends.destination_address, ends.destination_port),
        )),
        v2::Addresses::IPv6(ends) => Some(ends_of(
            (ends.source_address, ends.source_port),
            (ends.destination_address, ends.destination_port),
        )),
    })
}

fn ends_of(client: impl Into<SocketAddr>, server: impl Into<SocketAddr>) -> Ends {
    Ends { client: client.into(), server: server.into() }
}

#[cfg(test)]
mod tests;
