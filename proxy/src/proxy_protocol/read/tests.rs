use proptest::prelude::{ProptestConfig, any, proptest};
use proptest::{collection, strategy::Strategy};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::*;

const BINARY: &[u8] = v2::PROTOCOL_PREFIX;

/// What comes of a connection on which these pieces come, and what is left of it.
async fn outcome(pieces: &[&[u8]]) -> (Result<Option<Ends>, HeaderError>, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut sender = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    sender.set_nodelay(true).unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let sending = async move {
        for piece in pieces {
            // The reader may have had enough.
            let _ = sender.write_all(piece).await;
            tokio::task::yield_now().await;
        }
        let _ = sender.shutdown().await;
        sender
    };
    let reading = async {
        let read = read(&mut stream).await;
        let mut rest = Vec::new();
        if read.is_ok() {
            stream.read_to_end(&mut rest).await.unwrap();
        }
        (read, rest)
    };
    let (_sender, outcome) = tokio::join!(sending, reading);
    outcome
}

fn binary(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [BINARY, &[command, family], &length, content].concat()
}

fn ends(client: &str, server: &str) -> Ends {
    Ends { client: client.parse().unwrap(), server: server.parse().unwrap() }
}

#[tokio::test]
async fn addresses_are_read_and_what_follows_is_left_however_it_arrives() {
    let v4 = [192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x34, 1, 0xbb];
    let v6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1], &[0; 15], &[1], &[0, 80, 1, 0xbb]].concat();
    let with_additions = [&v4[..], &[1, 0, 2, b'h', b'2'], &[0x20, 0, 5], &[7; 5]].concat();
    let (of_v4, of_v6) = (ends("192.0.2.1:4660", "198.51.100.2:443"), ends("[2001:db8::1]:80", "[::1]:443"));
    for (header, expected) in [
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 4660 443\r\n".to_vec(), Some(of_v4)),
        (b"PROXY TCP6 2001:db8::1 ::1 80 443\r\n".to_vec(), Some(of_v6)),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n".to_vec(), None),
        (binary(0x21, 0x11, &v4), Some(of_v4)),
        (binary(0x21, 0x11, &with_additions), Some(of_v4)),
        (binary(0x21, 0x21, &v6), Some(of_v6)),
        (binary(0x20, 0x00, b""), None),
        (binary(0x20, 0x11, &v4), None),
        (binary(0x21, 0x00, &[9; 100]), None),
        (binary(0x21, 0x12, &v4), None),
        (binary(0x21, 0x31, &[1; 216]), None),
    ] {
        let whole = [&header[..], b"\x16\x03\x01\r\n"].concat();
        let name = String::from_utf8_lossy(&header).into_owned();
        for size in [1, 7, 13, whole.len()] {
            let pieces: Vec<_> = whole.chunks(size).collect();
            let (read, rest) = outcome(&pieces).await;
            assert_eq!(read.unwrap(), expected, "{name:?} in pieces of {size}");
            assert_eq!(rest, b"\x16\x03\x01\r\n", "{name:?} in pieces of {size}");
        }
        for end in 0..header.len() {
            let (read, _) = outcome(&[&header[..end]]).await;
            assert!(matches!(read, Err(HeaderError::Gone(_))), "{name:?} cut at {end}");
        }
    }
}

#[tokio::test]
async fn whatever_else_comes_first_is_refused() {
    let endless = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat();
    let long = binary(0x21, 0x11, &[0; BINARY_MOST + 1]);
    for bad in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXYTCP4 192.0.2.1 198.51.100.2 1 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 1 443\n\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 1 65536\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 01 443\r\n",
        b"PROXY TCP4 ::1 ::1 1 443\r\n",
        b"PROXY TCP6 192.0.2.1 198.51.100.2 1 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 1 443 more\r\n",
        b"PROXY UDP4 192.0.2.1 198.51.100.2 1 443\r\n",
        b"PROXY TCP4  192.0.2.1 198.51.100.2 1 443\r\n",
        b"PROXY TCP4 192.0.2.1\r\n",
        &endless,
        &long,
        &binary(0x11, 0x11, &[0; 12]),
        &binary(0x22, 0x11, &[0; 12]),
        &binary(0x21, 0x11, &[0; 11]),
        &binary(0x21, 0x21, &[0; 35]),
        &binary(0x21, 0x41, &[0; 12]),
    ] {
        let (read, _) = outcome(&[bad]).await;
        let refused = matches!(read, Err(ref error) if !matches!(error, HeaderError::Gone(_)));
        assert!(refused, "{:?}: {read:?}", String::from_utf8_lossy(bad));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_bytes_do_harm(
        bytes in collection::vec(any::<u8>(), 0..300)
            .prop_flat_map(|bytes| (0..4_usize).prop_map(move |kind| match kind {
                0 => bytes.clone(),
                1 => [BINARY, &bytes].concat(),
                2 => [b"PROXY TCP4 ", &bytes[..]].concat(),
                _ => [b"PROXY UNKNOWN ", &bytes[..]].concat(),
            })),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _ = runtime.block_on(outcome(&[&bytes]));
    }
}
