//! A throwaway CA and a certificate of each kind, which all servers show: ours have the keys imported.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::scenario::Site;
use crate::error::Error;
use crate::process::{find, run};

/// The CA, and what it issued.
pub(crate) struct Certificates {
    /// What the client trusts.
    pub(crate) ca: PathBuf,
    pub(crate) p256: Certificate,
    pub(crate) rsa2048: Certificate,
}

/// A site's certificate and key, in files.
pub(crate) struct Certificate {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
    /// Chain and key in one file, as HAProxy wants it.
    pub(crate) both: PathBuf,
}

impl Certificates {
    pub(crate) fn make(directory: &Path) -> Result<Self, Error> {
        let openssl = find("openssl").ok_or(Error::MissingTool("openssl"))?;
        let (ca_key, ca) = (directory.join("ca.key"), directory.join("ca.pem"));
        let extensions = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign"];
        request(&openssl, &P256, "/CN=benchmark CA", &ca_key, &ca, &extensions, None)?;
        let leaf = |site: Site| Certificate::make(&openssl, directory, site, (&ca, &ca_key));
        let (p256, rsa2048) = (leaf(Site::P256)?, leaf(Site::Rsa2048)?);
        Ok(Self { p256, rsa2048, ca })
    }

    pub(crate) fn of(&self, site: Site) -> &Certificate {
        match site {
            Site::P256 => &self.p256,
            Site::Rsa2048 => &self.rsa2048,
        }
    }
}

impl Certificate {
    fn make(openssl: &Path, directory: &Path, site: Site, issuer: (&Path, &Path)) -> Result<Self, Error> {
        let file = |suffix: &str| directory.join(format!("{}.{suffix}", site.label()));
        let made = Self { chain: file("pem"), key: file("key"), both: file("both.pem") };
        let name = format!("subjectAltName=DNS:{}", site.host());
        let extensions = [
            "basicConstraints=critical,CA:FALSE",
            "keyUsage=critical,digitalSignature",
            "extendedKeyUsage=serverAuth",
            &name,
        ];
        let algorithm = match site {
            Site::P256 => &P256,
            Site::Rsa2048 => &RSA_2048,
        };
        let subject = format!("/CN={}", site.host());
        request(openssl, algorithm, &subject, &made.key, &made.chain, &extensions, Some(issuer))?;
        let mut both = std::fs::read(&made.chain).map_err(Error::file(&made.chain))?;
        both.extend(std::fs::read(&made.key).map_err(Error::file(&made.key))?);
        std::fs::write(&made.both, both).map_err(Error::file(&made.both))?;
        Ok(made)
    }
}

const P256: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
const RSA_2048: [&str; 4] = ["-newkey", "rsa", "-pkeyopt", "rsa_keygen_bits:2048"];

fn request(
    openssl: &Path,
    algorithm: &[&str],
    subject: &str,
    key: &Path,
    out: &Path,
    extensions: &[&str],
    issuer: Option<(&Path, &Path)>,
) -> Result<(), Error> {
    // Without the system's configuration, which would add extensions of its own.
    let config = out.with_extension("cnf");
    std::fs::write(&config, "[req]\ndistinguished_name = dn\n[dn]\n").map_err(Error::file(&config))?;
    let mut command = Command::new(openssl);
    command.args(["req", "-x509", "-nodes", "-days", "2"]).args(algorithm);
    command.args(["-subj", subject, "-config"]).arg(config).arg("-keyout").arg(key).arg("-out").arg(out);
    for extension in extensions {
        command.args(["-addext", extension]);
    }
    if let Some((ca, ca_key)) = issuer {
        command.arg("-CA").arg(ca).arg("-CAkey").arg(ca_key);
    }
    command.stdout(Stdio::null()).stderr(Stdio::null());
    run(command, "openssl req")
}
