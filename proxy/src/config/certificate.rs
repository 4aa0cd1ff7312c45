use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::acme::is_acme;
use super::{files, host};

/// Where a site's certificates come from.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(inline, with = "host::OneOrMore")]
pub enum CertificateSource {
    /// From these PEM files, one for each kind of key.
    Files(Vec<PathBuf>),
    /// From the authority that `[acme]` names.
    Acme,
    /// From a directory of PEM files, each named by its host, when a client asks for it: a path that ends with `/`.
    Directory(PathBuf),
}

impl CertificateSource {
    /// The files that are named; none for ACME and for a directory.
    pub fn files(&self) -> &[PathBuf] {
        match self {
            Self::Files(files) => files,
            Self::Acme | Self::Directory(_) => &[],
        }
    }

    /// The directory, if it is one.
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) => Some(path),
            Self::Files(_) | Self::Acme => None,
        }
    }

    /// Whether it comes by ACME.
    pub fn is_acme(&self) -> bool {
        matches!(self, Self::Acme)
    }
}

impl<'de> Deserialize<'de> for CertificateSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let files = files::one_or_more(deserializer)?;
        match &files[..] {
            [only] if is_acme(only) => Ok(Self::Acme),
            [only] if is_directory(only) => Ok(Self::Directory(only.clone())),
            several if several.iter().any(|path| is_directory(path)) => Err(serde::de::Error::custom(
                "a directory (a path that ends with \"/\") stands alone: it has the certificates of all names of the site",
            )),
            several if several.iter().any(|path| is_acme(path)) => Err(serde::de::Error::custom(
                "\"acme\" stands alone: a site's certificate comes by ACME or from files (a file of that name is \"./acme\")",
            )),
            _ => Ok(Self::Files(files)),
        }
    }
}

fn is_directory(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(b"/")
}
