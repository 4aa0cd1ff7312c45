//! Which attributes a key may have, and which may change: the tables.
//!
//! Three rules keep the known attacks on PKCS#11 (Clulow 2003; Bortolozzo, Centenaro, Focardi and Steel 2010, "Tookan")
//! out. *One purpose per key*: a key that unwraps does not decrypt, so what it wrapped can't be had in plain. *One
//! direction*: what was given up does not come back, so purposes can't be had one after the other either. *No second
//! handle with more rights*: keys that wrap, unwrap or derive are not extractable, so none of them can be unwrapped
//! again as one that decrypts; and what was unwrapped does none of the three.

use keycore_wire::{Attribute, Attributes, KeyAlgorithm, KeyInfo, KeyTemplate, MAX_QUORUM, RefusalCode};

use crate::denial::Denial;

/// Where a new key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Made inside an engine.
    Generated,
    /// Taken in in plain.
    Imported,
}

/// When an attribute may be changed after the key was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Never.
    Never,
    /// From off to on.
    On,
    /// From on to off.
    Off,
    /// Both ways.
    Both,
    /// Both ways, by an admin.
    Admin,
}

/// One row of the table of attributes.
pub(crate) struct AttributeRule {
    pub(crate) attribute: Attribute,
    /// Whether who makes the key chooses it.
    pub(crate) chosen: bool,
    pub(crate) change: Change,
}

macro_rules! attribute_rules {
    ($($attribute:ident $chosen:ident $change:ident;)*) => {
        pub(crate) const ATTRIBUTE_RULES: &[AttributeRule] = &[$(AttributeRule {
            attribute: Attribute::$attribute,
            chosen: attribute_rules!(@ $chosen),
            change: Change::$change,
        }),*];
    };
    (@ yes) => { true };
    (@ no) => { false };
}

attribute_rules! {
    // attribute      chosen  change
    Sign              yes     Off;
    Verify            yes     Off;
    Encrypt           yes     Off;
    Decrypt           yes     Off;
    Wrap              yes     Off;
    Unwrap            yes     Off;
    Derive            yes     Off;
    TlsServer         yes     Never;
    Pkcs1Decrypt      yes     Off;
    TlsClient         yes     Never;
    Sensitive         yes     On;
    AlwaysSensitive   no      Never;
    Extractable       yes     Off;
    NeverExtractable  no      Never;
    Private           no      Never;
    Token             yes     Never;
    Modifiable        yes     Off;
    Destroyable       yes     Both;
    Trusted           no      Admin;
    WrapWithTrusted   yes     On;
    Local             no      Never;
}

const TLS_SERVER: Attributes = Attributes::TLS_SERVER;
const TLS_CLIENT: Attributes = Attributes::TLS_CLIENT;
const TLS_BOUND: Attributes = Attributes::TLS_BOUND;
const SIGN: Attributes = Attributes::SIGN;
const ENCRYPT: Attributes = Attributes::ENCRYPT;
const PKCS1: Attributes = Attributes::of(&[Attribute::Pkcs1Decrypt]);
const WRAP: Attributes = Attributes::WRAP;
const DERIVE: Attributes = Attributes::DERIVE;

/// What keys can be for: a key's usages are all of one purpose.
pub(crate) const PURPOSES: &[Attributes] =
    &[TLS_SERVER, TLS_CLIENT, SIGN, ENCRYPT.with(PKCS1), WRAP.with(PKCS1), DERIVE];

/// Keys with one of these are never extractable.
pub(crate) const NEVER_WITH_EXTRACTABLE: Attributes = TLS_BOUND.with(WRAP).with(DERIVE);

/// The usages that a key of an algorithm can have.
pub(crate) fn usages(algorithm: KeyAlgorithm) -> Attributes {
    match algorithm {
        KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => {
            TLS_BOUND.with(SIGN).with(ENCRYPT).with(WRAP).with(PKCS1)
        }
        KeyAlgorithm::P256 | KeyAlgorithm::P384 | KeyAlgorithm::P521 => TLS_BOUND.with(SIGN).with(DERIVE),
        KeyAlgorithm::Ed25519 => TLS_BOUND.with(SIGN),
        KeyAlgorithm::Secp256k1 | KeyAlgorithm::MlDsa44 | KeyAlgorithm::MlDsa65 | KeyAlgorithm::MlDsa87 => {
            SIGN
        }
        KeyAlgorithm::Aes128 | KeyAlgorithm::Aes192 | KeyAlgorithm::Aes256 => {
            SIGN.with(ENCRYPT).with(WRAP).with(DERIVE)
        }
        KeyAlgorithm::GenericSecret(_) => SIGN.with(DERIVE),
    }
}

