use std::io;

/// A backup can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It is another sort of file, or a newer format.
    #[error("this is not a backup of an HSM cluster ({0})")]
    NotABackup(&'static str),
    /// None of the recipients is the identity's.
    #[error(
        "the identity does not open this backup: it is {identity}, and the backup is for {}",
        .recipients.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    WrongIdentity {
        /// The fingerprint of the identity's recipient.
        identity: crate::Fingerprint,
        /// Those that the manifest names.
        recipients: Vec<crate::Fingerprint>,
    },
    /// A byte of it is not what was written.
    #[error("the backup is damaged: {0}")]
    Damaged(String),
    /// It ends too early.
    #[error("the backup is truncated: {0}")]
    Truncated(&'static str),
    /// It can't be read.
    #[error("the backup can't be read: {0}")]
    Read(io::Error),
    /// It can't be written.
    #[error("the backup can't be written: {0}")]
    Write(#[from] io::Error),
    /// There is nobody to encrypt it to.
    #[error("a backup needs at least one recipient and at most {}", crate::Manifest::MAX_RECIPIENTS)]
    Recipients,
    /// A single item is larger than the format allows.
    #[error("a record of {0} bytes is too large for a backup")]
    TooLarge(usize),
    /// The cryptographic library failed.
    #[error("the cryptographic library failed")]
    Crypto,
}

impl From<aws_lc_rs::error::Unspecified> for BackupError {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self::Crypto
    }
}

/// A text is not a recipient or an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeyText {
    /// Expected `age1…`.
    #[error("not an age recipient: expected age1 and 58 more characters")]
    Recipient,
    /// Expected `AGE-SECRET-KEY-1…`.
    #[error("not an age identity: expected a line AGE-SECRET-KEY-1 and 58 more characters")]
    Identity,
}
