//! Changing keys, and sharing them.

use core::str::FromStr;

use clap::Args;
use keycore_wire::{
    Attribute, AttributeChange, Attributes, FindKey, KeyId, KeyLabel, KeySelector, ListShares, RotateKey,
    SetAttribute, ShareKey, UnshareKey, UserName, ZeroizeKeys,
};
use serde_json::json;

use super::idempotency_key;
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

/// How long a rotated key is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grace {
    seconds: u32,
}

impl FromStr for Grace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unit = |unit: char| match unit {
            's' => Some(1),
            'm' => Some(60),
            'h' => Some(3600),
            'd' => Some(86_400),
            _ => None,
        };
        let seconds = || {
            let each = unit(text.chars().next_back()?)?;
            text[..text.len() - 1].parse::<u32>().ok()?.checked_mul(each)
        };
        seconds()
            .map(|seconds| Self { seconds })
            .ok_or_else(|| "a number and a unit: 90s, 15m, 12h, 30d".to_owned())
    }
}

pub(super) fn rotate(engine: &LoggedIn, key: &KeyArgument, grace: Grace) -> Result<Answer, Failure> {
    let key = id_of(engine, key)?;
    let (idempotency_key, grace_secs) = (idempotency_key()?, grace.seconds);
    let made = engine.call(&RotateKey { idempotency_key, key, grace_secs })?;
    let note = match made.attributes.has_any(Attributes::TLS_BOUND) {
        true => "The certificate still names the old key, which makes handshakes until its grace period ends: have one\n\
                 issued for the new key before (hsm cert csr)."
            .to_owned(),
        false => format!("The old key is {key}; it signs, encrypts and wraps no more."),
    };
    Ok(Answer::new(details(&made), view(&made)).note(note))
}

pub(super) fn zeroize(engine: &LoggedIn, user: &UserName) -> Result<Answer, Failure> {
    let keys = engine.call(&ZeroizeKeys { user: user.clone() })?.keys;
    Ok(Answer::new(format!("deleted {keys} keys of {user}"), json!({ "user": user, "keys": keys })))
}

/// The id of a key. One that is named by its id is not looked up: an admin may not.
pub(super) fn id_of(engine: &LoggedIn, key: &KeyArgument) -> Result<KeyId, Failure> {
    match &key.0 {
        KeySelector::Id(id) => Ok(*id),
        other => Ok(engine.call(&FindKey { key: other.clone() })?.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grace_periods_have_a_unit() {
        for (text, seconds) in [("0s", 0), ("90s", 90), ("15m", 900), ("12h", 43_200), ("30d", 2_592_000)] {
            assert_eq!(text.parse(), Ok(Grace { seconds }));
        }
        for bad in ["", "d", "30", "-1d", "1.5h", "5w", "999999999d", "1é"] {
            assert!(bad.parse::<Grace>().is_err(), "{bad}");
        }
    }
}