/// The attributes of a new key, if its template may be had.
///
/// # Errors
///
/// `InvalidAttributes`, with the rule that was broken.
pub(crate) fn of_new(
    origin: Origin,
    algorithm: KeyAlgorithm,
    template: &KeyTemplate,
) -> Result<Attributes, Denial> {
    let asked = template.attributes;
    if let Some(rule) = ATTRIBUTE_RULES.iter().find(|rule| !rule.chosen && asked.has(rule.attribute)) {
        return Err(invalid(format!("{} can't be asked for", rule.attribute)));
    }
    check_together(algorithm, asked)?;
    if template.quorum_management.max(template.quorum_usage) > MAX_QUORUM {
        return Err(invalid(format!("a key asks for 2 to {MAX_QUORUM} approvals; 0 and 1 ask for none")));
    }
    let is_templated = template.wrap_template.is_some() || template.unwrap_template.is_some();
    if is_templated && !asked.has_any(WRAP) {
        return Err(invalid("a key with a wrap or unwrap template wraps or unwraps"));
    }
    if let Some(template) = template.unwrap_template {
        let chosen =
            |attribute| ATTRIBUTE_RULES.iter().any(|rule| rule.attribute == attribute && rule.chosen);
        if let Some(fixed) = template.on.with(template.off).iter().find(|attribute| !chosen(*attribute)) {
            return Err(invalid(format!("an unwrap template can't decide on {fixed}")));
        }
    }
    let asked = asked.set(Attribute::Private, true);
    if origin == Origin::Imported {
        return Ok(asked);
    }
    let local = asked.set(Attribute::Local, true);
    let sensitive = local.set(Attribute::AlwaysSensitive, asked.has(Attribute::Sensitive));
    Ok(sensitive.set(Attribute::NeverExtractable, !asked.has(Attribute::Extractable)))
}

/// Whether attributes go together, and with the algorithm.
pub(crate) fn check_together(algorithm: KeyAlgorithm, attributes: Attributes) -> Result<(), Denial> {
    let usage = attributes.and(Attributes::USAGES);
    let unfit = usage.without(usages(algorithm));
    if !unfit.is_empty() {
        return Err(invalid(format!("a key of type {} has no {unfit}", algorithm.name())));
    }
    if !PURPOSES.iter().any(|purpose| purpose.has_all(usage)) {
        return Err(invalid(format!("a key has one purpose, not {usage}")));
    }
    if usage == PKCS1 {
        return Err(invalid("pkcs1-decrypt goes with decrypt or unwrap"));
    }
    if attributes.has(Attribute::Extractable) && attributes.has_any(NEVER_WITH_EXTRACTABLE) {
        return Err(invalid(format!("a key that is {usage} is not extractable")));
    }
    if attributes.has(Attribute::Sensitive) || !attributes.has_any(NEVER_WITH_EXTRACTABLE) {
        Ok(())
    } else {
        Err(invalid(format!("a key that is {usage} is sensitive")))
    }
}

/// Whether an attribute may be set to `on`, by the owner or by an admin.
///
/// # Errors
///
/// `AttributeFixed`.
pub(crate) fn check_change(
    now: Attributes,
    attribute: Attribute,
    on: bool,
    by_admin: bool,
) -> Result<(), Denial> {
    let rule = ATTRIBUTE_RULES.iter().find(|rule| rule.attribute == attribute);
    let allowed = match rule.map_or(Change::Never, |rule| rule.change) {
        Change::Never => false,
        Change::On => !by_admin && (on || !now.has(attribute)),
        Change::Off => !by_admin && (!on || now.has(attribute)),
        Change::Both => !by_admin,
        Change::Admin => by_admin,
    };
    let (who, to) = (if by_admin { "an admin" } else { "its owner" }, if on { "on" } else { "off" });
    if allowed { Ok(()) } else { Err(fixed(format!("{who} can't turn {attribute} {to}"))) }
}

/// Whether anything of a key may be changed by its owner.
///
/// # Errors
///
/// `AttributeFixed`.
pub(crate) fn check_modifiable(now: Attributes) -> Result<(), Denial> {
    if now.has(Attribute::Modifiable) { Ok(()) } else { Err(fixed("the key is not modifiable".to_owned())) }
}

/// Whether a key may be used for `usage` by whoever may use it at all.
pub(crate) fn require(info: &KeyInfo, usage: Attribute) -> Result<(), Denial> {
    if info.attributes.has(usage) {
        Ok(())
    } else {
        Err(Denial::new(RefusalCode::KeyNotSuitable, format!("the key has not the attribute {usage}")))
    }
}

fn fixed(detail: String) -> Denial {
    Denial::new(RefusalCode::AttributeFixed, detail)
}

pub(crate) fn invalid(detail: impl Into<String>) -> Denial {
    Denial::new(RefusalCode::InvalidAttributes, detail)
}

#[cfg(test)]
mod tests;
