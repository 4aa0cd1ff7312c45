//! Sites by the million: a key of the engine for each, and its certificate in a file.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::Args;
use keycore_wire::{KeyAlgorithm, KeySelector, PublicKey};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SubjectPublicKeyInfo};

use crate::cluster::{client, generate};
use crate::{Engine, Outcome};

/// What makes the certificates, and where they go.
#[derive(Debug, Args)]
pub(crate) struct Sites {
    /// Directory for `site-N.example.pem`.
    #[arg(long)]
    directory: PathBuf,
    /// Directory of the CA: `sites-ca.pem` to trust, and its key. It is made if it isn't there.
    #[arg(long)]
    ca: PathBuf,
    #[arg(long)]
    from: u64,
    #[arg(long)]
    to: u64,
    /// Connections to the engine, each with a key under way.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=64))]
    connections: u64,
}

/// Makes keys and certificates for the sites with the numbers from `from` to `to`, exclusive.
pub(crate) fn make(engine: &Engine, sites: &Sites) -> Outcome<()> {
    let ca = authority(&sites.ca)?;
    let each = (sites.to.saturating_sub(sites.from)).div_ceil(sites.connections).max(1);
    std::thread::scope(|scope| {
        let parts = (0..sites.connections).map(|part| {
            let end = |part: u64| (sites.from + part * each).min(sites.to);
            let (numbers, ca) = (end(part)..end(part + 1), &ca);
            // An error as text: it goes from one thread to another.
            scope
                .spawn(move || some(engine, &sites.directory, numbers, ca).map_err(|error| error.to_string()))
        });
        // All are started before one is waited for.
        let parts: Vec<_> = parts.collect();
        for part in parts {
            part.join().map_err(|_| "a thread died")??;
        }
        Ok(())
    })
}

fn some(engine: &Engine, directory: &Path, numbers: Range<u64>, ca: &Issuer<'_, KeyPair>) -> Outcome<()> {
    if numbers.is_empty() {
        return Ok(());
    }
    let mut client = client(engine)?;
    for number in numbers {
        let info = generate(&mut client, KeyAlgorithm::P256, &format!("site-{number:07}"))?;
        let public = client.call(&PublicKey { key: KeySelector::Id(info.id) })?;
        let key = SubjectPublicKeyInfo::from_der(&public.spki)?;
        let name = format!("site-{number}.example");
        let certificate = CertificateParams::new(vec![name.clone()])?.signed_by(&key, ca)?;
        fs::write(directory.join(name + ".pem"), certificate.pem())?;
    }
    Ok(())
}

/// The CA of this directory, whose key is no secret.
fn authority(directory: &Path) -> Outcome<Issuer<'static, KeyPair>> {
    let key_file = directory.join("sites-ca.key");
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "CA of the benchmark's sites");
    if let Ok(der) = fs::read(&key_file) {
        return Ok(Issuer::new(params, KeyPair::try_from(der)?));
    }
    let key = KeyPair::generate()?;
    fs::write(directory.join("sites-ca.pem"), params.self_signed(&key)?.pem())?;
    fs::write(&key_file, key.serialize_der())?;
    Ok(Issuer::new(params, key))
}
