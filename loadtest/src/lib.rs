//! Full-handshake load and failover drill against a TLS server.
