//! The text in front: stanzas and their MAC.

use aws_lc_rs::hmac;
use data_encoding::BASE64_NOPAD;

use super::{FileKey, Wrapped};
use crate::error::BackupError;

const VERSION: &str = "age-encryption.org/v1";
const X25519: &str = "X25519";

/// Longest header that is read, in bytes: room for the manifest and all recipients.
pub(crate) const MAX: usize = 32 * 1024;

/// Columns of a stanza's body.
const COLUMNS: usize = 64;

/// A header as it was read.
pub(crate) struct Header {
    /// The arguments of each stanza, its type first; and its body.
    stanzas: Vec<(Vec<String>, Vec<u8>)>,
    /// What the MAC covers.
    signed: Vec<u8>,
    mac: Vec<u8>,
}

/// Writes a header: `manifest` is a whole line of arguments, the type first.
pub(crate) fn write(key: &FileKey, manifest: &str, wrapped: &[Wrapped]) -> Result<Vec<u8>, BackupError> {
    let mut text = format!("{VERSION}\n-> {manifest}\n\n");
    for Wrapped { share, body } in wrapped {
        // 32 bytes are 43 characters, so the body is one line that ends it.
        text.push_str(&format!(
            "-> {X25519} {}\n{}\n",
            BASE64_NOPAD.encode(share),
            BASE64_NOPAD.encode(body)
        ));
    }
    text.push_str("---");
    let mac = hmac::sign(&key.mac_key()?, text.as_bytes());
    text.push_str(&format!(" {}\n", BASE64_NOPAD.encode(mac.as_ref())));
    Ok(text.into_bytes())
}

impl Header {
    /// Takes the header from the front of `bytes`: itself and its length, or `None` if more bytes are needed.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, BackupError> {
        let bad = |what: &'static str| BackupError::Damaged(format!("its header has {what}"));
        let version = VERSION.as_bytes();
        let seen = bytes.len().min(version.len());
        if bytes[..seen] != version[..seen] {
            return Err(BackupError::NotABackup("it does not begin like an age file"));
        }
        let mut lines = Lines { bytes, at: 0 };
        let Some(first) = lines.next()? else { return Ok(None) };
        if first != VERSION {
            return Err(BackupError::NotABackup("another version of the age format"));
        }
        let mut stanzas: Vec<(Vec<String>, Vec<u8>)> = Vec::new();
        loop {
            let start = lines.at;
            let Some(line) = lines.next()? else { return Ok(None) };
            if let Some(mac) = line.strip_prefix("--- ") {
                let mac = BASE64_NOPAD.decode(mac.as_bytes()).map_err(|_| bad("a MAC that is no base64"))?;
                let signed = bytes[..start + 3].to_vec();
                return Ok(Some((Self { stanzas, signed, mac }, lines.at)));
            }
            let arguments = line.strip_prefix("-> ").ok_or_else(|| bad("a line that is no stanza"))?;
            let arguments: Vec<_> = arguments.split(' ').map(str::to_owned).collect();
            if arguments.iter().any(|argument| !is_printable(argument)) {
                return Err(bad("a stanza with an empty or unprintable argument"));
            }
            let mut body = Vec::new();
            loop {
                let Some(line) = lines.next()? else { return Ok(None) };
                let decoded = BASE64_NOPAD.decode(line.as_bytes());
                match decoded {
                    Ok(decoded) if line.len() <= COLUMNS => body.extend(decoded),
                    _ => return Err(bad("a body that is no base64")),
                }
                if line.len() < COLUMNS {
                    break;
                }
            }
            stanzas.push((arguments, body));
        }
    }

    /// The arguments of the first stanza, behind its type.
    pub(crate) fn manifest(&self, stanza_type: &str) -> Option<&[String]> {
        let (arguments, body) = self.stanzas.first()?;
        let (first, rest) = arguments.split_first()?;
        (first == stanza_type && body.is_empty()).then_some(rest)
    }

    /// The file key for each X25519 recipient.
    pub(crate) fn wrapped(&self) -> impl Iterator<Item = Result<Wrapped, BackupError>> {
        self.stanzas.iter().filter(|(arguments, _)| arguments[0] == X25519).map(|(arguments, body)| {
            let bad = || BackupError::Damaged("its header has a recipient of the wrong length".to_owned());
            let [_, share] = &arguments[..] else { return Err(bad()) };
            let share = BASE64_NOPAD.decode(share.as_bytes()).map_err(|_| bad())?;
            Ok(Wrapped {
                share: share.try_into().map_err(|_| bad())?,
                body: body[..].try_into().map_err(|_| bad())?,
            })
        })
    }

    /// Whether it is as the holder of the file key wrote it.
    pub(crate) fn check_mac(&self, key: &FileKey) -> Result<(), BackupError> {
        hmac::verify(&key.mac_key()?, &self.signed, &self.mac)
            .map_err(|_| BackupError::Damaged("its header was changed".to_owned()))
    }
}

fn is_printable(argument: &str) -> bool {
    !argument.is_empty() && argument.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whole lines, as far as there are.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Result<Option<&'a str>, BackupError> {
        let rest = &self.bytes[self.at..];
        let Some(length) = rest.iter().position(|&byte| byte == b'\n') else {
            if self.bytes.len() >= MAX {
                return Err(BackupError::NotABackup("its header has no end"));
            }
            return Ok(None);
        };
        self.at += length + 1;
        if self.at > MAX {
            return Err(BackupError::NotABackup("its header is too long"));
        }
        let line = core::str::from_utf8(&rest[..length]);
        line.map(Some).map_err(|_| BackupError::Damaged("its header is not text".to_owned()))
    }
}
