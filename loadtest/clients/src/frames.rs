//! HTTP/2, written by hand (RFC 9113, RFC 7541).

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// `:method: GET` and `POST` in HPACK's static table.
pub(crate) const GET: u8 = 0x82;
pub(crate) const POST: u8 = 0x83;

/// What a client begins with: the preface, its settings, and that it has seen the server's.
pub(crate) fn hello() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(&mut bytes, SETTINGS, 0, 0, &[]);
    frame(&mut bytes, SETTINGS, ACK, 0, &[]);
    bytes
}

/// The head of a request to `https://localhost/small`.
pub(crate) fn head(method: u8) -> Vec<u8> {
    [&[method, 0x87, 0x04, 6][..], b"/small", &[0x01, 9], b"localhost"].concat()
}

/// Appends a frame. Its payload is shorter than 16 KiB.
pub(crate) fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let [.., high, low] = payload.len().to_be_bytes();
    out.extend([0, high, low, kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}
