//! Changing keys, and sharing them.

use clap::Args;
use keycore_wire::{
    Attribute, AttributeChange, FindKey, KeyId, KeyLabel, KeySelector, ListShares, SetAttribute, ShareKey,
    UnshareKey, UserName,
};
use serde_json::json;

use super::view::{details, view};
use crate::connection::LoggedIn;
use crate::failure::Failure;
use crate::key_argument::KeyArgument;
use crate::output::Answer;

/// What of a key is changed: one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Change {
    /// Turn this attribute on
    #[arg(long, value_name = "ATTRIBUTE")]
    on: Option<Attribute>,
    /// Turn this attribute off
    #[arg(long, value_name = "ATTRIBUTE")]
    off: Option<Attribute>,
    /// Give it this label
    #[arg(long)]
    label: Option<KeyLabel>,
}

impl Change {
    fn change(&self) -> Option<AttributeChange> {
        let set = |on| move |attribute: Attribute| AttributeChange::Set(attribute, on);
        let label = || self.label.clone().map(AttributeChange::Label);
        self.on.map(set(true)).or_else(|| self.off.map(set(false))).or_else(label)
    }
}

pub(super) fn set_attribute(
    engine: &LoggedIn,
    key: &KeyArgument,
    change: &Change,
) -> Result<Answer, Failure> {
    let key = id_of(engine, key)?;
    let Some(change) = change.change() else {
        return Err(Failure::Declined { what: "nothing is to be changed", advice: None });
    };
    let changed = engine.call(&SetAttribute { key, change })?;
    Ok(Answer::new(details(&changed), view(&changed)))
}

pub(super) fn share(engine: &LoggedIn, key: &KeyArgument, with: &UserName) -> Result<Answer, Failure> {
    let key = id_of(engine, key)?;
    engine.call(&ShareKey { key, with: with.clone() })?;
    Ok(Answer::new(format!("{with} may use key {key}"), json!({ "id": key.to_string(), "with": with })))
}

pub(super) fn unshare(engine: &LoggedIn, key: &KeyArgument, with: &UserName) -> Result<Answer, Failure> {
    let key = id_of(engine, key)?;
    engine.call(&UnshareKey { key, with: with.clone() })?;
    Ok(Answer::new(
        format!("{with} may no longer use key {key}"),
        json!({ "id": key.to_string(), "with": with }),
    ))
}

pub(super) fn shares(engine: &LoggedIn, key: &KeyArgument) -> Result<Answer, Failure> {
    let key = id_of(engine, key)?;
    let with = engine.call(&ListShares { key })?.with;
    let names: Vec<_> = with.iter().map(UserName::as_str).collect();
    let text = if names.is_empty() { "shared with nobody".to_owned() } else { names.join("\n") };
    Ok(Answer::new(text, json!({ "id": key.to_string(), "with": names })))
}

/// The id of a key. One that is named by its id is not looked up: an admin may not.
pub(super) fn id_of(engine: &LoggedIn, key: &KeyArgument) -> Result<KeyId, Failure> {
    match &key.0 {
        KeySelector::Id(id) => Ok(*id),
        other => Ok(engine.call(&FindKey { key: other.clone() })?.id),
    }
}
