//! Frames: a length, a request id, a body.
//!
//! ```text
//! 0        4            8
//! | length | request id | body …
//! ```
//!
//! Both integers are unsigned and big-endian. `length` counts what follows it: the request id and the body. The
//! body of a request is an opcode byte and its operation; the body of a reply is a status byte and its result.
//! A reply carries the id of its request; replies may come in any order. Ids are the client's to choose, and must
//! be unique among its requests in flight.

/// Bytes before the body: the length and the request id.
pub const HEADER: usize = 8;

/// Longest frame (header included) before the hello is answered, in bytes.
pub const MAX_HELLO_FRAME: usize = 512;

/// Longest frame (header included) after it, in bytes; an engine announces its own limit, never above this one.
pub const MAX_FRAME: usize = 128 * 1024;

/// One frame, borrowed from the buffer that it was read into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Which request this is, or answers.
    pub id: u32,
    /// Opcode or status, then the content.
    pub body: &'a [u8],
}

/// Framing itself broke: the connection can't go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The announced length exceeds the limit.
    #[error("frame of {length} bytes, the limit is {limit}")]
    TooLong {
        /// Whole frame, header included.
        length: usize,
        /// The limit in force.
        limit: usize,
    },
    /// The announced length has no room for a request id and one byte of body.
    #[error("frame announces {0} bytes, too few for a request id and a body")]
    TooShort(usize),
}

/// Takes the first frame from `buffer`.
///
/// Returns the frame and the bytes it took, or `None` if more bytes are needed. The length is checked against `limit`
/// (bytes, header included) as soon as its four bytes are there, before a reader would grow its buffer for it.
///
/// # Errors
///
/// [`FrameError`] if the length is out of bounds; the connection must be closed.
pub fn split(buffer: &[u8], limit: usize) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Some((length, rest)) = buffer.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if length < HEADER - 4 + 1 {
        return Err(FrameError::TooShort(length));
    }
    let whole = length.saturating_add(4);
    if whole > limit {
        return Err(FrameError::TooLong { length: whole, limit });
    }
    let Some(content) = rest.get(..length) else { return Ok(None) };
    let Some((id, body)) = content.split_first_chunk::<4>() else { return Ok(None) };
    Ok(Some((Frame { id: u32::from_be_bytes(*id), body }, whole)))
}

/// Appends a frame whose body `write` appends.
///
/// # Errors
///
/// Whatever `write` returns; `out` is then as it was before.
pub fn append<E>(
    out: &mut Vec<u8>,
    id: u32,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&id.to_be_bytes());
    if let Err(error) = write(out) {
        out.truncate(start);
        return Err(error);
    }
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(id: u32, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        append::<()>(&mut out, id, |out| {
            out.extend_from_slice(body);
            Ok(())
        })
        .unwrap();
        out
    }

    #[test]
    fn splits_what_append_wrote_and_leaves_the_rest() {
        let mut bytes = framed(7, b"first");
        bytes.extend(framed(8, b"second"));
        let (frame, took) = split(&bytes, MAX_FRAME).unwrap().unwrap();
        assert_eq!(frame, Frame { id: 7, body: b"first" });
        let (frame, _) = split(&bytes[took..], MAX_FRAME).unwrap().unwrap();
        assert_eq!(frame, Frame { id: 8, body: b"second" });
    }

    #[test]
    fn waits_for_every_missing_byte() {
        let bytes = framed(1, b"body");
        for end in 0..bytes.len() {
            assert_eq!(split(&bytes[..end], MAX_FRAME), Ok(None), "at {end} bytes");
        }
    }

    #[test]
    fn refuses_lengths_out_of_bounds_from_the_first_four_bytes() {
        assert_eq!(
            split(&u32::MAX.to_be_bytes(), MAX_FRAME),
            Err(FrameError::TooLong { length: u32::MAX as usize + 4, limit: MAX_FRAME })
        );
        assert_eq!(split(&4u32.to_be_bytes(), MAX_FRAME), Err(FrameError::TooShort(4)));
        let fits = u32::try_from(MAX_FRAME - 4).unwrap();
        assert_eq!(split(&fits.to_be_bytes(), MAX_FRAME), Ok(None));
        assert!(split(&(fits + 1).to_be_bytes(), MAX_FRAME).is_err());
    }

    #[test]
    fn a_failed_write_leaves_no_trace() {
        let mut out = framed(1, b"kept");
        let before = out.clone();
        let failed = append(&mut out, 2, |out| {
            out.extend_from_slice(b"half");
            Err("no")
        });
        assert_eq!((failed, out), (Err("no"), before));
    }
}
