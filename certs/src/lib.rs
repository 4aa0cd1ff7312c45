//! CSRs and certificates whose private keys live in the HSM engine.
