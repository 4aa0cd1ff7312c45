//! The one thing that a TLS-bound key signs besides handshakes: its own certification request (RFC 2986).

use crate::der::{CONTEXT_0, INTEGER, NotDer, OBJECT_IDENTIFIER, Reader, SEQUENCE, SET};

/// Checks that `message` is a CertificationRequestInfo for the key whose SubjectPublicKeyInfo is `spki`:
///
/// ```text
/// SEQUENCE { INTEGER 0, Name, SubjectPublicKeyInfo, [0] SET OF Attribute }
/// ```
///
/// A TBSCertificate can't be one: after the version or instead of it comes a serial number, and a SEQUENCE of an
/// algorithm before the names.
pub(crate) fn check(message: &[u8], spki: &[u8]) -> Result<(), NotDer> {
    let mut outer = Reader::new(message);
    let mut info = Reader::new(outer.take(SEQUENCE)?);
    outer.end()?;
    if info.take(INTEGER)? != [0] {
        return Err(NotDer);
    }
    check_name(info.take(SEQUENCE)?)?;
    if info.take_whole(SEQUENCE)?.0 != spki {
        return Err(NotDer);
    }
    check_attributes(info.take(CONTEXT_0)?)?;
    info.end()
}

/// `SEQUENCE OF SET OF SEQUENCE { OBJECT IDENTIFIER, ANY }` (RFC 5280, section 4.1.2.4).
fn check_name(content: &[u8]) -> Result<(), NotDer> {
    let mut relative_names = Reader::new(content);
    while !relative_names.is_empty() {
        let mut pairs = Reader::new(relative_names.take(SET)?);
        while !pairs.is_empty() {
            let mut pair = Reader::new(pairs.take(SEQUENCE)?);
            pair.take(OBJECT_IDENTIFIER)?;
            let tag = pair.next_tag().ok_or(NotDer)?;
            pair.take(tag)?;
            pair.end()?;
        }
    }
    Ok(())
}

/// `SET OF SEQUENCE { OBJECT IDENTIFIER, SET OF ANY }` (RFC 2986, section 4.1), the outer tag replaced.
fn check_attributes(content: &[u8]) -> Result<(), NotDer> {
    let mut attributes = Reader::new(content);
    while !attributes.is_empty() {
        let mut attribute = Reader::new(attributes.take(SEQUENCE)?);
        attribute.take(OBJECT_IDENTIFIER)?;
        attribute.take(SET)?;
        attribute.end()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPKI: &[u8] = &[0x30, 3, 1, 1, 0xff];

    fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        [&[tag, u8::try_from(content.len()).unwrap()], &content[..]].concat()
    }

    fn name() -> Vec<u8> {
        let pair = element(SEQUENCE, &[&[6, 3, 0x55, 4, 3], &[0x0c, 1, b'x']]);
        element(SEQUENCE, &[&element(SET, &[&pair])])
    }

    fn request(version: &[u8], spki: &[u8], attributes: &[u8]) -> Vec<u8> {
        element(SEQUENCE, &[version, &name(), spki, attributes])
    }

    #[test]
    fn takes_its_own_request_only() {
        let attribute = element(SEQUENCE, &[&[6, 1, 0x2a], &element(SET, &[&[5, 0]])]);
        let attributes = element(CONTEXT_0, &[&attribute]);
        assert_eq!(check(&request(&[2, 1, 0], SPKI, &[CONTEXT_0, 0]), SPKI), Ok(()));
        let good = request(&[2, 1, 0], SPKI, &attributes);
        assert_eq!(check(&good, SPKI), Ok(()));

        let other_key = [0x30, 3, 1, 1, 0xfe];
        for bad in [
            request(&[2, 1, 0], &other_key, &attributes),
            request(&[2, 1, 1], SPKI, &attributes),
            request(&[], SPKI, &attributes),
            request(&[2, 1, 0], SPKI, &[]),
            request(&[2, 1, 0], SPKI, &[0x31, 0]),
            [&good[..], &[0]].concat(),
            good[..good.len() - 1].to_vec(),
            // Looks like the beginning of a TBSCertificate: [0] version, serial, algorithm, names.
            element(SEQUENCE, &[&[0xa0, 3, 2, 1, 2], &[2, 1, 0], &name(), SPKI, &attributes]),
            element(SEQUENCE, &[&[2, 1, 0], &[0x30, 2, 6, 0], &name(), SPKI]),
        ] {
            assert_eq!(check(&bad, SPKI), Err(NotDer), "{bad:02x?}");
        }
    }
}
