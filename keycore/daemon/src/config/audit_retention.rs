//! The table `[audit-retention]`: how much of the audit log is kept.

use std::num::NonZeroUsize;
use std::time::Duration;

use keycore_audit::Retention;
use serde::de::Deserializer;

use super::value;

/// How much of each replica's audit log is kept; without either, all of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct AuditRetention {
    /// Older records may go: `"1d"` to `"3650d"`.
    #[serde(deserialize_with = "age")]
    pub age: Option<Duration>,
    /// MiB of a replica's log above which the oldest records may go; 128 to 1,073,741,824.
    #[serde(deserialize_with = "mib")]
    pub mib: Option<NonZeroUsize>,
}

impl AuditRetention {
    /// The same, as the engine takes it.
    pub(crate) fn retention(&self) -> Retention {
        Retention { age: self.age, bytes: self.mib.map(|mib| (mib.get() as u64) << 20) }
    }
}

fn age<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    value::duration_between::<86_400, 315_360_000, _>(deserializer).map(Some)
}

fn mib<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NonZeroUsize>, D::Error> {
    value::between::<128, 1_073_741_824, _, _>(deserializer).map(Some)
}
