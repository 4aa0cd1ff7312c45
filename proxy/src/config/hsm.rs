use std::path::PathBuf;

use keycore_client::EngineAddress;
use keycore_wire::UserName;
use schemars::JsonSchema;
use serde::Deserialize;

/// `[hsm]`: the engines that hold the keys, and who the proxy is to them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct HsmSettings {
    /// Sockets of the engines, or `tcp://host:port`; if empty, every `/run/hsm-engine/engine-*.sock`, also those that come later.
    #[serde(deserialize_with = "engine_addresses")]
    #[schemars(with = "Vec<String>")]
    pub engines: Vec<EngineAddress>,
    /// The crypto user that owns the sites' keys.
    #[schemars(with = "String")]
    pub user: UserName,
    /// Its password; `$CREDENTIALS_DIRECTORY/hsm-password` if absent. Without either the proxy logs in by its uid.
    pub password_file: Option<PathBuf>,
    /// Trust anchor of the cluster, in PEM: for engines at `tcp://`.
    pub tls_ca: Option<PathBuf>,
    /// The certificate that the proxy shows to engines at `tcp://`, in PEM.
    pub tls_certificate: Option<PathBuf>,
    /// Its private key, in PEM, readable by its owner only.
    pub tls_key: Option<PathBuf>,
}

fn engine_addresses<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<EngineAddress>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| text.parse().map_err(serde::de::Error::custom)).collect()
}

#[expect(clippy::unwrap_used, reason = "a constant; a test makes the default")]
impl Default for HsmSettings {
    fn default() -> Self {
        Self {
            engines: Vec::new(),
            user: "web".parse().unwrap(),
            password_file: None,
            tls_ca: None,
            tls_certificate: None,
            tls_key: None,
        }
    }
}
