use std::io::{self, Write};

use bytes::Bytes;
use zstd::zstd_safe::CParameter;

use super::Coding;

/// Levels that a server can afford for responses that it makes once and throws away.
const GZIP_LEVEL: u32 = 5;
const BROTLI_QUALITY: u32 = 4;
const ZSTD_LEVEL: i32 = 3;

/// How far back matches are looked for, in bits: 128 KiB, which bounds the memory of each stream, here and at the client. RFC 9659
/// allows zstd 8 MiB.
const WINDOW: u32 = 17;

/// Entries, in bits, of the tables that zstd finds matches by: 256 KiB and 128 KiB.
const ZSTD_HASH_LOG: u32 = 16;
const ZSTD_CHAIN_LOG: u32 = 15;

/// Compresses one response.
pub(crate) enum Encoder {
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    /// Fails for want of memory only.
    pub(super) fn new(coding: Coding) -> io::Result<Self> {
        let out = Vec::new();
        Ok(match coding {
            Coding::Gzip => {
                Self::Gzip(flate2::write::GzEncoder::new(out, flate2::Compression::new(GZIP_LEVEL)))
            }
            Coding::Brotli => {
                Self::Brotli(Box::new(brotli::CompressorWriter::new(out, 4096, BROTLI_QUALITY, WINDOW)))
            }
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(out, ZSTD_LEVEL)?;
                encoder.set_parameter(CParameter::WindowLog(WINDOW))?;
                encoder.set_parameter(CParameter::HashLog(ZSTD_HASH_LOG))?;
                encoder.set_parameter(CParameter::ChainLog(ZSTD_CHAIN_LOG))?;
                Self::Zstd(encoder)
            }
        })
    }

    /// Takes a piece of the response.
    pub(crate) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.write_all(piece),
            Self::Brotli(encoder) => encoder.write_all(piece),
            Self::Zstd(encoder) => encoder.write_all(piece),
        }
    }

    /// Lets the client read all that was written so far.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.flush(),
            Self::Brotli(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }

    /// Bytes that are ready.
    pub(crate) fn ready(&self) -> usize {
        match self {
            Self::Gzip(encoder) => encoder.get_ref().len(),
            Self::Brotli(encoder) => encoder.get_ref().len(),
            Self::Zstd(encoder) => encoder.get_ref().len(),
        }
    }

    /// Takes them.
    pub(crate) fn take(&mut self) -> Bytes {
        let out = match self {
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Brotli(encoder) => encoder.get_mut(),
            Self::Zstd(encoder) => encoder.get_mut(),
        };
        std::mem::take(out).into()
    }

    /// The end of the response.
    pub(crate) fn finish(self) -> io::Result<Bytes> {
        Ok(match self {
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Brotli(encoder) => encoder.into_inner(),
            Self::Zstd(encoder) => encoder.finish()?,
        }
        .into())
    }
}
