use std::io::{self, Write};

use bytes::Bytes;

use super::Coding;

/// Levels that a server can afford for responses that it makes once and throws away.
const GZIP_LEVEL: u32 = 5;
const BROTLI_QUALITY: u32 = 4;

/// How far back matches are looked for, in bits: 128 KiB, which bounds the memory of each stream.
const WINDOW: u32 = 17;

/// Compresses one response.
pub(crate) enum Encoder {
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
}

impl Encoder {
    pub(super) fn new(coding: Coding) -> Self {
        let out = Vec::new();
        match coding {
            Coding::Gzip => {
                Self::Gzip(flate2::write::GzEncoder::new(out, flate2::Compression::new(GZIP_LEVEL)))
            }
            Coding::Brotli => {
                Self::Brotli(Box::new(brotli::CompressorWriter::new(out, 4096, BROTLI_QUALITY, WINDOW)))
            }
        }
    }

    /// Takes a piece of the response.
    pub(crate) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.write_all(piece),
            Self::Brotli(encoder) => encoder.write_all(piece),
        }
    }

    /// Lets the client read all that was written so far.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.flush(),
            Self::Brotli(encoder) => encoder.flush(),
        }
    }

    /// Bytes that are ready.
    pub(crate) fn ready(&self) -> usize {
        match self {
            Self::Gzip(encoder) => encoder.get_ref().len(),
            Self::Brotli(encoder) => encoder.get_ref().len(),
        }
    }

    /// Takes them.
    pub(crate) fn take(&mut self) -> Bytes {
        let out = match self {
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Brotli(encoder) => encoder.get_mut(),
        };
        std::mem::take(out).into()
    }

    /// The end of the response.
    pub(crate) fn finish(self) -> io::Result<Bytes> {
        Ok(match self {
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Brotli(encoder) => encoder.into_inner(),
        }
        .into())
    }
}
