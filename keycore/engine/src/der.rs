//! A strict reader for the little DER (X.690) that the rules look into: definite, minimal lengths, nothing trailing.

/// The bytes are not the DER that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotDer;

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const NULL: u8 = 0x05;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(crate) const UTF8_STRING: u8 = 0x0c;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
pub(crate) const CONTEXT_0: u8 = 0xa0;

/// Reads one element after another.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Takes the next element, which must have `tag`; returns its content.
    pub(crate) fn take(&mut self, tag: u8) -> Result<&'a [u8], NotDer> {
        self.take_whole(tag).map(|(_, content)| content)
    }

    /// Takes the next element, which must have `tag`; returns all of it, and its content.
    pub(crate) fn take_whole(&mut self, tag: u8) -> Result<(&'a [u8], &'a [u8]), NotDer> {
        let (&found, rest) = self.0.split_first().ok_or(NotDer)?;
        let (&first, rest) = rest.split_first().ok_or(NotDer)?;
        let (length, header) = match first {
            short @ 0..=0x7f => (usize::from(short), 2),
            0x81 => match rest {
                [length @ 0x80..=0xff, ..] => (usize::from(*length), 3),
                _ => return Err(NotDer),
            },
            0x82 => match rest {
                [high @ 1..=0xff, low, ..] => (usize::from(u16::from_be_bytes([*high, *low])), 4),
                _ => return Err(NotDer),
            },
            // No message here is of 64 KiB or more; an indefinite length is not DER.
            _ => return Err(NotDer),
        };
        let whole = self.0.get(..header + length).ok_or(NotDer)?;
        if found != tag {
            return Err(NotDer);
        }
        self.0 = &self.0[whole.len()..];
        Ok((whole, &whole[header..]))
    }

    /// The tag of the next element.
    pub(crate) fn next_tag(&self) -> Option<u8> {
        self.0.first().copied()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Nothing may follow.
    pub(crate) fn end(self) -> Result<(), NotDer> {
        if self.0.is_empty() { Ok(()) } else { Err(NotDer) }
    }
}

/// One element around these parts. They have less than 64 KiB together.
pub(crate) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut element = vec![tag];
    match content.len() {
        short @ 0..=0x7f => element.push(short as u8),
        byte @ 0x80..=0xff => element.extend([0x81, byte as u8]),
        long => {
            element.push(0x82);
            element.extend(u16::try_from(long).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    element.extend(content);
    element
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_elements_in_order_to_the_end() {
        let mut reader = Reader::new(&[0x02, 1, 5, 0x04, 2, 8, 9]);
        assert_eq!(reader.take(INTEGER), Ok(&[5][..]));
        assert_eq!(reader.next_tag(), Some(OCTET_STRING));
        assert_eq!(reader.take_whole(OCTET_STRING), Ok((&[0x04, 2, 8, 9][..], &[8, 9][..])));
        assert!(reader.is_empty());
        assert_eq!(reader.end(), Ok(()));
    }

    #[test]
    fn refuses_lengths_that_are_long_indefinite_or_beyond_the_end() {
        for bytes in [
            &[0x30u8][..],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x81, 0x7f],
            &[0x30, 0x82, 0x00, 0x80],
            &[0x30, 0x83, 1, 0, 0],
            &[0x30, 2, 0],
        ] {
            assert_eq!(Reader::new(bytes).take(SEQUENCE), Err(NotDer), "{bytes:02x?}");
        }
    }

    #[test]
    fn reads_the_long_forms_in_their_shortest_encoding() {
        for length in [0x80usize, 0xff, 0x100, 0xffff] {
            let mut bytes = if length < 0x100 {
                vec![0x04, 0x81, u8::try_from(length).unwrap()]
            } else {
                let [high, low] = u16::try_from(length).unwrap().to_be_bytes();
                vec![0x04, 0x82, high, low]
            };
            bytes.resize(bytes.len() + length, 1);
            assert_eq!(element(OCTET_STRING, &[&vec![1; length]]), bytes);
            assert_eq!(Reader::new(&bytes).take(OCTET_STRING).unwrap().len(), length);
        }
    }
}
