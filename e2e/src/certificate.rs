//! A key that was made outside of any engine, so that a test knows its bytes.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program::run;

/// A P-256 key in a file, and its private scalar.
#[derive(Debug)]
pub struct SelfMadeKey {
    /// PKCS#8 PEM, where openssl wrote it.
    pub pem: PathBuf,
    /// A self-signed certificate for `localhost` with this key.
    pub certificate: PathBuf,
    /// The 32 bytes of the private scalar, big-endian.
    pub scalar: [u8; 32],
}

impl SelfMadeKey {
    /// Makes one with openssl.
    ///
    /// # Panics
    ///
    /// If openssl fails.
    pub fn generate(openssl: &Path, directory: &Path) -> Self {
        let pem = directory.join("self-made.key");
        let certificate = directory.join("self-made.pem");
        run(Command::new(openssl)
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
            ])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-keyout")
            .arg(&pem)
            .arg("-out")
            .arg(&certificate))
        .success();
        let text = run(Command::new(openssl).args(["ec", "-noout", "-text", "-in"]).arg(&pem)).success();
        Self { pem, certificate, scalar: scalar(&text) }
    }
}

/// Reads the `priv:` block of openssl's text form.
fn scalar(text: &str) -> [u8; 32] {
    let block = text.split("priv:").nth(1).and_then(|rest| rest.split("pub:").next()).expect("a priv: block");
    let digits: String = block.chars().filter(char::is_ascii_hexdigit).collect();
    let bytes: Vec<u8> = (0..digits.len() / 2)
        .map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).expect("hexadecimal"))
        .collect();
    let mut scalar = [0; 32];
    let tail = &bytes[bytes.len().saturating_sub(32)..];
    scalar[32 - tail.len()..].copy_from_slice(tail);
    scalar
}
