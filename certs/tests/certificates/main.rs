//! Certificates of every algorithm, judged by webpki and by OpenSSL.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod chains;
mod fake_engine;
mod requests;
mod verifiers;
