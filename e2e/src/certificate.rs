//! Keys that were made outside of any engine, with their certificates; and an authority that is outside, too.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program::run;

/// Arguments of openssl's for a new P-256 key in a file without a password.
const NEW_KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

/// A P-256 key in a file, and its private scalar: a test that looks for it knows its bytes.
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
        let (pem, certificate) = self_signed(openssl, directory, "self-made");
        let text = run(Command::new(openssl).args(["ec", "-noout", "-text", "-in"]).arg(&pem)).success();
        Self { pem, certificate, scalar: scalar(&text) }
    }
}

/// Makes a P-256 key and a certificate for `localhost` of it: their files are `name`'s with `.key` and `.pem`.
///
/// # Panics
///
/// If openssl fails.
pub fn self_signed(openssl: &Path, directory: &Path, name: &str) -> (PathBuf, PathBuf) {
    let [key, certificate] = ["key", "pem"].map(|ending| directory.join(format!("{name}.{ending}")));
    let mut command = Command::new(openssl);
    command.args(["req", "-x509"]).args(NEW_KEY);
    command.args(["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]);
    command.args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"]).arg(&key);
    run(command.arg("-out").arg(&certificate)).success();
    (key, certificate)
}

/// A certificate authority of openssl's, in a directory: its key is in `ca.key`, its certificate in `ca.crt`.
#[derive(Debug)]
pub struct OpensslAuthority<'a> {
    openssl: &'a Path,
    directory: &'a Path,
}

impl<'a> OpensslAuthority<'a> {
    /// Makes one.
    ///
    /// # Panics
    ///
    /// If openssl fails.
    pub fn create(openssl: &'a Path, directory: &'a Path) -> Self {
        let mut command = Command::new(openssl);
        command.current_dir(directory).args(["req", "-x509"]).args(NEW_KEY);
        command.args(["-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=a CA", "-days", "30"]);
        run(&mut command).success();
        Self { openssl, directory }
    }

    /// Signs the request `NAME.csr`: its certificate, for an extended key usage as openssl calls it, is then in `NAME.crt`.
    /// `more` are further arguments of `openssl x509 -req`.
    ///
    /// # Panics
    ///
    /// If openssl fails.
    #[track_caller]
    pub fn sign(&self, name: &str, usage: &str, more: &[&str]) {
        let extensions = self.directory.join(format!("{name}.ext"));
        std::fs::write(&extensions, format!("extendedKeyUsage={usage}\n")).expect("a directory");
        let mut command = Command::new(self.openssl);
        command.current_dir(self.directory).args(["x509", "-req", "-CA", "ca.crt", "-CAkey", "ca.key"]);
        command.args(["-CAcreateserial", "-days", "30", "-extfile"]).arg(extensions).args(more);
        command.args(["-in", &format!("{name}.csr"), "-out", &format!("{name}.crt")]);
        run(&mut command).success();
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
