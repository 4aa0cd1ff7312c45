use schemars::JsonSchema;
use serde::Deserialize;

use super::host::HostPattern;
use super::site::SiteSettings;
use crate::tls::{ClientAuthError, ClientCertificates, MinTls, TicketKeySource, TlsPolicy};

/// `[tls]`: how TLS is spoken.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct TlsSettings {
    /// After Mozilla's guidelines for servers.
    pub preset: TlsPreset,
    /// A host of the site that clients get who ask for no name, or one that is no site's; without it they are refused.
    #[schemars(with = "Option<String>")]
    pub default_site: Option<HostPattern>,
    /// Whose keys session tickets are encrypted with.
    pub ticket_keys: TicketKeySource,
}

/// A configuration of Mozilla's Server Side TLS guidelines, version 5.7.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TlsPreset {
    /// TLS 1.2 and 1.3.
    #[default]
    Intermediate,
    /// TLS 1.3 only.
    Modern,
}

impl TlsSettings {
    /// What a site demands: its own settings, else the preset's. Reads the files about clients' certificates.
    ///
    /// # Errors
    ///
    /// [`ClientAuthError`] if such a file can't be used.
    pub(crate) fn policy(&self, site: &SiteSettings) -> Result<TlsPolicy, ClientAuthError> {
        let preset = match self.preset {
            TlsPreset::Intermediate => MinTls::Tls12,
            TlsPreset::Modern => MinTls::Tls13,
        };
        let client_certificates = match (site.client_auth, &site.client_ca) {
            (Some(auth), Some(anchors)) => Some(ClientCertificates::load(auth, anchors, &site.client_crl)?),
            _ => None,
        };
        Ok(TlsPolicy { min_version: site.min_tls.unwrap_or(preset), client_certificates })
    }
}
