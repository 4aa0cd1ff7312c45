//! Reverse proxy that terminates TLS with keys that only the HSM engines hold.

use std::process::ExitCode;

/// Buffers and handshake states of many sizes come and go with every connection.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    hsm_proxy::cli::main()
}
