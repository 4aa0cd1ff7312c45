//! The proxy with its key in process: the upper limit that a benchmark compares with. Never shipped.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use hsm_proxy::{Config, KeyError, KeySource, Proxy};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};
use rustls::sign::SigningKey;

/// As the product's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Serves the sites of a configuration with one private key from a file.
#[derive(Debug, Parser)]
#[command(name = "hsm-bench-inprocess", version)]
struct Arguments {
    /// A configuration of hsm-proxy; `[hsm]` is ignored.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The key of all its sites, PEM.
    #[arg(long, value_name = "PEM")]
    key: PathBuf,
}

/// One key, for every certificate that has its public key.
struct KeyFile(Arc<dyn SigningKey>);

impl KeyFile {
    fn load(path: &Path) -> Result<Self, Box<dyn std::error::Error>> {
        let key =
            PrivateKeyDer::from_pem_file(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(aws_lc_rs::sign::any_supported_type(&key)?))
    }
}

impl KeySource for KeyFile {
    fn signing_key(&self, spki: &SubjectPublicKeyInfoDer<'_>) -> Result<Arc<dyn SigningKey>, KeyError> {
        if self.0.public_key().is_some_and(|key| key == *spki) {
            Ok(Arc::clone(&self.0))
        } else {
            Err(KeyError::Mismatch)
        }
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hsm-bench-inprocess: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let config = Config::load(&arguments.config)?;
    let keys = KeyFile::load(&arguments.key)?;
    let proxy = Proxy::builder(config, Arc::new(keys)).bind()?;
    for address in proxy.local_addresses() {
        println!("ready {address}");
    }
    Ok(proxy.run(|| ())?)
}
