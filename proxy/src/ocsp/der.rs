//! As much of DER (X.690) as a response takes: definite lengths of up to 64 KiB.

use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

/// Tags, with their class and whether they hold others.
pub(super) mod tag {
    pub(in crate::ocsp) const INTEGER: u8 = 0x02;
    pub(in crate::ocsp) const OCTET_STRING: u8 = 0x04;
    pub(in crate::ocsp) const OBJECT_IDENTIFIER: u8 = 0x06;
    pub(in crate::ocsp) const ENUMERATED: u8 = 0x0a;
    pub(in crate::ocsp) const GENERALIZED_TIME: u8 = 0x18;
    pub(in crate::ocsp) const SEQUENCE: u8 = 0x30;

    /// `[number]` that holds others.
    pub(in crate::ocsp) const fn context(number: u8) -> u8 {
        0xa0 | number
    }

    /// `[number]` that holds none.
    pub(in crate::ocsp) const fn primitive(number: u8) -> u8 {
        0x80 | number
    }
}

/// It is not DER, or not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// What is left to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn end(self) -> Result<(), Malformed> {
        if self.is_empty() { Ok(()) } else { Err(Malformed) }
    }

    /// The content of the next element, which must have this tag.
    pub(super) fn take(&mut self, tag: u8) -> Result<Self, Malformed> {
        let (first, rest) = self.0.split_first().ok_or(Malformed)?;
        if *first != tag {
            return Err(Malformed);
        }
        let (length, rest) = match rest {
            [short @ 0..=0x7f, rest @ ..] => (usize::from(*short), rest),
            [0x81, one, rest @ ..] => (usize::from(*one), rest),
            [0x82, high, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
            _ => return Err(Malformed),
        };
        let (content, rest) = rest.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(Self(content))
    }

    /// The same, if the next element has this tag.
    pub(super) fn take_if(&mut self, tag: u8) -> Result<Option<Self>, Malformed> {
        if self.0.first() == Some(&tag) { self.take(tag).map(Some) } else { Ok(None) }
    }

    pub(super) fn skip_if(&mut self, tag: u8) -> Result<bool, Malformed> {
        self.take_if(tag).map(|element| element.is_some())
    }

    /// A time in the only form that responses may have (RFC 6960, section 4.2.2.1; RFC 5280, section 4.1.2.5.2).
    pub(super) fn time(&mut self) -> Result<OffsetDateTime, Malformed> {
        let form = format_description!("[year][month][day][hour][minute][second]Z");
        let text = std::str::from_utf8(self.take(tag::GENERALIZED_TIME)?.0).map_err(|_| Malformed)?;
        PrimitiveDateTime::parse(text, form).map(PrimitiveDateTime::assume_utc).map_err(|_| Malformed)
    }
}
