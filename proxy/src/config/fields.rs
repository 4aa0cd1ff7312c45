use std::str::FromStr;

use http::header::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

/// A header field that a site adds: `Name: value`.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(inline, with = "String")]
pub struct AddedField {
    pub(crate) name: HeaderName,
    pub(crate) value: HeaderValue,
}

/// The name of a header field that a site removes.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(inline, with = "String")]
pub struct RemovedField(pub(crate) HeaderName);

/// The value of `Strict-Transport-Security` (RFC 6797, section 6.1).
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(inline, with = "String")]
pub struct Hsts(pub(crate) HeaderValue);

/// Text that is no header field, or one that is not the configuration's to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?}: {reason}")]
pub struct InvalidField {
    text: String,
    reason: &'static str,
}

impl FromStr for AddedField {
    type Err = InvalidField;

    fn from_str(text: &str) -> Result<Self, InvalidField> {
        let invalid = |reason| InvalidField { text: text.to_owned(), reason };
        let (name, value) = text.split_once(':').ok_or_else(|| invalid("write it as \"Name: value\""))?;
        let RemovedField(name) = name.parse()?;
        let value = HeaderValue::from_str(value.trim())
            .map_err(|_| invalid("the value has characters that a header field can't have"))?;
        Ok(Self { name, value })
    }
}

impl FromStr for RemovedField {
    type Err = InvalidField;

    fn from_str(text: &str) -> Result<Self, InvalidField> {
        let invalid = |reason| InvalidField { text: text.to_owned(), reason };
        let name = HeaderName::from_bytes(text.as_bytes())
            .map_err(|_| invalid("it is not the name of a header field, like X-Frame-Options"))?;
        match name.as_str() {
            "connection" | "content-length" | "expect" | "host" | "keep-alive" | "proxy-connection"
            | "te" | "trailer" | "transfer-encoding" | "upgrade" => {
                Err(invalid("this field frames or routes the message: it is the proxy's own"))
            }
            _ => Ok(Self(name)),
        }
    }
}

impl FromStr for Hsts {
    type Err = InvalidField;

    fn from_str(text: &str) -> Result<Self, InvalidField> {
        const FORM: &str = "write it as \"max-age=31536000; includeSubDomains\", in seconds, with `preload` behind if you mean it";
        let invalid = || InvalidField { text: text.to_owned(), reason: FORM };
        let mut directives = text.split(';').map(str::trim);
        let age = directives.next().and_then(|first| first.strip_prefix("max-age=")).ok_or_else(invalid)?;
        let is_age = age.bytes().all(|byte| byte.is_ascii_digit()) && age.parse::<u32>().is_ok();
        if !is_age || !directives.all(|directive| matches!(directive, "includeSubDomains" | "preload")) {
            return Err(invalid());
        }
        HeaderValue::from_str(text).map(Self).map_err(|_| invalid())
    }
}

macro_rules! from_text {
    ($($kind:ident),*) => {$(
        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

from_text!(AddedField, RemovedField, Hsts);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_and_those_of_the_proxy_refused() {
        let field: AddedField = "X-Frame-Options:  DENY ".parse().unwrap();
        assert_eq!((field.name.as_str(), field.value.to_str().unwrap()), ("x-frame-options", "DENY"));
        for (text, reason) in [
            ("X-Frame-Options DENY", "write it as"),
            ("X Y: z", "not the name"),
            ("X: a\nb", "characters"),
            ("Content-Length: 5", "the proxy's own"),
            ("connection: close", "the proxy's own"),
            (": x", "not the name"),
        ] {
            let error = text.parse::<AddedField>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
        assert!("host".parse::<RemovedField>().is_err());
        assert!("Server".parse::<RemovedField>().is_ok());
    }

    #[test]
    fn hsts_is_what_browsers_understand() {
        for good in
            ["max-age=0", "max-age=31536000; includeSubDomains", "max-age=1;includeSubDomains;preload"]
        {
            assert!(good.parse::<Hsts>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "1y",
            "max-age=",
            "max-age=-1",
            "includeSubDomains",
            "max-age=1; includeSubdomain",
            "max-age=1,x",
        ] {
            assert!(bad.parse::<Hsts>().is_err(), "{bad}");
        }
    }
}
