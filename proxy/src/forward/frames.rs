/// `DATA`, and the other types of frames that are told apart here (RFC 9113, section 6).
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

/// Flag of `DATA` and `HEADERS`.
const END_STREAM: u8 = 1;

/// Bytes before a frame's payload.
const HEAD: usize = 9;

/// What a client sends before its first frame (RFC 9113, section 3.4).
const PREFACE: u32 = 24;

/// Finds the frames in one direction of an HTTP/2 connection, over the bytes where they lie: a frame costs as much as its
/// head, whatever its payload, and nothing is copied but a head that two reads share.
pub(super) struct Frames {
    /// Bytes until the next head.
    skip: u32,
    head: [u8; HEAD],
    /// How much of it is there.
    begun: usize,
}

/// The head of a frame (RFC 9113, section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) length: u32,
    pub(super) kind: u8,
    flags: u8,
    pub(super) stream: u32,
}

impl Frames {
    /// Of the server, from its first byte.
    pub(super) fn of_server() -> Self {
        Self { skip: 0, head: [0; HEAD], begun: 0 }
    }

    /// Of the client, from its first byte.
    pub(super) fn of_client() -> Self {
        Self { skip: PREFACE, ..Self::of_server() }
    }

    /// Whether the last frame is complete.
    pub(super) fn is_between(&self) -> bool {
        self.skip == 0 && self.begun == 0
    }

    /// Follows the next bytes. `see` gets each frame's head, where it begins (0 if that was before these bytes), and what
    /// of its payload is there; the first error ends it.
    pub(super) fn follow<E>(
        &mut self,
        bytes: &[u8],
        mut see: impl FnMut(usize, Head, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut at = 0;
        while at < bytes.len() {
            if self.skip > 0 {
                let rest = u32::try_from(bytes.len() - at).unwrap_or(u32::MAX);
                let taken = self.skip.min(rest);
                self.skip -= taken;
                at += taken as usize;
                continue;
            }
            let taken = (HEAD - self.begun).min(bytes.len() - at);
            self.head[self.begun..self.begun + taken].copy_from_slice(&bytes[at..at + taken]);
            self.begun += taken;
            at += taken;
            if self.begun == HEAD {
                let head = Head::of(&self.head);
                (self.begun, self.skip) = (0, head.length);
                let end = bytes.len().min(at + head.length as usize);
                see(at.saturating_sub(HEAD), head, &bytes[at..end])?;
            }
        }
        Ok(())
    }
}

impl Head {
    fn of(bytes: &[u8; HEAD]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = *bytes;
        let length = u32::from_be_bytes([0, a, b, c]);
        Self { length, kind, flags, stream: u32::from_be_bytes(stream) & 0x7fff_ffff }
    }

    /// Whether it is the last of its stream.
    pub(super) fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn frame(kind: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, 0, 0x80, 0, 0, stream], payload].concat()
    }

    #[test]
    fn frames_are_found_however_the_bytes_come() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let sent = [(SETTINGS, 0, 0), (HEADERS, 1, 100), (DATA, 1, 0), (PING, 0, 8), (DATA, 3, 255)];
        let mut begins = Vec::new();
        for (kind, stream, length) in sent {
            begins.push(bytes.len());
            bytes.extend(frame(kind, stream, &vec![7; length]));
        }
        for piece in 1..bytes.len() {
            let (mut frames, mut seen, mut at) = (Frames::of_client(), Vec::new(), 0);
            for part in bytes.chunks(piece) {
                let noted = frames.follow(part, |begin, head, payload| {
                    assert!(payload.len() <= head.length as usize && payload.iter().all(|&byte| byte == 7));
                    seen.push((head.kind, head.stream, head.length as usize));
                    let shared = begin == 0 && at > begins[seen.len() - 1];
                    assert!(shared || at + begin == begins[seen.len() - 1], "{piece}");
                    Ok::<_, Infallible>(())
                });
                assert!(noted.is_ok());
                at += part.len();
            }
            assert_eq!(seen, sent.map(|(kind, stream, length)| (kind, u32::from(stream), length)), "{piece}");
            assert!(frames.is_between());
        }
    }
}
