use std::borrow::Cow;

/// The path with what RFC 3986 (section 6.2.2) calls equal made the same: percent-encoded letters, digits and `-._~`
/// decoded, dot segments taken out; and runs of slashes made one, as most web servers do.
pub(super) fn literal(path: &str) -> Cow<'_, str> {
    let decoded =
        if path.contains('%') { Cow::Owned(decode(path, is_unreserved)) } else { Cow::Borrowed(path) };
    let has_dots = decoded.split('/').any(|segment| segment == "." || segment == "..");
    if !has_dots && !decoded.contains("//") {
        return decoded;
    }
    Cow::Owned(without_dots(&decoded))
}

/// How a server would read it that also takes encoded slashes, and backslashes, for slashes, and cuts segments at `;` or a
/// null byte. `None` if it would read the same.
pub(super) fn decoded(literal: &str) -> Option<String> {
    if !literal.bytes().any(|byte| matches!(byte, b'%' | b'\\' | b';')) {
        return None;
    }
    let decoded = decode(literal, |_| true).replace('\\', "/");
    let cut = |segment: &str| segment.split([';', '\0']).next().unwrap_or_default().to_owned();
    let cut: Vec<String> = decoded.split('/').map(cut).collect();
    Some(without_dots(&cut.join("/")))
}

/// Whether there are both encoded slashes (or backslashes) and ends of segments in it: servers undo them in either order, or
/// one of them only, and come to as many places.
pub(super) fn depends_on_order(literal: &str) -> bool {
    let has = |plain: &[u8], encoded: &[&[u8]]| {
        literal.bytes().any(|byte| plain.contains(&byte))
            || literal
                .as_bytes()
                .windows(3)
                .any(|three| encoded.iter().any(|code| three.eq_ignore_ascii_case(code)))
    };
    has(b"\\", &[b"%2f", b"%5c"]) && has(b";", &[b"%3b", b"%00"])
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Decodes those bytes that `is_meant`; what is no encoding stays. Bytes that are no UTF-8 become U+FFFD.
fn decode(path: &str, is_meant: impl Fn(u8) -> bool) -> String {
    let bytes = path.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let encoded = match bytes[at..] {
            [b'%', high, low, ..] => byte_of(high, low).filter(|&byte| is_meant(byte)),
            _ => None,
        };
        decoded.push(encoded.unwrap_or(bytes[at]));
        at += if encoded.is_some() { 3 } else { 1 };
    }
    String::from_utf8(decoded).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn byte_of(high: u8, low: u8) -> Option<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

/// RFC 3986, section 5.2.4, with runs of slashes made one.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_with_slash = false;
    for segment in path.split('/') {
        ends_with_slash = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let mut path = String::with_capacity(path.len());
    for segment in &kept {
        path.push('/');
        path.push_str(segment);
    }
    if ends_with_slash || kept.is_empty() {
        path.push('/');
    }
    path
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn paths_are_made_the_same() {
        for (path, expected) in [
            ("/", "/"),
            ("/a/b/", "/a/b/"),
            ("//", "/"),
            ("/a//", "/a/"),
            ("/a/./b/../c/..", "/a/"),
            ("/%41%2f%2F", "/A%2f%2F"),
            ("/..", "/"),
            ("/.a/..b", "/.a/..b"),
        ] {
            assert_eq!(literal(path), expected, "{path}");
        }
        assert_eq!(decoded("/a/b"), None);
        assert_eq!(decoded("/a%2f..\\b;c/d").as_deref(), Some("/b/d"));
    }

    proptest! {
        #[test]
        fn it_is_done_in_one_step_and_nothing_is_left(path in "/[a./%2eEfF;\\\\]{0,20}") {
            let once = literal(&path).into_owned();
            prop_assert!(once.starts_with('/'));
            prop_assert!(!once.contains("//") && !once.split('/').any(|segment| segment == "." || segment == ".."), "{once}");
            if !once.contains('%') {
                prop_assert_eq!(literal(&once).into_owned(), once.clone());
            }
        }
    }
}
