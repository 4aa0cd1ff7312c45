//! What a new key is, on the command line.

use std::path::Path;

use clap::{Args, Subcommand, ValueEnum};
use keycore_wire::{
    Attribute, AttributeTemplate, Attributes, KeyAlgorithm, KeyLabel, KeyTemplate, MAX_GENERIC_SECRET,
    PlainKey, UserName,
};

use crate::failure::Failure;
use crate::{file, private_key};

#[derive(Subcommand)]
pub(crate) enum Pair {
    /// RSA, public exponent 65537
    Rsa {
        /// Length of the modulus
        #[arg(long, default_value = "2048", value_enum)]
        modulus_size_bits: Modulus,
        #[command(flatten)]
        new: NewKey,
    },
    /// ECDSA on one of NIST's curves or secp256k1
    Ec {
        /// Which curve
        #[arg(long, value_enum)]
        curve: Curve,
        #[command(flatten)]
        new: NewKey,
    },
    /// Ed25519 (few browsers take it in certificates)
    Ed25519 {
        #[command(flatten)]
        new: NewKey,
    },
    /// ML-DSA (FIPS 204), which quantum computers don't break
    MlDsa {
        /// Which of its parameter sets
        #[arg(long, default_value = "65", value_enum)]
        parameter_set: ParameterSet,
        #[command(flatten)]
        new: NewKey,
    },
}

