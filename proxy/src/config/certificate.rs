use std::path::PathBuf;

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
}

impl CertificateSource {
    /// The files that are named; none for ACME.
    pub fn files(&self) -> &[PathBuf] {
        match self {
            Self::Files(files) => files,
            Self::Acme => &[],
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
            several if several.iter().any(|path| is_acme(path)) => Err(serde::de::Error::custom(
                "\"acme\" stands alone: a site's certificate comes by ACME or from files (a file of that name is \"./acme\")",
            )),
            _ => Ok(Self::Files(files)),
        }
    }
}
