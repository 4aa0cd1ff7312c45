//! What must hold for any bytes at all. Shared by the stable test beside this file and the fuzz targets in `fuzz/`.

use keycore_wire::{Refusal, RefusalCode, Request, frame};

/// Cuts `stream` into frames as a reader does; gives each body to `each`.
pub(crate) fn frames(stream: &[u8], limit: usize, mut each: impl FnMut(&[u8])) {
    let mut rest = stream;
    loop {
        match frame::split(rest, limit) {
            Ok(Some((frame, took))) => {
                assert!(took <= limit && took <= rest.len(), "took {took} of {}", rest.len());
                assert_eq!(frame.body.len() + frame::HEADER, took);
                assert!(!frame.body.is_empty());
                each(frame.body);
                rest = &rest[took..];
            }
            // More bytes are needed, and there is a bound on how many.
            Ok(None) => return assert!(rest.len() < limit),
            Err(frame::FrameError::TooLong { length, .. }) => return assert!(length > limit),
            Err(frame::FrameError::TooShort(length)) => return assert!(length < 5),
        }
    }
}

/// Decodes `body` as a request: it is one, or there is a refusal that can be sent.
pub(crate) fn request(body: &[u8]) -> bool {
    match Request::decode(body) {
        Ok(_) => true,
        Err(Refusal { code, detail }) => {
            assert!(matches!(code, RefusalCode::Malformed | RefusalCode::UnknownOperation), "{code:?}");
            assert!(detail.len() <= Refusal::MAX_DETAIL);
            false
        }
    }
}

/// Decodes `body` as the reply to the operation with this opcode, as a client of a broken engine would.
pub(crate) fn reply(opcode: u8, body: &[u8]) -> bool {
    Request::is_reply(opcode, body)
}
