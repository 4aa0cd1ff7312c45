use data_encoding::BASE64;
use zeroize::Zeroizing;

/// PEM with lines of 64 characters (RFC 7468) of one DER value.
pub fn to_pem(label: &str, der: &[u8]) -> String {
    core::mem::take(&mut *secret_to_pem(label, der))
}

/// The same of a secret: no copy of it is left in freed memory.
pub(crate) fn secret_to_pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let text = Zeroizing::new(BASE64.encode(der));
    // Never too short, so that it is not moved while it grows.
    let mut pem = Zeroizing::new(String::with_capacity(text.len() + text.len() / 64 + 2 * label.len() + 40));
    pem.push_str(&format!("-----BEGIN {label}-----\n"));
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|&byte| char::from(byte)));
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_64_characters() {
        let pem = to_pem("CERTIFICATE", &[0; 49]);
        let lines: Vec<_> = pem.lines().collect();
        assert_eq!(lines[0], "-----BEGIN CERTIFICATE-----");
        assert_eq!((lines[1].len(), lines[2]), (64, "AA=="));
        assert_eq!(lines[3], "-----END CERTIFICATE-----");
    }
}
