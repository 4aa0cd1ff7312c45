//! Whether a key may be wrapped by another, and what a key may be that comes out of one: unwrapped or derived.
//!
//! A wrapped key carries no attributes, and the same derivation gives the same key twice. So whoever unwraps or derives
//! could have one value under two handles with rights that exclude each other (Clulow 2003, "key conjuring" and
//! re-import). Hence such keys neither wrap, unwrap nor give others, and are sensitive whatever is asked for.

use keycore_wire::{Attribute, Attributes, KeyAlgorithm, KeyInfo, KeyTemplate, RefusalCode};

use crate::attributes::{self, Origin};
use crate::denial::Denial;

/// What neither an unwrapped nor a derived key does.
const NOT_SECOND_HAND: Attributes = Attributes::WRAP.with(Attributes::DERIVE);

/// Whether `wrapping` may wrap `target`, both of which the user may use.
///
/// # Errors
///
/// `KeyNotSuitable`, with the rule that was broken.
pub(crate) fn check_wrap(wrapping: &KeyInfo, target: &KeyInfo) -> Result<(), Denial> {
    attributes::require(wrapping, Attribute::Wrap)?;
    let (by, what) = (wrapping.attributes, target.attributes);
    let refused = |detail: &str| Err(Denial::new(RefusalCode::KeyNotSuitable, detail));
    if !what.has(Attribute::Extractable) {
        return refused("the key to be wrapped is not extractable");
    }
    if what.has(Attribute::WrapWithTrusted) && !by.has(Attribute::Trusted) {
        return refused(
            "the key is wrapped by trusted keys only, and an admin did not set trusted on this one",
        );
    }
    if what.has(Attribute::Sensitive) && !by.has_any(Attributes::of(&[Attribute::Local, Attribute::Trusted]))
    {
        return refused(
            "the wrapping key was known outside once: it wraps sensitive keys when an admin trusts it",
        );
    }
    match wrapping.wrap_template {
        Some(template) if !template.fits(what) => refused("the key does not fit the wrapping key's template"),
        _ => Ok(()),
    }
}

/// The attributes of a key that `unwrapping` is to unwrap as what `asked` says.
///
/// # Errors
///
/// `KeyNotSuitable`, `InvalidAttributes`.
pub(crate) fn attributes_of_unwrapped(
    unwrapping: &KeyInfo,
    algorithm: KeyAlgorithm,
    asked: &KeyTemplate,
) -> Result<Attributes, Denial> {
    attributes::require(unwrapping, Attribute::Unwrap)?;
    let template = unwrapping.unwrap_template.unwrap_or_default();
    let given = asked.attributes.with(template.on).without(template.off);
    let trusted = unwrapping.attributes.has(Attribute::Trusted);
    let protected = trusted || given.has(Attribute::WrapWithTrusted);
    second_hand(algorithm, asked, given.set(Attribute::WrapWithTrusted, protected))
}

/// The attributes of a key that is to be derived from `base` as what `asked` says. It is not `local`: who knows the
/// other side of a key agreement knows it.
///
/// # Errors
///
/// As [`attributes_of_unwrapped`].
pub(crate) fn attributes_of_derived(
    base: &KeyInfo,
    algorithm: KeyAlgorithm,
    asked: &KeyTemplate,
) -> Result<Attributes, Denial> {
    attributes::require(base, Attribute::Derive)?;
    second_hand(algorithm, asked, asked.attributes)
}

/// Whether what is unwrapped or derived may have these attributes at all, whatever its type.
///
/// # Errors
///
/// `InvalidAttributes`.
pub(crate) fn check_purpose(attributes: Attributes) -> Result<(), Denial> {
    if attributes.has_any(NOT_SECOND_HAND) {
        return Err(attributes::invalid(
            "a key that was unwrapped or derived neither wraps, unwraps nor derives",
        ));
    }
    Ok(())
}

/// What was not made as a key of its own.
fn second_hand(
    algorithm: KeyAlgorithm,
    asked: &KeyTemplate,
    attributes: Attributes,
) -> Result<Attributes, Denial> {
    check_purpose(attributes)?;
    let attributes = attributes.set(Attribute::Sensitive, true);
    attributes::of_new(Origin::Imported, algorithm, &KeyTemplate { attributes, ..asked.clone() })
}

#[cfg(test)]
mod tests;
