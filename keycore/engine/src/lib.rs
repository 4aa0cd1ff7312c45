//! The HSM's rules: sessions, users, policy, keys and audit; no sockets, no clock.
