use keycore_wire::{Done, Ping, ReplyError, decode_reply};

use super::*;

fn framed(id: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::append::<()>(&mut out, id, |out| {
        out.extend_from_slice(body);
        Ok(())
    })
    .unwrap();
    out
}

/// Gives at most `step` bytes a read, then would block.
struct Trickle<'a> {
    bytes: &'a [u8],
    step: usize,
}

impl Read for Trickle<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let step = self.step.min(self.bytes.len());
        (&self.bytes[..step]).read(out).inspect(|&count| self.bytes = &self.bytes[count..])
    }
}

#[test]
fn frames_of_every_length_come_whole_however_they_trickle_in() {
    let lengths = [1, 7, 500, 2040, 2041, 16_000, 20_000, frame::MAX_FRAME - frame::HEADER, 3];
    let sent: Vec<u8> =
        (0..).zip(lengths).flat_map(|(id, length)| framed(id, &vec![id as u8; length])).collect();
    for step in [1_009, 4_096, usize::MAX] {
        let mut source = Trickle { bytes: &sent, step };
        let mut inbox = Inbox::default();
        let mut got = Vec::new();
        loop {
            while let Some((frame, took)) = inbox.first(frame::MAX_FRAME).unwrap() {
                got.push((frame.id, frame.body.to_vec()));
                inbox.consume(took);
            }
            if inbox.read_from(&mut source).is_err() {
                break;
            }
        }
        assert!(inbox.unread().is_empty());
        assert!(inbox.bytes.len() <= Inbox::USUAL, "a large buffer is given back");
        let expected: Vec<_> = (0..).zip(lengths).map(|(id, length)| (id, vec![id as u8; length])).collect();
        assert!(got == expected, "step {step}");
    }
}

#[test]
fn an_announced_length_above_the_limit_costs_no_memory() {
    let mut inbox = Inbox::default();
    inbox.read_from(&mut &u32::MAX.to_be_bytes()[..]).unwrap();
    assert!(matches!(inbox.first(frame::MAX_FRAME), Err(FrameError::TooLong { .. })));
    assert_eq!(inbox.bytes.len(), Inbox::SMALL);
}

#[test]
fn what_was_consumed_is_wiped() {
    let mut inbox = Inbox::default();
    let secret = framed(1, b"secret password");
    inbox.read_from(&mut &[&secret[..], b"\0\0"].concat()[..]).unwrap();
    inbox.consume(secret.len());
    assert!(inbox.bytes[..secret.len()].iter().all(|&byte| byte == 0));
    // Moving the rest to the front leaves nothing behind either.
    inbox.read_from(&mut &b"\0\x09abcdefgh"[..]).unwrap();
    assert_eq!(inbox.unread(), b"\0\0\0\x09abcdefgh");
    inbox.consume(12);
    assert!(inbox.bytes.iter().all(|&byte| byte == 0));
}

/// Takes at most `step` bytes a write and `left` in all, then would block.
struct Narrow {
    taken: Vec<u8>,
    step: usize,
    left: usize,
}

impl Write for Narrow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = bytes.len().min(self.step).min(self.left);
        self.left -= count;
        self.taken.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn replies_go_out_in_order_through_a_narrow_peer() {
    let mut outbox = Outbox::default();
    let mut peer = Narrow { taken: Vec::new(), step: 3, left: 100 };
    outbox.push(1, &Ok(Reply::Done(Done)));
    assert!(outbox.write_to(&mut peer).unwrap());
    outbox.push(2, &Err(Refusal::new(RefusalCode::NotFound, "no such key")));
    while outbox.unsent() > 0 {
        assert!(outbox.write_to(&mut peer).unwrap());
    }
    assert!(outbox.bytes.is_empty());

    let (first, took) = frame::split(&peer.taken, 512).unwrap().unwrap();
    assert_eq!(first.id, 1);
    decode_reply::<Ping>(first.body).unwrap();
    let (second, _) = frame::split(&peer.taken[took..], 512).unwrap().unwrap();
    assert_eq!(second.id, 2);
    assert!(
        matches!(decode_reply::<Ping>(second.body), Err(ReplyError::Refused(refusal)) if refusal.code == RefusalCode::NotFound)
    );
}

#[test]
fn a_peer_that_takes_nothing_is_no_progress_and_no_error() {
    let mut outbox = Outbox::default();
    outbox.push(1, &Ok(Reply::Done(Done)));
    let mut peer = Narrow { taken: Vec::new(), step: 1, left: 0 };
    assert!(!outbox.write_to(&mut peer).unwrap());
    assert!(outbox.unsent() > 0);
}
