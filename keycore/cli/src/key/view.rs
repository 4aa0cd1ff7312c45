//! A key as it is shown.

use data_encoding::HEXLOWER;
use keycore_wire::{Attribute, AttributeTemplate, Attributes, KeyClass, KeyInfo};
use serde_json::{Value, json};

use crate::output::{fields, table, timestamp};

/// Whether it was ever outside of an engine.
fn origin(key: &KeyInfo) -> &'static str {
    if key.attributes.has(Attribute::Local) { "engine" } else { "imported" }
}

/// One key, a property a line.
pub(crate) fn details(key: &KeyInfo) -> String {
    let mut rows = vec![
        ("label", key.label.to_string()),
        ("id", key.id.to_string()),
        ("algorithm", key.algorithm.to_string()),
        ("usage", key.attributes.and(Attributes::USAGES).to_string()),
        ("attributes", key.attributes.without(Attributes::USAGES).to_string()),
        ("origin", origin(key).to_owned()),
        ("check value", HEXLOWER.encode(&key.check_value)),
    ];
    rows.extend(key.spki_sha256.map(|spki| ("public key", format!("SHA-256 {spki}"))));
    rows.extend(key.wrap_template.map(|template| ("wrap template", in_words(template))));
    rows.extend(key.unwrap_template.map(|template| ("unwrap template", in_words(template))));
    rows.extend(key.predecessor.map(|id| ("replaces", id.to_string())));
    rows.extend(key.retired_until.map(|end| ("retired", format!("until {}", timestamp(end)))));
    rows.push(("created", timestamp(key.created_at)));
    fields(&rows)
}

/// For programs.
pub(crate) fn view(key: &KeyInfo) -> Value {
    json!({
        "id": key.id.to_string(),
        "label": key.label,
        "algorithm": key.algorithm.name(),
        "class": match key.algorithm.class() {
            KeyClass::KeyPair => "key-pair",
            KeyClass::SecretKey => "secret-key",
        },
        "key_length_bytes": key.algorithm.secret_len(),
        "attributes": names(key.attributes),
        "origin": origin(key),
        "check_value": HEXLOWER.encode(&key.check_value),
        "spki_sha256": key.spki_sha256.map(|spki| spki.to_string()),
        "quorum_management": key.quorum_management,
        "quorum_usage": key.quorum_usage,
        "wrap_template": key.wrap_template.map(template),
        "unwrap_template": key.unwrap_template.map(template),
        "predecessor": key.predecessor.map(|id| id.to_string()),
        "retired_until": key.retired_until.map(timestamp),
        "owner": key.owner.to_string(),
        "created_at": timestamp(key.created_at),
    })
}

fn names(attributes: Attributes) -> Vec<&'static str> {
    attributes.iter().map(Attribute::name).collect()
}

fn template(template: AttributeTemplate) -> Value {
    json!({ "on": names(template.on), "off": names(template.off) })
}

fn in_words(template: AttributeTemplate) -> String {
    let signed = |sign: char, set: Attributes| set.iter().map(move |one| format!("{sign}{one}"));
    signed('+', template.on).chain(signed('-', template.off)).collect::<Vec<_>>().join(" ")
}

/// Many keys, one a line.
pub(super) fn listing(keys: &[KeyInfo]) -> String {
    let rows: Vec<_> = keys
        .iter()
        .map(|key| {
            [
                key.label.to_string(),
                key.algorithm.to_string(),
                key.attributes.and(Attributes::USAGES).to_string(),
                origin(key).to_owned(),
                timestamp(key.created_at),
                key.id.to_string(),
            ]
        })
        .collect();
    let head = ["LABEL", "ALGORITHM", "USAGE", "ORIGIN", "CREATED", "ID"];
    table(head, &rows)
}
