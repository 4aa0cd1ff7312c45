//! Changes of keys that are there.

use keycore_wire::{AttributeChange, KeyInfo, KeySelector, SetAttribute};

use crate::attributes;
use crate::denial::Denial;
use crate::engine::Engine;
use crate::keys;
use crate::policy::Permission;
use crate::quorum::{KeyApproval, Proposal};
use crate::records::{PublicKeyPart, SecretKeyPart};
use crate::users;

/// Changes an attribute or the label of one's own key.
pub(crate) fn set_attribute(
    engine: &Engine,
    permission: &Permission,
    request: &SetAttribute,
    asked: &Proposal<'_>,
) -> Result<KeyInfo, Denial> {
    let owner = permission.actor()?;
    engine.transact(|records| {
        users::acting(records, owner)?;
        let mut key = keys::find_own(records, permission, &KeySelector::Id(request.key))?;
        let info = &mut key.content.info;
        attributes::check_modifiable(info.attributes)?;
        let is_so = match &request.change {
            AttributeChange::Set(attribute, on) => info.attributes.has(*attribute) == *on,
            AttributeChange::Label(label) => info.label == *label,
        };
        if !is_so {
            KeyApproval::take(records, asked, info)?;
        }
        match &request.change {
            AttributeChange::Set(attribute, on) => {
                attributes::check_change(info.attributes, *attribute, *on, false)?;
                info.attributes = info.attributes.set(*attribute, *on);
            }
            AttributeChange::Label(label) => {
                if info.label != *label {
                    keys::check_label(records, &key.content, label)?;
                }
                key.content.info.label = label.clone();
            }
        }
        attributes::check_together(key.content.info.algorithm, key.content.info.attributes)?;
        rewrite(records, &key)
    })
}

/// Sets or takes back `trusted` on anybody's key, as an admin.
pub(crate) fn set_trusted(
    engine: &Engine,
    permission: &Permission,
    request: &SetAttribute,
) -> Result<KeyInfo, Denial> {
    let admin = permission.actor()?;
    engine.transact(|records| {
        users::acting(records, admin)?;
        let mut key = keys::find_anybodys(records, request.key)?;
        let AttributeChange::Set(attribute, on) = request.change else { return Err(Denial::permission()) };
        attributes::check_change(key.content.info.attributes, attribute, on, true)?;
        key.content.info.attributes = key.content.info.attributes.set(attribute, on);
        rewrite(records, &key)
    })
}

/// Will write a key that was read and changed, both halves of it.
pub(crate) fn rewrite(
    records: &mut crate::ledger::Transaction<'_>,
    key: &crate::ledger::Opened<PublicKeyPart>,
) -> Result<KeyInfo, Denial> {
    let secret = records.load::<SecretKeyPart>(key.id)?;
    let secret = secret.filter(|secret| secret.version == key.version);
    let secret =
        secret.ok_or_else(|| Denial::internal("the halves of a stored key were not written together"))?;
    keys::put(records, Some(key.version), &key.content, &secret.content)?;
    Ok(key.content.info.clone())
}
