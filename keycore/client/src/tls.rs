//! What a client shows to engines on other machines, and whom it believes.

use core::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

use crate::endpoint::{Endpoint, EngineAddress, TcpEndpoint};

/// Longest file, in bytes.
const LONGEST: u64 = 256 * 1024;

/// The files in PEM that engines at `tcp://` addresses take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The cluster's trust anchor: the CA that made the engines' certificate.
    pub ca: Option<PathBuf>,
    /// The client's certificate, and those between it and the CA's.
    pub certificate: Option<PathBuf>,
    /// Its private key, readable by its owner only.
    pub key: Option<PathBuf>,
}

/// The client can't speak TLS as it is told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// An engine has a `tcp://` address, and a file is not named.
    #[error(
        "engines at tcp:// addresses need a CA, a client certificate and its key, and no {missing} is given"
    )]
    Incomplete {
        /// Which of them.
        missing: &'static str,
    },
    /// A file can't be read.
    #[error("can't read the {what} in {}: {source}", .path.display())]
    Unreadable {
        /// What should be in it.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else may read the key.
    #[error("the key file {} has mode {mode:04o}; only its owner may read it: chmod 600 it", .path.display())]
    TooOpen {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file has other things in it.
    #[error("there is no {what} in PEM in {}: {source}", .path.display())]
    NotPem {
        /// What should be in it.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// What is in a file is no good.
    #[error("the {what} in {} is of no use: {source}", .path.display())]
    Unusable {
        /// What.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

impl TlsFiles {
    /// The endpoints at these addresses. The files are read if one of them needs them.
    ///
    /// # Errors
    ///
    /// [`TlsError`] if a file is missing, or is not what it should be.
    pub fn endpoints(&self, addresses: Vec<EngineAddress>) -> Result<Vec<Endpoint>, TlsError> {
        let mut loaded: Option<ClientTls> = None;
        addresses
            .into_iter()
            .map(|address| match address {
                EngineAddress::Unix(path) => Ok(Endpoint::Unix(path)),
                EngineAddress::Tcp { host, port } => {
                    let tls = match &loaded {
                        Some(tls) => tls.clone(),
                        None => loaded.insert(self.load()?).clone(),
                    };
                    Ok(Endpoint::Tcp(TcpEndpoint { host, port, tls }))
                }
            })
            .collect()
    }

    fn load(&self) -> Result<ClientTls, TlsError> {
        let named = |path: &'_ Option<PathBuf>, missing| path.clone().ok_or(TlsError::Incomplete { missing });
        let (ca, certificate, key) = (
            named(&self.ca, "CA")?,
            named(&self.certificate, "client certificate")?,
            named(&self.key, "key")?,
        );
        let mut roots = RootCertStore::empty();
        for anchor in certificates("CA certificate", &ca)? {
            roots.add(anchor).map_err(unusable("CA certificate", &ca))?;
        }
        let chain = certificates("client certificate", &certificate)?;
        let pem = read("key", &key, true)?;
        let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|source| TlsError::NotPem {
            what: "private key",
            path: key.clone(),
            source,
        })?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable("client certificate", &certificate))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, private)
            .map_err(unusable("client certificate", &certificate))?;
        // Engines check the certificate of every connection, and resume none.
        config.resumption = Resumption::disabled();
        Ok(ClientTls(Arc::new(config)))
    }
}

/// A certificate with its key, and the CA of the engines.
#[derive(Clone)]
pub(crate) struct ClientTls(pub(crate) Arc<ClientConfig>);

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls(..)")
    }
}

fn unusable(what: &'static str, path: &Path) -> impl Fn(rustls::Error) -> TlsError {
    let path = path.to_owned();
    move |source| TlsError::Unusable { what, path: path.clone(), source }
}

/// At least one certificate.
fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(what, path, false)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let not_pem = |source| TlsError::NotPem { what, path: path.to_owned(), source };
    match found {
        Ok(found) if found.is_empty() => Err(not_pem(pem::Error::NoItemsFound)),
        Ok(found) => Ok(found),
        Err(error) => Err(not_pem(error)),
    }
}

/// A file's content; all checks are made on the opened file.
fn read(what: &'static str, path: &Path, is_secret: bool) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let unreadable = |source| TlsError::Unreadable { what, path: path.to_owned(), source };
    // Without O_NONBLOCK, a FIFO at that path would hang the program.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > LONGEST {
        return Err(unreadable(io::Error::other("it is no regular file of at most 256 KiB")));
    }
    // As with passwords: systemd's credentials are root:root with mode 0440.
    let forbidden = if metadata.uid() == 0 && metadata.gid() == 0 { 0o037 } else { 0o077 };
    if is_secret && metadata.mode() & forbidden != 0 {
        return Err(TlsError::TooOpen { path: path.to_owned(), mode: metadata.mode() & 0o7777 });
    }
    // One allocation, so that no copy of a key is left in freed memory.
    let capacity = usize::try_from(metadata.len()).unwrap_or(0) + 1;
    let mut content = Zeroizing::new(Vec::with_capacity(capacity));
    file.take(metadata.len()).read_to_end(&mut content).map_err(unreadable)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn remote() -> Vec<EngineAddress> {
        vec!["tcp://localhost".parse().unwrap()]
    }

    #[test]
    fn files_are_needed_for_other_machines_only() {
        let files = TlsFiles::default();
        assert_eq!(
            files.endpoints(vec!["/run/x".parse().unwrap()]).unwrap(),
            [Endpoint::Unix("/run/x".into())]
        );
        let error = files.endpoints(remote()).unwrap_err().to_string();
        assert!(error.contains("no CA is given"), "{error}");
    }

    #[test]
    fn the_file_that_is_wrong_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| Some(dir.path().join(name));
        let files = TlsFiles { ca: path("ca.pem"), certificate: path("c.pem"), key: path("key.pem") };
        let error = files.endpoints(remote()).unwrap_err().to_string();
        assert!(
            error.starts_with("can't read the CA certificate in ") && error.contains("ca.pem"),
            "{error}"
        );
        fs::write(dir.path().join("ca.pem"), "nothing").unwrap();
        let error = files.endpoints(remote()).unwrap_err().to_string();
        assert!(error.starts_with("there is no CA certificate in PEM in "), "{error}");
        fs::write(dir.path().join("key.pem"), "x").unwrap();
        fs::set_permissions(dir.path().join("key.pem"), Permissions::from_mode(0o644)).unwrap();
        let error = read("key", &dir.path().join("key.pem"), true).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }
}
