//! The little DER that vectors have to be brought into.

/// A tag, a length and a content of less than 64 KiB.
pub(super) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    match (high, low) {
        (0, 0..0x80) => [&[tag, low], content].concat(),
        (0, _) => [&[tag, 0x81, low], content].concat(),
        _ => [&[tag, 0x82, high, low], content].concat(),
    }
}

pub(super) fn sequence(elements: &[&[u8]]) -> Vec<u8> {
    element(0x30, &elements.concat())
}

pub(super) fn bit_string(bytes: &[u8]) -> Vec<u8> {
    element(0x03, &[&[0], bytes].concat())
}

/// AlgorithmIdentifier of a key on a curve (RFC 5480).
pub(super) fn named_curve(oid: &[u8]) -> Vec<u8> {
    let ec_public_key = element(0x06, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01]);
    sequence(&[&ec_public_key, &element(0x06, oid)])
}

/// PKCS#8 of a private number (RFC 5915) that is as long as its curve's field.
pub(super) fn private_number(oid: &[u8], number: &[u8]) -> Vec<u8> {
    let key = sequence(&[&element(0x02, &[1]), &element(0x04, number)]);
    sequence(&[&element(0x02, &[0]), &named_curve(oid), &element(0x04, &key)])
}
