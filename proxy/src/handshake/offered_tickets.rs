//! The tickets in a ClientHello (RFC 8446, section 4.2.11; RFC 5077), which rustls does not show.

/// Tickets that are looked at; browsers offer one.
const MOST: usize = 8;

/// The tickets that the ClientHello in these TLS records offers, the first few. None if the bytes are anything else:
/// whether they are in order is for rustls to say.
pub(super) fn offered_tickets(mut records: &[u8]) -> Vec<Vec<u8>> {
    let mut message = Vec::with_capacity(records.len());
    while let Some(fragment) = record(&mut records) {
        message.extend_from_slice(fragment);
    }
    in_message(&message).unwrap_or_default()
}

/// Whether a session, as rustls puts it into a ticket, is one with the server of this name: it resumes no other. The name is
/// what it begins with; if that should ever change, tickets wait like full handshakes, and nothing else happens.
pub(super) fn is_session_of(mut session: &[u8], name: Option<&str>) -> bool {
    match take(&mut session, 1) {
        Some([0]) => name.is_none(),
        Some([1]) => vector::<1>(&mut session).is_some_and(|known| Some(known) == name.map(str::as_bytes)),
        _ => false,
    }
}

/// The next record's content, if it belongs to a handshake.
fn record<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    const HANDSHAKE: u8 = 22;
    let (head, rest) = bytes.split_at_checked(3)?;
    *bytes = rest;
    (head[0] == HANDSHAKE).then(|| vector::<2>(bytes))?
}

fn in_message(mut message: &[u8]) -> Option<Vec<Vec<u8>>> {
    const CLIENT_HELLO: u8 = 1;
    const VERSION_AND_RANDOM: usize = 2 + 32;
    const SESSION_TICKET: [u8; 2] = [0, 35];
    const PRE_SHARED_KEY: [u8; 2] = [0, 41];

    if take(&mut message, 1)? != [CLIENT_HELLO] {
        return None;
    }
    let mut hello = vector::<3>(&mut message)?;
    take(&mut hello, VERSION_AND_RANDOM)?;
    let (_session_id, _suites, _compression) =
        (vector::<1>(&mut hello)?, vector::<2>(&mut hello)?, vector::<1>(&mut hello)?);
    let mut extensions = vector::<2>(&mut hello)?;
    let mut tickets = Vec::new();
    while !extensions.is_empty() {
        let kind = take(&mut extensions, 2)?;
        let mut content = vector::<2>(&mut extensions)?;
        if kind == SESSION_TICKET && !content.is_empty() {
            tickets.push(content.to_vec());
        } else if kind == PRE_SHARED_KEY {
            let mut identities = vector::<2>(&mut content)?;
            while !identities.is_empty() && tickets.len() < MOST {
                tickets.push(vector::<2>(&mut identities)?.to_vec());
                let _age = take(&mut identities, 4)?;
            }
        }
    }
    Some(tickets)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

/// What a length of so many bytes stands before.
fn vector<'a, const LENGTH: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take(bytes, LENGTH)?.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
    take(bytes, length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_length(width: usize, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        [&length[4 - width..], content].concat()
    }

    fn extension(kind: u8, content: &[u8]) -> Vec<u8> {
        [&[0, kind][..], &with_length(2, content)].concat()
    }

    fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
        let body = [
            &[3; 34][..],
            &with_length(1, &[7; 32]),
            &with_length(2, &[0x13, 1]),
            &with_length(1, &[0]),
            &with_length(2, &extensions.concat()),
        ]
        .concat();
        [&[1][..], &with_length(3, &body)].concat()
    }

    fn records(message: &[u8], most: usize) -> Vec<u8> {
        let record = |fragment: &[u8]| [&[22, 3, 1][..], &with_length(2, fragment)].concat();
        message.chunks(most).flat_map(record).collect()
    }

    #[test]
    fn tickets_of_both_versions_are_found_in_records_of_any_size() {
        let identity = |ticket: &[u8]| [with_length(2, ticket), vec![0; 4]].concat();
        let identities = with_length(2, &[identity(b"first"), identity(b"second")].concat());
        let hello = hello(&[
            extension(0, b"a name"),
            extension(35, b"old"),
            extension(41, &[identities, with_length(2, &[9; 33])].concat()),
        ]);
        for most in [1, 7, 100, 16384] {
            let tickets = offered_tickets(&records(&hello, most));
            assert_eq!(tickets, [&b"old"[..], b"first", b"second"], "{most}");
        }
    }

    #[test]
    fn whatever_is_cut_or_wrong_offers_nothing_and_does_no_harm() {
        let whole = records(&hello(&[extension(35, b"old")]), 100);
        for end in 0..whole.len() {
            assert!(offered_tickets(&whole[..end]).is_empty(), "{end}");
        }
        for at in 0..whole.len() {
            for byte in [0, 1, 41, 127, 255] {
                let mut wrong = whole.clone();
                wrong[at] = byte;
                assert!(offered_tickets(&wrong).len() <= MOST);
            }
        }
        assert!(offered_tickets(&records(&hello(&[extension(35, b"")]), 100)).is_empty());
        let identities = with_length(2, &[0, 1, b'x', 0, 0, 0, 0].repeat(500));
        assert_eq!(offered_tickets(&records(&hello(&[extension(41, &identities)]), 16384)).len(), MOST);
    }
}
