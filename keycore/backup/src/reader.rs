//! Reads a backup that comes in pieces.

use std::io::Read;

use aws_lc_rs::digest::{Context, SHA256};
use zeroize::Zeroizing;

use crate::age::FileKey;
use crate::age::header::{self, Header};
use crate::age::payload::{NONCE, StreamOpener};
use crate::error::BackupError;
use crate::identity::Identity;
use crate::item::Item;
use crate::manifest::Manifest;

/// Ciphertext that is opened at a time, in bytes.
const PART: usize = 64 * 1024;

/// What opens a backup.
pub enum Opener {
    /// The identity of one of its recipients.
    Identity(Identity),
    /// The key of this file alone, as [`Written`](crate::Written) has it.
    FileKey(FileKey),
}

/// Takes a file in pieces of any size and gives its items. Memory: the header, one chunk, one item.
pub struct BackupReader {
    opener: Opener,
    hash: Context,
    state: State,
    /// Plaintext that is no whole item yet.
    plain: Zeroizing<Vec<u8>>,
}

enum State {
    /// Header and nonce are not complete.
    Header(Vec<u8>),
    Payload {
        manifest: Manifest,
        stream: StreamOpener,
    },
}

impl BackupReader {
    /// A reader that has seen nothing yet.
    pub fn new(opener: Opener) -> Self {
        Self {
            opener,
            hash: Context::new(&SHA256),
            state: State::Header(Vec::new()),
            // Never grows: what grows leaves copies behind.
            plain: Zeroizing::new(Vec::with_capacity(Item::MAX_ENCODED + 4 * PART)),
        }
    }

    /// Reads what a file says of itself, without opening it; nothing of that is authentic yet.
    ///
    /// # Errors
    ///
    /// [`BackupError`] if it is no backup or can't be read.
    pub fn peek(file: impl Read) -> Result<Manifest, BackupError> {
        let mut start = Vec::new();
        let limit = u64::try_from(header::MAX).unwrap_or(u64::MAX);
        file.take(limit).read_to_end(&mut start).map_err(BackupError::Read)?;
        let Some((header, _)) = Header::parse(&start)? else {
            return Err(BackupError::Truncated("its header is not complete"));
        };
        manifest_of(&header)
    }

    /// What the file says of itself, once its header was read; authentic then.
    pub fn manifest(&self) -> Option<&Manifest> {
        match &self.state {
            State::Header(_) => None,
            State::Payload { manifest, .. } => Some(manifest),
        }
    }

    /// Takes the next piece; gives every whole item to `each`.
    ///
    /// # Errors
    ///
    /// [`BackupError`], or what `each` returns; the reader is then of no more use.
    pub fn push<E: From<BackupError>>(
        &mut self,
        piece: &[u8],
        mut each: impl FnMut(Item) -> Result<(), E>,
    ) -> Result<(), E> {
        let begun: Vec<u8>;
        let sealed = match &mut self.state {
            State::Payload { .. } => piece,
            State::Header(start) => {
                start.extend_from_slice(piece);
                let Some((header, length)) = Header::parse(start)? else { return Ok(()) };
                let Some(nonce) = start[length..].first_chunk::<NONCE>().copied() else { return Ok(()) };
                let manifest = manifest_of(&header)?;
                let stream = StreamOpener::new(&file_key(&header, &manifest, &self.opener)?, &nonce)?;
                self.hash.update(&nonce);
                begun = start.split_off(length + NONCE);
                self.state = State::Payload { manifest, stream };
                &begun
            }
        };
        self.hash.update(sealed);
        for part in sealed.chunks(PART) {
            if let State::Payload { stream, .. } = &mut self.state {
                stream.push(part, &mut self.plain)?;
            }
            take_items(&mut self.plain, &mut each)?;
        }
        Ok(())
    }

    /// The file is over.
    ///
    /// # Errors
    ///
    /// [`BackupError`] if it should not be over, or the hash in its manifest is another one; or what `each` returns.
    pub fn finish<E: From<BackupError>>(
        mut self,
        mut each: impl FnMut(Item) -> Result<(), E>,
    ) -> Result<Manifest, E> {
        let state = core::mem::replace(&mut self.state, State::Header(Vec::new()));
        let State::Payload { manifest, stream } = state else {
            return Err(BackupError::Truncated("its header is not complete").into());
        };
        stream.finish(&mut self.plain)?;
        take_items(&mut self.plain, &mut each)?;
        if !self.plain.is_empty() {
            return Err(BackupError::Damaged("its last item is not complete".to_owned()).into());
        }
        if self.hash.finish().as_ref() != manifest.payload_sha256 {
            return Err(BackupError::Damaged("its payload is not the one of its manifest".to_owned()).into());
        }
        Ok(manifest)
    }
}

/// Gives every whole item on; what was taken is overwritten, or wiped when the reader is dropped.
fn take_items<E: From<BackupError>>(
    plain: &mut Vec<u8>,
    each: &mut impl FnMut(Item) -> Result<(), E>,
) -> Result<(), E> {
    let mut taken = 0;
    while let Some((item, length)) = Item::decode(&plain[taken..])? {
        taken += length;
        each(item)?;
    }
    plain.drain(..taken);
    Ok(())
}

fn manifest_of(header: &Header) -> Result<Manifest, BackupError> {
    match header.manifest(Manifest::STANZA) {
        Some(arguments) => Manifest::parse(arguments),
        None => Err(BackupError::NotABackup("an age file without a manifest")),
    }
}

/// Finds the file key, and checks the header with it.
fn file_key(header: &Header, manifest: &Manifest, opener: &Opener) -> Result<FileKey, BackupError> {
    let key = match opener {
        Opener::FileKey(key) => key.duplicate(),
        Opener::Identity(identity) => key_for(header, manifest, identity)?,
    };
    header.check_mac(&key)?;
    Ok(key)
}

fn key_for(header: &Header, manifest: &Manifest, identity: &Identity) -> Result<FileKey, BackupError> {
    for wrapped in header.wrapped() {
        if let Some(key) = FileKey::open(identity, &wrapped?)? {
            return Ok(key);
        }
    }
    let identity = identity.recipient()?.fingerprint();
    if manifest.recipients.contains(&identity) {
        return Err(BackupError::Damaged("its header was changed".to_owned()));
    }
    Err(BackupError::WrongIdentity { identity, recipients: manifest.recipients.clone() })
}
