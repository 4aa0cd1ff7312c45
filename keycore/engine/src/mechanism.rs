//! What keys do, mechanism by mechanism, over aws-lc-rs. Who may do it, and with which key, is decided before.

mod cipher;
mod derive;
mod gcm_nonce;
mod hash;
mod public_key;
mod rsa_cipher;
mod sign;
mod verify;
mod wrap;

use keycore_wire::RefusalCode;

use crate::denial::Denial;

pub(crate) use cipher::{decrypt, encrypt};
pub(crate) use derive::derive;
pub(crate) use gcm_nonce::GcmNonces;
pub(crate) use hash::digest;
pub(crate) use public_key::{Curve, PublicKey};
pub(crate) use sign::sign;
pub(crate) use verify::{verify, verify_code};
pub(crate) use wrap::{unwrap, wrap};

/// The key's algorithm has not this mechanism.
fn not_offered(detail: impl Into<String>) -> Denial {
    Denial::new(RefusalCode::MechanismNotOffered, detail)
}

/// A ciphertext or a wrapped key is not right; nobody learns what is wrong with it.
fn decryption_failed() -> Denial {
    Denial::new(RefusalCode::DecryptionFailed, "it does not decrypt under this key")
}

/// A parameter does not fit.
fn bad_input(detail: impl Into<String>) -> Denial {
    Denial::new(RefusalCode::WrongInput, detail)
}
