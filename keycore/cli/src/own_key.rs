//! Keys of people, outside of the HSM: what approves and what is a second factor. `hsm` signs with a file, lets a command sign,
//! or takes a signature that was made elsewhere.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use clap::Args;
use data_encoding::BASE64;
use keycore_wire::MAX_OWN_KEY;

use crate::failure::Failure;
use crate::{file, private_key};

/// Longest PEM file of a public key, in bytes.
const LONGEST_PEM: usize = 8 * 1024;

/// Where a signature comes from.
#[derive(Debug, Args)]
#[group(required = false, multiple = false, id = "signature-source")]
pub(crate) struct SignedBy {
    /// PEM file with the private key: RSA, P-256 or Ed25519
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,

    /// Command that reads the text from its input and writes the signature to its output
    #[arg(long, value_name = "COMMAND")]
    sign_with: Option<String>,

    /// File with the signature, made by openssl elsewhere
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
}

impl SignedBy {
    /// A signature by the private key in a file.
    pub(crate) fn file(path: &Path) -> Self {
        Self { key: Some(path.to_owned()), sign_with: None, signature: None }
    }

    /// A signature that a command makes.
    pub(crate) fn command(command: &str) -> Self {
        Self { key: None, sign_with: Some(command.to_owned()), signature: None }
    }

    /// The signature of `text`.
    pub(crate) fn sign(&self, text: &str) -> Result<Vec<u8>, Failure> {
        match (&self.key, &self.sign_with, &self.signature) {
            (Some(path), _, _) => OwnKey::read(path)?.sign(text),
            (_, Some(command), _) => ask_command(command, text),
            (_, _, Some(path)) => file::read(path, MAX_OWN_KEY),
            _ => Err(Failure::Usage("say what signs: --key, --sign-with or --signature".to_owned())),
        }
    }

    /// The public key in `file`, or that of `--key`.
    pub(crate) fn public_key(&self, public: Option<&Path>) -> Result<Vec<u8>, Failure> {
        match (public, &self.key) {
            (Some(path), _) => read_public(path),
            (None, Some(path)) => OwnKey::read(path)?.spki(),
            (None, None) => Err(Failure::Usage("name the public key with --public-key".to_owned())),
        }
    }
}

enum OwnKey {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl OwnKey {
    fn read(path: &Path) -> Result<Self, Failure> {
        let pkcs8 = private_key::read(path)?;
        let der = pkcs8.expose();
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der)
            .map(Self::P256)
            .or_else(|_| Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map(Self::Ed25519))
            .or_else(|_| RsaKeyPair::from_pkcs8(der).map(Self::Rsa))
            .map_err(|_| Failure::Content {
                path: path.to_owned(),
                problem: "an approver's key is RSA of 2,048 bits or more, P-256 or Ed25519".to_owned(),
                advice: Some(
                    "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out FILE".to_owned(),
                ),
            })
    }

    fn sign(&self, text: &str) -> Result<Vec<u8>, Failure> {
        let (random, text) = (SystemRandom::new(), text.as_bytes());
        match self {
            Self::P256(key) => key.sign(&random, text).map(|signature| signature.as_ref().to_vec()),
            Self::Ed25519(key) => Ok(key.sign(text).as_ref().to_vec()),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, text, &mut signature).map(|()| signature)
            }
        }
        .map_err(|_| Failure::NoRandom)
    }

    fn spki(&self) -> Result<Vec<u8>, Failure> {
        let der: Result<PublicKeyX509Der<'_>, _> = match self {
            Self::P256(key) => key.public_key().as_der(),
            Self::Ed25519(key) => key.public_key().as_der(),
            Self::Rsa(key) => key.public_key().as_der(),
        };
        der.map(|der| der.as_ref().to_vec()).map_err(|_| Failure::NoRandom)
    }
}

/// Reads the SubjectPublicKeyInfo out of a PEM file.
pub(crate) fn read_public(path: &Path) -> Result<Vec<u8>, Failure> {
    let content = file::read(path, LONGEST_PEM)?;
    let text = String::from_utf8_lossy(&content);
    let body = text
        .split_once("-----BEGIN PUBLIC KEY-----")
        .and_then(|(_, rest)| rest.split_once("-----END PUBLIC KEY-----"))
        .map(|(body, _)| body.split_whitespace().collect::<String>());
    body.and_then(|body| BASE64.decode(body.as_bytes()).ok()).ok_or_else(|| Failure::Content {
        path: path.to_owned(),
        problem: "no public key in PEM".to_owned(),
        advice: Some("openssl pkey -in KEY -pubout -out FILE".to_owned()),
    })
}

fn ask_command(command: &str, text: &str) -> Result<Vec<u8>, Failure> {
    let failed = |source| Failure::Read { path: command.into(), source };
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        // A command that reads nothing may know what it signs from elsewhere; its signature is looked at in any case.
        let _ = input.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    if !output.status.success() {
        return Err(Failure::Usage(format!("{command}: {}", output.status)));
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_openssl_sign_and_tell_their_public_half() {
        let directory = tempfile::tempdir().unwrap();
        for (algorithm, option) in
            [("EC", "ec_paramgen_curve:P-256"), ("RSA", "rsa_keygen_bits:2048"), ("ED25519", "")]
        {
            let path = directory.path().join(algorithm);
            let public = directory.path().join("public");
            let mut make = Command::new("openssl");
            make.args(["genpkey", "-algorithm", algorithm, "-out"]).arg(&path);
            if !option.is_empty() {
                make.args(["-pkeyopt", option]);
            }
            let Ok(made) = make.output() else {
                assert!(std::env::var_os("HSM_TEST_REQUIRE_TOOLS").is_none(), "openssl is required");
                println!("SKIPPED: openssl is not installed");
                return;
            };
            assert!(made.status.success(), "{made:?}");
            let mut tell = Command::new("openssl");
            tell.args(["pkey", "-pubout", "-in"]).arg(&path).arg("-out").arg(&public);
            assert!(tell.output().unwrap().status.success());
            let by = SignedBy::file(&path);
            assert_eq!(by.public_key(None).unwrap(), by.public_key(Some(&public)).unwrap());
            assert!(by.sign("text").unwrap().len() >= 64);
        }
    }

    #[test]
    fn a_command_gets_the_text_and_gives_the_signature() {
        assert_eq!(SignedBy::command("tr a-z A-Z").sign("text").unwrap(), b"TEXT");
        assert!(SignedBy::command("exit 3").sign("text").is_err());
    }
}
