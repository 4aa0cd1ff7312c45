//! The encrypted content: a nonce, then chunks of 64 KiB, each with a tag; the last one is marked as such.

use std::io::{self, Write};

use aws_lc_rs::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};
use zeroize::{Zeroize, Zeroizing};

use super::{FileKey, TAG};
use crate::error::BackupError;

/// Plaintext of a chunk, in bytes.
const CHUNK: usize = 64 * 1024;

/// Bytes of the nonce in front.
pub(crate) const NONCE: usize = 16;

/// Counts chunks; its last byte marks the last one.
struct Counter(u64);

impl Counter {
    fn nonce(&mut self, last: bool) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[3..11].copy_from_slice(&self.0.to_be_bytes());
        nonce[11] = last.into();
        self.0 += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Encrypts a stream. One chunk of plaintext is in memory, and wiped.
pub(crate) struct Sealer {
    key: LessSafeKey,
    counter: Counter,
    chunk: Zeroizing<Vec<u8>>,
}

impl Sealer {
    pub(crate) fn new(key: &FileKey, nonce: &[u8; NONCE]) -> Result<Self, BackupError> {
        let chunk = Zeroizing::new(Vec::with_capacity(CHUNK));
        Ok(Self { key: key.payload_key(nonce)?, counter: Counter(0), chunk })
    }

    /// Takes plaintext; writes out whole chunks once it is known that they are not the last.
    pub(crate) fn write(&mut self, mut plain: &[u8], out: &mut impl Write) -> Result<(), BackupError> {
        while !plain.is_empty() {
            if self.chunk.len() == CHUNK {
                self.seal(false, out)?;
            }
            let (fits, rest) = plain.split_at(plain.len().min(CHUNK - self.chunk.len()));
            self.chunk.extend_from_slice(fits);
            plain = rest;
        }
        Ok(())
    }

    /// Writes the last chunk.
    pub(crate) fn finish(mut self, out: &mut impl Write) -> Result<(), BackupError> {
        self.seal(true, out)
    }

    fn seal(&mut self, last: bool, out: &mut impl Write) -> Result<(), BackupError> {
        let nonce = self.counter.nonce(last);
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut self.chunk)?;
        let written: io::Result<()> = out.write_all(&self.chunk).and_then(|()| out.write_all(tag.as_ref()));
        self.chunk.clear();
        Ok(written?)
    }
}

/// Decrypts a stream that comes in pieces.
pub(crate) struct StreamOpener {
    key: LessSafeKey,
    counter: Counter,
    /// Ciphertext, and for a moment the plaintext in its place.
    chunk: Zeroizing<Vec<u8>>,
}

impl StreamOpener {
    pub(crate) fn new(key: &FileKey, nonce: &[u8; NONCE]) -> Result<Self, BackupError> {
        let chunk = Zeroizing::new(Vec::with_capacity(CHUNK + TAG));
        Ok(Self { key: key.payload_key(nonce)?, counter: Counter(0), chunk })
    }

    /// Takes ciphertext; appends the plaintext of chunks that can't be the last to `plain`.
    pub(crate) fn push(&mut self, mut sealed: &[u8], plain: &mut Vec<u8>) -> Result<(), BackupError> {
        while !sealed.is_empty() {
            if self.chunk.len() == CHUNK + TAG {
                self.open(false, plain)?;
            }
            let (fits, rest) = sealed.split_at(sealed.len().min(CHUNK + TAG - self.chunk.len()));
            self.chunk.extend_from_slice(fits);
            sealed = rest;
        }
        Ok(())
    }

    /// The stream is over: what is left is the last chunk.
    pub(crate) fn finish(mut self, plain: &mut Vec<u8>) -> Result<(), BackupError> {
        if self.chunk.len() < TAG || (self.chunk.len() == TAG && self.counter.0 > 0) {
            return Err(BackupError::Truncated("it ends in the middle"));
        }
        self.open(true, plain)
    }

    fn open(&mut self, last: bool, plain: &mut Vec<u8>) -> Result<(), BackupError> {
        let at = self.counter.0;
        let nonce = self.counter.nonce(last);
        match self.key.open_in_place(nonce, Aad::empty(), &mut self.chunk) {
            Ok(opened) => plain.extend_from_slice(opened),
            // A whole chunk that is the last by its place only, or one that was cut.
            Err(_) if last => {
                return Err(BackupError::Truncated("its end is missing, or its last 64 KiB are damaged"));
            }
            Err(_) => {
                let from = at.saturating_mul((CHUNK + TAG) as u64);
                return Err(BackupError::Damaged(format!(
                    "the 64 KiB at {from} bytes of its payload were changed"
                )));
            }
        }
        self.chunk.zeroize();
        Ok(())
    }
}
