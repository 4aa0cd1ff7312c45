//! What must hold for any bytes at all. Shared by the stable test beside this file and the fuzz target `backup` in `fuzz/`.

use keycore_backup::{
    BackupError, BackupReader, CustodianShare, Identity, Opener, Recipient, Share, SharePurpose,
};

/// An identity of which the key is no secret.
pub(crate) fn identity() -> Identity {
    Identity::from_bytes(&mut [1; 32])
}

/// Reads `file` in pieces: it is a backup, or there is an error with a text. Items come from whole files only as far as
/// they are authentic.
pub(crate) fn backup(file: &[u8], piece: usize) -> bool {
    let peeked = BackupReader::peek(file);
    let mut reader = BackupReader::new(Opener::Identity(identity()));
    let mut items = 0;
    let mut outcome = Ok(());
    for piece in file.chunks(piece.max(1)) {
        outcome = reader.push(piece, |_| {
            items += 1;
            Ok::<_, BackupError>(())
        });
        if outcome.is_err() {
            break;
        }
    }
    match outcome.and_then(|()| reader.finish(|_| Ok::<_, BackupError>(()))) {
        Ok(manifest) => {
            assert_eq!(peeked.ok(), Some(manifest), "the same before and after it was opened");
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert!(items == 0 || peeked.is_ok(), "items without a manifest");
            false
        }
    }
}

/// What people type or paste: identities, recipients, shares. Each is one, or refused; who prints one reads it again.
pub(crate) fn texts(text: &[u8]) {
    if let Ok(identity) = Identity::parse(text) {
        let again = Identity::parse(identity.to_text().as_bytes()).ok();
        assert!(again.is_some_and(|again| again.expose() == identity.expose()));
    }
    let recipient = std::str::from_utf8(text).ok().and_then(|text| text.parse::<Recipient>().ok());
    if let Some(recipient) = recipient {
        let again: Option<Recipient> = recipient.to_string().parse().ok();
        assert!(again.is_some_and(|again| again.fingerprint() == recipient.fingerprint()));
    }
    // One share is never enough, unless it says so itself, which none does that was made here.
    if let Ok(share) = CustodianShare::parse(text) {
        let _of_a_forged_one = CustodianShare::combine(vec![share]);
    }
    if let Ok(share) = Share::parse(SharePurpose::Unseal, text) {
        let enough = share.threshold() < 2;
        assert!(enough || Share::combine(&[share]).is_err());
    }
}
