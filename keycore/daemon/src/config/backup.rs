//! The table `[backup]`: where backups go, for whom, how often.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use keycore_engine::BackupRecipient;
use serde::de::{Deserialize, Deserializer, Error};

use super::value;

/// How backups are made. Without directory and recipients there are none, by schedule or on demand.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct BackupConfig {
    /// Where they go; made with mode 0700 if it is absent. The same for all replicas.
    #[serde(deserialize_with = "value::some_path")]
    pub directory: Option<PathBuf>,
    /// Whom they are encrypted to: `"age1…"`, at most 32. Any of their identities opens a backup.
    #[serde(deserialize_with = "recipients")]
    pub recipients: Vec<BackupRecipient>,
    /// How often one is made by itself: `"1m"` to `"30d"`; none for `"never"`.
    #[serde(deserialize_with = "every")]
    pub every: Option<Duration>,
    /// How many of this cluster are kept; 1 to 10,000. Older ones are deleted after each new one.
    #[serde(deserialize_with = "value::between::<1, 10_000, _, _>")]
    pub keep: NonZeroUsize,
}

impl Default for BackupConfig {
    fn default() -> Self {
        Self {
            directory: None,
            recipients: Vec::new(),
            every: Some(Duration::from_hours(24)),
            keep: NonZeroUsize::MIN.saturating_add(89),
        }
    }
}

fn recipients<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<BackupRecipient>, D::Error> {
    const MOST: usize = 32;
    let texts = Vec::<String>::deserialize(deserializer)?;
    if texts.len() > MOST {
        return Err(D::Error::custom(format_args!(
            "expected at most {MOST} recipients, got {}",
            texts.len()
        )));
    }
    texts
        .iter()
        .map(|text| text.parse().map_err(|error| D::Error::custom(format_args!("{text:?} is {error}"))))
        .collect()
}

fn every<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == "never" {
        return Ok(None);
    }
    value::duration_between::<60, 2_592_000, _>(serde::de::value::StringDeserializer::new(text)).map(Some)
}
