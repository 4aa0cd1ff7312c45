//! What cluster information says of backups.

use keycore_wire::{BackupHealth, ClusterStatus, RestoredFrom};
use serde_json::{Value, json};

use crate::output::timestamp;

/// Lines below the table of engines: of the engine that knows most.
pub(super) fn lines<'a>(answers: impl Iterator<Item = &'a ClusterStatus>) -> String {
    let mut text = String::new();
    let Some(status) = answers.max_by_key(|status| status.revision) else { return text };
    if let Some(RestoredFrom { revision, made_at, restored_at }) = status.restored.as_deref() {
        text.push_str(&format!(
            "\nrestored {} from the backup of revision {revision}, made {}",
            timestamp(*restored_at),
            timestamp(*made_at)
        ));
    }
    if let Some(BackupHealth { made_at, name, failures, failure }) = status.backups.as_deref() {
        match made_at {
            Some(at) => text.push_str(&format!("\nlast backup {}: {name}", timestamp(*at))),
            None => text.push_str("\nno backup was made yet"),
        }
        if *failures > 0 {
            text.push_str(&format!("\nbackups fail ({failures} since then): {failure}"));
        }
    }
    text
}

/// For programs: when and from what it was restored.
pub(super) fn restored(status: &ClusterStatus) -> Value {
    status.restored.as_deref().map_or(Value::Null, |restored| {
        json!({
            "revision": restored.revision,
            "made_at": timestamp(restored.made_at),
            "restored_at": timestamp(restored.restored_at),
        })
    })
}

/// For programs: how backups go.
pub(super) fn backups(status: &ClusterStatus) -> Value {
    status.backups.as_deref().map_or(Value::Null, |health| {
        json!({
            "made_at": health.made_at.map(timestamp),
            "name": health.name,
            "failures": health.failures,
            "failure": health.failure,
        })
    })
}