#[derive(Subcommand)]
pub(crate) enum SecretKey {
    /// AES
    Aes {
        /// Length of the key
        #[arg(long, default_value = "32", value_enum)]
        key_length_bytes: AesLength,
        #[command(flatten)]
        new: NewKey,
    },
    /// A secret for HMAC and key derivation
    GenericSecret {
        /// Length of the secret
        #[arg(long, default_value = "32", value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_GENERIC_SECRET)))]
        key_length_bytes: u16,
        #[command(flatten)]
        new: NewKey,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Modulus {
    #[value(name = "2048")]
    Bits2048,
    #[value(name = "3072")]
    Bits3072,
    #[value(name = "4096")]
    Bits4096,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Curve {
    #[value(alias = "secp256r1", alias = "prime256v1")]
    P256,
    #[value(alias = "secp384r1")]
    P384,
    #[value(alias = "secp521r1")]
    P521,
    Secp256k1,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum ParameterSet {
    #[value(name = "44")]
    MlDsa44,
    #[value(name = "65")]
    MlDsa65,
    #[value(name = "87")]
    MlDsa87,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum AesLength {
    #[value(name = "16")]
    Bytes16,
    #[value(name = "24")]
    Bytes24,
    #[value(name = "32")]
    Bytes32,
}

/// What a file with a key holds.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Form {
    Pem,
    Aes,
    GenericSecret,
}

/// What a key is for.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Usage {
    /// Signs and verifies; authenticates, if it is a secret key
    Sign,
    /// Encrypts and decrypts data
    Encrypt,
    /// Wraps and unwraps keys
    Wrap,
    /// Only unwraps keys
    Unwrap,
    /// Other keys are derived from it
    Derive,
    /// Signs TLS server handshakes and its own CSR, nothing else
    TlsServer,
    /// Signs TLS client handshakes and its own CSR, nothing else: of a proxy at its upstreams
    TlsClient,
}

/// What a new key is called and may do.
#[derive(Debug, Args)]
pub(crate) struct NewKey {
    /// Unique among your keys: 1 to 64 printable characters without spaces
    #[arg(long)]
    label: KeyLabel,
    /// What it is for
    #[arg(long, default_value = "sign", value_enum)]
    usage: Usage,
    /// Attributes to have besides: extractable, wrap-with-trusted, pkcs1-decrypt, …
    #[arg(long, value_name = "ATTRIBUTE", value_delimiter = ',')]
    with: Vec<Attribute>,
    /// Attributes not to have: verify, decrypt, token, modifiable, destroyable, …
    #[arg(long, value_name = "ATTRIBUTE", value_delimiter = ',')]
    without: Vec<Attribute>,
    /// Attributes that a key must have to be wrapped by this one
    #[arg(long, value_name = "ATTRIBUTE", value_delimiter = ',')]
    wrap_only_with: Vec<Attribute>,
    /// Attributes that a key must not have to be wrapped by this one
    #[arg(long, value_name = "ATTRIBUTE", value_delimiter = ',')]
    wrap_only_without: Vec<Attribute>,
    /// Attributes that keys have which this one unwraps
    #[arg(long, value_name = "ATTRIBUTE", value_delimiter = ',')]
    unwrap_with: Vec<Attribute>,
    /// Attributes that keys don't have which this one unwraps
    #[arg(long, value_name = "ATTRIBUTE", value_delimiter = ',')]
    unwrap_without: Vec<Attribute>,
    /// Approvals that changing, sharing, wrapping, rotating or deleting it takes, and unwrapping with it: 2 to 8, 0 for none
    #[arg(long, value_name = "USERS", default_value_t = 0)]
    quorum_management: u8,
    /// Approvals that signing, encrypting, decrypting and deriving with it takes: 2 to 8, 0 for none
    #[arg(long, value_name = "USERS", default_value_t = 0)]
    quorum_usage: u8,
    /// Crypto users to share it with, whose approvals count
    #[arg(long, value_name = "USER", value_delimiter = ',')]
    share_with: Vec<UserName>,
}

impl Pair {
    pub(crate) fn parts(&self) -> (KeyAlgorithm, &NewKey) {
        match self {
            Self::Rsa { modulus_size_bits, new } => (
                match modulus_size_bits {
                    Modulus::Bits2048 => KeyAlgorithm::Rsa2048,
                    Modulus::Bits3072 => KeyAlgorithm::Rsa3072,
                    Modulus::Bits4096 => KeyAlgorithm::Rsa4096,
                },
                new,
            ),
            Self::Ec { curve, new } => (
                match curve {
                    Curve::P256 => KeyAlgorithm::P256,
                    Curve::P384 => KeyAlgorithm::P384,
                    Curve::P521 => KeyAlgorithm::P521,
                    Curve::Secp256k1 => KeyAlgorithm::Secp256k1,
                },
                new,
            ),
            Self::Ed25519 { new } => (KeyAlgorithm::Ed25519, new),
            Self::MlDsa { parameter_set, new } => (
                match parameter_set {
                    ParameterSet::MlDsa44 => KeyAlgorithm::MlDsa44,
                    ParameterSet::MlDsa65 => KeyAlgorithm::MlDsa65,
                    ParameterSet::MlDsa87 => KeyAlgorithm::MlDsa87,
                },
                new,
            ),
        }
    }
}

impl SecretKey {
    pub(crate) fn parts(&self) -> (KeyAlgorithm, &NewKey) {
        match self {
            Self::Aes { key_length_bytes, new } => (
                match key_length_bytes {
                    AesLength::Bytes16 => KeyAlgorithm::Aes128,
                    AesLength::Bytes24 => KeyAlgorithm::Aes192,
                    AesLength::Bytes32 => KeyAlgorithm::Aes256,
                },
                new,
            ),
            Self::GenericSecret { key_length_bytes, new } => {
                (KeyAlgorithm::GenericSecret(*key_length_bytes), new)
            }
        }
    }
}

impl Form {
    pub(crate) fn read(self, path: &Path) -> Result<PlainKey, Failure> {
        let raw = || file::read_secret(path, usize::from(MAX_GENERIC_SECRET)).map(Into::into);
        match self {
            Self::Pem => private_key::read(path).map(PlainKey::Pkcs8),
            Self::Aes => raw().map(PlainKey::Aes),
            Self::GenericSecret => raw().map(PlainKey::GenericSecret),
        }
    }
}

impl Usage {
    fn attributes(self) -> Attributes {
        match self {
            Self::Sign => Attributes::SIGN,
            Self::Encrypt => Attributes::ENCRYPT,
            Self::Wrap => Attributes::WRAP,
            Self::Unwrap => Attributes::of(&[Attribute::Unwrap]),
            Self::Derive => Attributes::DERIVE,
            Self::TlsServer => Attributes::TLS_SERVER,
            Self::TlsClient => Attributes::TLS_CLIENT,
        }
    }
}

impl NewKey {
    pub(crate) fn template(&self) -> KeyTemplate {
        let mut template = KeyTemplate::new(self.label.clone(), self.usage.attributes());
        let (with, without) = (Attributes::of(&self.with), Attributes::of(&self.without));
        template.attributes = template.attributes.with(with).without(without);
        template.quorum_management = self.quorum_management;
        template.quorum_usage = self.quorum_usage;
        template.wrap_template = attribute_template(&self.wrap_only_with, &self.wrap_only_without);
        template.unwrap_template = attribute_template(&self.unwrap_with, &self.unwrap_without);
        template.share_with.clone_from(&self.share_with);
        template
    }
}

fn attribute_template(on: &[Attribute], off: &[Attribute]) -> Option<AttributeTemplate> {
    let is_given = !(on.is_empty() && off.is_empty());
    is_given.then(|| AttributeTemplate { on: Attributes::of(on), off: Attributes::of(off) })
}
