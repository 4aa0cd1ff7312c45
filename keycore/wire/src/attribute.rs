//! Attributes of keys, named as in PKCS#11 (section 4) and on CloudHSM's command line.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! attributes {
    ($($(#[doc = $doc:literal])* $name:ident = $bit:literal, $text:literal;)*) => {
        /// A property that a key has or has not. Which go together, and which may change, the engine decides by a table.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "u8", into = "u8")]
        #[repr(u8)]
        pub enum Attribute {
            $($(#[doc = $doc])* $name = $bit,)*
        }

        impl Attribute {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The name that the command line uses.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

attributes! {
    /// Signs, or makes authentication codes.
    Sign = 0, "sign";
    /// Verifies signatures or authentication codes.
    Verify = 1, "verify";
    /// Encrypts data.
    Encrypt = 2, "encrypt";
    /// Decrypts data.
    Decrypt = 3, "decrypt";
    /// Wraps other keys.
    Wrap = 4, "wrap";
    /// Unwraps other keys.
    Unwrap = 5, "unwrap";
    /// Other keys are derived from it.
    Derive = 6, "derive";
    /// Signs TLS server handshakes (RFC 8446, section 4.4.3; RFC 8422, section 5.4) and its own certification
    /// request (RFC 2986), and nothing else. PKCS#11 has no such attribute.
    TlsServer = 7, "tls-server";
    /// Also decrypts or unwraps by RSAES-PKCS1-v1_5, which leaks to whoever learns of padding errors (Bleichenbacher).
    Pkcs1Decrypt = 8, "pkcs1-decrypt";
    /// Signs TLS client handshakes and its own certification request, nothing else.
    TlsClient = 9, "tls-client";
    /// Is never wrapped by a key that may be known outside of the engines, unless an admin trusts that key.
    Sensitive = 16, "sensitive";
    /// Was sensitive since it was made inside an engine.
    AlwaysSensitive = 17, "always-sensitive";
    /// May be wrapped.
    Extractable = 18, "extractable";
    /// Was not extractable since it was made inside an engine.
    NeverExtractable = 19, "never-extractable";
    /// Only its owner and those it is shared with may know of it. All keys here are.
    Private = 20, "private";
    /// Outlives the session that made it.
    Token = 21, "token";
    /// Its attributes and its label may be changed.
    Modifiable = 22, "modifiable";
    /// May be deleted.
    Destroyable = 23, "destroyable";
    /// An admin vouches for it as a wrapping key.
    Trusted = 24, "trusted";
    /// Is wrapped by trusted keys only.
    WrapWithTrusted = 25, "wrap-with-trusted";
    /// Was made inside an engine; an imported key was known outside once.
    Local = 26, "local";
}

impl TryFrom<u8> for Attribute {
    type Error = UnknownAttribute;

    fn try_from(bit: u8) -> Result<Self, UnknownAttribute> {
        Self::ALL.iter().copied().find(|attribute| *attribute as u8 == bit).ok_or(UnknownAttribute)
    }
}

impl From<Attribute> for u8 {
    fn from(attribute: Attribute) -> Self {
        attribute as Self
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Attribute {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|attribute| attribute.name() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|attribute| attribute.name()).collect();
            format!("no such attribute; one of {}", names.join(", "))
        })
    }
}

/// An attribute that this version does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown key attribute")]
pub struct UnknownAttribute;

/// A set of attributes. On the wire a number whose bits are the attributes' codes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Attributes(u32);

impl Attributes {
    /// None.
    pub const NONE: Self = Self(0);

    /// What a key has unless its maker says otherwise: not extractable, kept in the store, can be changed and deleted.
    pub const DEFAULT: Self =
        Self::of(&[Attribute::Sensitive, Attribute::Token, Attribute::Modifiable, Attribute::Destroyable]);

    /// What a key is for: one purpose each (NIST SP 800-57 part 1, section 5.2).
    pub const USAGES: Self = Self::of(&[
        Attribute::Sign,
        Attribute::Verify,
        Attribute::Encrypt,
        Attribute::Decrypt,
        Attribute::Wrap,
        Attribute::Unwrap,
        Attribute::Derive,
        Attribute::TlsServer,
        Attribute::Pkcs1Decrypt,
        Attribute::TlsClient,
    ]);

    /// A key that signs and verifies.
    pub const SIGN: Self = Self::of(&[Attribute::Sign, Attribute::Verify]);

    /// A key that encrypts and decrypts data.
    pub const ENCRYPT: Self = Self::of(&[Attribute::Encrypt, Attribute::Decrypt]);

    /// A key that wraps and unwraps keys.
    pub const WRAP: Self = Self::of(&[Attribute::Wrap, Attribute::Unwrap]);

    /// A key that others are derived from.
    pub const DERIVE: Self = Self::of(&[Attribute::Derive]);

    /// A TLS server's key.
    pub const TLS_SERVER: Self = Self::of(&[Attribute::TlsServer]);

    /// A TLS client's key.
    pub const TLS_CLIENT: Self = Self::of(&[Attribute::TlsClient]);

    /// A key of either end: it signs handshakes of that end and its own certification request, nothing else.
    pub const TLS_BOUND: Self = Self::TLS_SERVER.with(Self::TLS_CLIENT);

    /// These.
    pub const fn of(attributes: &[Attribute]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < attributes.len() {
            bits |= 1 << attributes[at] as u8;
            at += 1;
        }
        Self(bits)
    }

    /// Whether `attribute` is in it.
    pub const fn has(self, attribute: Attribute) -> bool {
        self.0 & (1 << attribute as u8) != 0
    }

    /// Whether all of `others` are in it.
    pub const fn has_all(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// Whether one of `others` is in it.
    pub const fn has_any(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// With all of `others`.
    #[must_use]
    pub const fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Without any of `others`.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// What it has in common with `others`.
    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }

    /// With `attribute` on or off.
    #[must_use]
    pub const fn set(self, attribute: Attribute, on: bool) -> Self {
        let one = Self::of(&[attribute]);
        if on { self.with(one) } else { self.without(one) }
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Attribute> {
        Attribute::ALL.iter().copied().filter(move |attribute| self.has(*attribute))
    }
}

impl TryFrom<u32> for Attributes {
    type Error = UnknownAttribute;

    fn try_from(bits: u32) -> Result<Self, UnknownAttribute> {
        if bits & !Self::of(Attribute::ALL).0 == 0 { Ok(Self(bits)) } else { Err(UnknownAttribute) }
    }
}

impl From<Attributes> for u32 {
    fn from(attributes: Attributes) -> Self {
        attributes.0
    }
}

impl fmt::Display for Attributes {
    /// The names, with commas between them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Attribute::name).collect();
        f.write_str(&names.join(","))
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attributes({self})")
    }
}

/// What a wrapping key demands of the keys that it wraps, or gives to those that it unwraps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AttributeTemplate {
    /// Must be on, or will be.
    pub on: Attributes,
    /// Must be off, or will be.
    pub off: Attributes,
}

impl AttributeTemplate {
    /// Whether a key with `attributes` fits.
    pub fn fits(self, attributes: Attributes) -> bool {
        attributes.has_all(self.on) && !attributes.has_any(self.off)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_codes_and_sets_go_both_ways() {
        for &attribute in Attribute::ALL {
            assert_eq!(attribute.name().parse(), Ok(attribute));
            assert_eq!(Attribute::try_from(attribute as u8), Ok(attribute));
            let one = Attributes::of(&[attribute]);
            assert_eq!(Attributes::try_from(u32::from(one)), Ok(one));
            assert_eq!(one.iter().collect::<Vec<_>>(), [attribute]);
            assert_eq!(one.set(attribute, false), Attributes::NONE);
        }
        assert!(Attribute::try_from(10).is_err() && Attributes::try_from(1 << 10).is_err());
    }

    #[test]
    fn sets_print_their_names() {
        assert_eq!(Attributes::SIGN.to_string(), "sign,verify");
        assert_eq!(Attributes::NONE.to_string(), "");
    }

    #[test]
    fn a_template_demands_both_ways() {
        let template = AttributeTemplate { on: Attributes::SIGN, off: Attributes::WRAP };
        assert!(template.fits(Attributes::SIGN.with(Attributes::DERIVE)));
        assert!(!template.fits(Attributes::of(&[Attribute::Sign])));
        assert!(!template.fits(Attributes::SIGN.set(Attribute::Unwrap, true)));
    }
}
