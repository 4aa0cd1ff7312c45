//! What a secret may look like where it should not be.

/// A secret in one of its forms.
#[derive(Debug)]
pub struct Needle {
    /// Whose secret, in which form.
    pub what: String,
    /// The bytes to look for.
    pub bytes: Vec<u8>,
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Every form of a secret: its bytes, reversed (as big integers lie in memory), in hexadecimal, in base64 at each of the three
/// alignments that it may have within something longer, and as UTF-16.
pub fn forms(what: &str, secret: &[u8]) -> Vec<Needle> {
    let lower: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![
        ("as it is", secret.to_vec()),
        ("reversed", secret.iter().rev().copied().collect()),
        ("in hexadecimal", lower.clone().into_bytes()),
        ("in capital hexadecimal", lower.to_uppercase().into_bytes()),
        ("as UTF-16", secret.iter().flat_map(|&byte| [byte, 0]).collect()),
    ];
    for (skip, name) in
        [(0, "in base64"), (1, "in base64, one byte later"), (2, "in base64, two bytes later")]
    {
        forms.push((name, base64(&secret[skip..])));
    }
    forms.into_iter().map(|(form, bytes)| Needle { what: format!("{what}, {form}"), bytes }).collect()
}

/// The digits of whole groups of three bytes; what neighbours would change is left out.
fn base64(bytes: &[u8]) -> Vec<u8> {
    let digits = bytes.chunks_exact(3).flat_map(|group| {
        let group = group.iter().fold(0u32, |group, &byte| group << 8 | u32::from(byte));
        [18, 12, 6, 0].map(|shift| BASE64[(group >> shift & 63) as usize])
    });
    digits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_found_at_every_alignment() {
        // echo -n correct horse | base64, and with one and two bytes before it.
        let written = ["Y29ycmVjdCBob3JzZQ==", "eGNvcnJlY3QgaG9yc2U=", "eHhjb3JyZWN0IGhvcnNl"];
        let needles = forms("a password", b"correct horse");
        for text in written {
            let found =
                needles.iter().filter(|needle| crate::memory::in_bytes(text.as_bytes(), &needle.bytes) > 0);
            assert_eq!(found.count(), 1, "{text}");
        }
    }
}
