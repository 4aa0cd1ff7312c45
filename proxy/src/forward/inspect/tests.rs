use proptest::prelude::{any, prop_assert_eq, proptest};

use super::*;

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\n";

fn refused(bytes: impl AsRef<[u8]>) -> Option<&'static str> {
    Inspector::new(1 << 16).inspect(bytes.as_ref()).err().map(|violation| violation.reason)
}

#[test]
fn the_ends_of_requests_are_found() {
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        format!("\r\n{POST}Content-Length: 0\r\n\r\n"),
        format!("{POST}content-length:\t12 \r\n\r\nGET / HTTP\n\r"),
        format!("{POST}Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n"),
        format!(
            "{POST}Transfer-Encoding: chunked\r\n\r\n00a;x=\"y\"\r\n\n\n\n\n\n\n\n\n\n\n\r\n0 ;\r\nX: y\r\n\r\n"
        ),
        "POST / HTTP/1.0\r\nContent-Length: 1\r\n\r\n\n".to_owned(),
    ] {
        let mut inspector = Inspector::new(1 << 16);
        // In one piece, twice in a row, and byte by byte.
        for _ in 0..2 {
            assert_eq!(inspector.inspect(request.as_bytes()), Ok(()), "{request}");
            assert!(!inspector.is_within_request(), "{request}");
        }
        let last = request.len() - 1;
        for (at, byte) in request.bytes().enumerate() {
            assert_eq!(inspector.inspect(&[byte]), Ok(()), "{request} at {at}");
            if at > 1 && at < last {
                assert!(inspector.is_within_request(), "{request} at {at}");
            }
        }
        assert!(!inspector.is_within_request(), "{request}");
    }
}

#[test]
fn each_doubt_is_refused_with_its_reason() {
    let both = "both Content-Length and Transfer-Encoding";
    for (fields, reason) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", both),
        ("transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n", both),
        ("Content-Length: 5\r\nContent-Length: 5\r\n\r\n", "more than one Content-Length field"),
        ("Content-Length: 5, 5\r\n", "Content-Length is not a number"),
        ("Content-Length: 99999999999999999999\r\n", "Content-Length is not a number"),
        ("Content-Length:\r\n", "Content-Length is not a number"),
        ("Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding is not chunked"),
        ("Transfer-Encoding: chunked, identity\r\n", "Transfer-Encoding is not chunked"),
        ("Transfer-Encoding: \x0bchunked\r\n", "Transfer-Encoding is not chunked"),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "more than one Transfer-Encoding field",
        ),
        ("X: y\n", "a line ends without CR"),
        ("X: y\r\n\n", "a line ends without CR"),
        ("X: y\r\n z\r\n", "a field is folded over two lines"),
    ] {
        assert_eq!(refused(format!("{POST}{fields}")), Some(reason), "{fields:?}");
    }
    assert_eq!(refused("GET / HTTP/1.1\n"), Some("a line ends without CR"));
    assert_eq!(refused("\n"), Some("a line ends without CR"));
    assert_eq!(refused("GET /#x HTTP/1.1\r\n"), Some("the request target has a fragment"));
    let http_10 = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(refused(http_10), Some("Transfer-Encoding in HTTP/1.0"));
}

#[test]
fn chunks_are_exact() {
    let size = "a chunk's size is not hexadecimal digits";
    let digits = "a chunk's size has no digits or more than 16";
    for (chunks, reason) in [
        ("5\nhello\r\n0\r\n\r\n", "a line ends without CR"),
        ("5;a\nhello", "a line ends without CR"),
        ("0x5\r\nhello", size),
        ("-5\r\nhello", size),
        ("5 5\r\nhello", size),
        ("5 \r\nhello", size),
        ("5;\rx\r\nhello", size),
        ("5;a\0b\r\nhello", size),
        (" 5\r\nhello", size),
        ("\r\nhello", digits),
        (";a\r\nhello", digits),
        ("00000000000000005\r\nhello", digits),
        ("5\r\nhelloXX0\r\n\r\n", "a chunk is longer than its size"),
        ("5\r\nhello\r\n0\r\nX: y\n\r\n", "a line ends without CR"),
        ("5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n", "a trailer field is folded"),
    ] {
        let request = format!("{POST}Transfer-Encoding: chunked\r\n\r\n{chunks}");
        assert_eq!(refused(request), Some(reason), "{chunks:?}");
    }
}

#[test]
fn nothing_follows_a_violation_and_a_line_without_end_is_not_kept() {
    let mut inspector = Inspector::new(100);
    assert!(inspector.inspect(b"GET / HTTP/1.1\n").is_err());
    assert!(inspector.inspect(b"GET / HTTP/1.1\r\n\r\n").is_err());
    let mut inspector = Inspector::new(100);
    assert_eq!(inspector.inspect(&[b'x'; 90]), Ok(()));
    assert_eq!(inspector.inspect(&[b'x'; 90]), Ok(()), "hyper must see it to refuse it");
    assert_eq!(inspector.partial.capacity(), 0);
    assert!(inspector.inspect(b"x").is_err());
}

proptest! {
    #[test]
    fn how_bytes_are_cut_does_not_matter(bytes in "[ -~\r\n]{0,80}", chunks in any::<bool>(), cuts in proptest::collection::vec(0usize..400, 0..6)) {
        let coding = if chunks { "Transfer-Encoding: chunked" } else { "Content-Length: 7" };
        let text = format!("{POST}{coding}\r\n\r\n{bytes}");
        let whole = refused(&text);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let mut inspector = Inspector::new(1 << 16);
        let mut pieces = cuts.windows(2).map(|ends| &text.as_bytes()[ends[0]..ends[1]]);
        let cut = pieces.find_map(|piece| inspector.inspect(piece).err()).map(|violation| violation.reason);
        prop_assert_eq!(cut, whole);
    }
}
