//! Reverse proxy that terminates TLS with keys that only the HSM engines hold.

use std::process::ExitCode;

fn main() -> ExitCode {
    hsm_proxy::cli::main()
}
