//! A key as it is shown.

use keycore_wire::KeyInfo;
use serde_json::{Value, json};

use crate::output::{fields, table, timestamp};

/// Whether it was ever outside of an engine.
fn origin(key: &KeyInfo) -> &'static str {
    if key.local { "engine" } else { "imported" }
}

/// One key, a property a line.
pub(super) fn details(key: &KeyInfo) -> String {
    fields(&[
        ("label", key.label.to_string()),
        ("id", key.id.to_string()),
        ("algorithm", key.algorithm.to_string()),
        ("usage", key.usage.to_string()),
        ("origin", origin(key).to_owned()),
        ("public key", format!("SHA-256 {}", key.spki_sha256)),
        ("created", timestamp(key.created_at)),
    ])
}

/// For programs.
pub(super) fn view(key: &KeyInfo) -> Value {
    json!({
        "id": key.id.to_string(),
        "label": key.label,
        "algorithm": key.algorithm.name(),
        "usage": key.usage.name(),
        "origin": origin(key),
        "spki_sha256": key.spki_sha256.to_string(),
        "owner": key.owner.to_string(),
        "created_at": timestamp(key.created_at),
    })
}

/// Many keys, one a line.
pub(super) fn listing(keys: &[KeyInfo]) -> String {
    let rows: Vec<_> = keys
        .iter()
        .map(|key| {
            [
                key.label.to_string(),
                key.algorithm.to_string(),
                key.usage.to_string(),
                origin(key).to_owned(),
                timestamp(key.created_at),
                key.id.to_string(),
            ]
        })
        .collect();
    let head = ["LABEL", "ALGORITHM", "USAGE", "ORIGIN", "CREATED", "ID"];
    table(head, &rows)
}
