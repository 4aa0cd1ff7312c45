//! Certificates of every algorithm, judged by webpki and by OpenSSL.

mod chains;
mod fake_engine;
mod requests;
mod verifiers;
