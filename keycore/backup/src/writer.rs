//! Writes a backup.

use std::io::{self, Seek, SeekFrom, Write};

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::rand;
use zeroize::Zeroizing;

use crate::age::payload::{NONCE, Sealer};
use crate::age::{FileKey, Wrapped, header};
use crate::error::BackupError;
use crate::identity::Recipient;
use crate::item::Item;
use crate::manifest::Manifest;

/// Writes items as they come. The header, which knows the payload's hash, is written last, into room left for it.
pub struct BackupWriter<W> {
    out: Hashing<W>,
    manifest: Manifest,
    file_key: FileKey,
    wrapped: Vec<Wrapped>,
    sealer: Sealer,
}

/// A backup that was written, and what is needed to read it back.
pub struct Written {
    /// What it says of itself.
    pub manifest: Manifest,
    /// Its length in bytes.
    pub size: u64,
    /// Opens this one file; to verify it, then to be dropped.
    pub file_key: FileKey,
}

impl<W: Write + Seek> BackupWriter<W> {
    /// Begins at the beginning of `out`. `manifest` tells all but recipients and hash, which come from here.
    ///
    /// # Errors
    ///
    /// [`BackupError::Recipients`], [`BackupError::Write`].
    pub fn new(out: W, manifest: Manifest, recipients: &[Recipient]) -> Result<Self, BackupError> {
        if recipients.is_empty() || recipients.len() > Manifest::MAX_RECIPIENTS {
            return Err(BackupError::Recipients);
        }
        let file_key = FileKey::generate()?;
        let wrapped =
            recipients.iter().map(|recipient| file_key.wrap(recipient)).collect::<Result<Vec<_>, _>>()?;
        let recipients = recipients.iter().map(Recipient::fingerprint).collect();
        let manifest = Manifest { recipients, payload_sha256: [0; 32], ..manifest };
        let mut nonce = [0; NONCE];
        rand::fill(&mut nonce)?;
        let sealer = Sealer::new(&file_key, &nonce)?;
        let mut out = Hashing { out, hash: Context::new(&SHA256), size: 0 };
        let room = header::write(&file_key, &manifest.to_line(), &wrapped)?;
        out.out.write_all(&vec![0; room.len()])?;
        out.write_all(&nonce)?;
        Ok(Self { out, manifest, file_key, wrapped, sealer })
    }

    /// Adds an item.
    ///
    /// # Errors
    ///
    /// [`BackupError::Write`], [`BackupError::TooLarge`]; the file is then of no use.
    pub fn add(&mut self, item: &Item) -> Result<(), BackupError> {
        let encoded: Zeroizing<Vec<u8>> = item.encode()?;
        self.sealer.write(&encoded, &mut self.out)
    }

    /// Writes the end and the header; gives the file back. Making it durable is the caller's.
    ///
    /// # Errors
    ///
    /// As [`BackupWriter::add`].
    pub fn finish(self) -> Result<(W, Written), BackupError> {
        let Self { mut out, mut manifest, file_key, wrapped, sealer } = self;
        sealer.finish(&mut out)?;
        let hash = out.hash.finish();
        manifest.payload_sha256.copy_from_slice(hash.as_ref());
        let header = header::write(&file_key, &manifest.to_line(), &wrapped)?;
        let size = out.size.saturating_add(u64::try_from(header.len()).unwrap_or(u64::MAX));
        let mut out = out.out;
        out.seek(SeekFrom::Start(0))?;
        out.write_all(&header)?;
        out.flush()?;
        Ok((out, Written { manifest, size, file_key }))
    }
}

/// Hashes what goes through.
struct Hashing<W> {
    out: W,
    hash: Context,
    size: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += u64::try_from(written).unwrap_or(0);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
