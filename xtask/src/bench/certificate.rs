//! A throwaway CA and P-256 certificate for the servers that need their key in a file.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::Error;
use crate::process::{find, run};

pub(crate) struct Certificate {
    /// What the client trusts.
    pub(crate) ca: PathBuf,
    /// The leaf for localhost, issued by the CA: a chain as long as the one that `hsm-proxy dev` makes.
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
    /// Chain and key in one file, as HAProxy wants it.
    pub(crate) both: PathBuf,
}

impl Certificate {
    pub(crate) fn make(directory: &Path) -> Result<Self, Error> {
        let openssl = find("openssl").ok_or(Error::MissingTool("openssl"))?;
        let file = |name: &str| directory.join(name);
        let (ca_key, made) = (
            file("ca.key"),
            Self {
                ca: file("ca.pem"),
                chain: file("leaf.pem"),
                key: file("leaf.key"),
                both: file("both.pem"),
            },
        );
        request(
            &openssl,
            "/CN=benchmark CA",
            &ca_key,
            &made.ca,
            &["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign"],
            None,
        )?;
        let leaf = [
            "basicConstraints=critical,CA:FALSE",
            "keyUsage=critical,digitalSignature",
            "extendedKeyUsage=serverAuth",
            "subjectAltName=DNS:localhost",
        ];
        request(&openssl, "/CN=localhost", &made.key, &made.chain, &leaf, Some((&made.ca, &ca_key)))?;
        let mut both = std::fs::read(&made.chain).map_err(Error::file(&made.chain))?;
        both.extend(std::fs::read(&made.key).map_err(Error::file(&made.key))?);
        std::fs::write(&made.both, both).map_err(Error::file(&made.both))?;
        Ok(made)
    }
}

fn request(
    openssl: &Path,
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
    command.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]);
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
