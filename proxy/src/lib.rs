//! Reverse proxy that terminates TLS with keys that only the HSM engines hold.
