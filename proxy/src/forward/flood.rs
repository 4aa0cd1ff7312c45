//! Counts the frames of an HTTP/2 connection that cost a server more than the client: the HTTP/2 library has limits for
//! some, and none for `PING`, `SETTINGS`, `WINDOW_UPDATE`, `PRIORITY`, nor for streams that are reset after it has handed
//! them on.
//!
//! Each kind has an allowance by time, and earns more by what the proxy sends: clients acknowledge what they receive, some
//! of them each frame, and measure the way with a `PING` at each. So a fast download may have as many of them as it
//! wants, and a connection on which nothing is downloaded may not. What is earned is bounded, so that a download pays for no
//! flood long after it; and frames that a client can have cut as small as it likes, by its windows, earn no window updates.

use std::convert::Infallible;

use crate::abuse::Abuse;

use super::frames::{self, Frames, Head};

/// Streams that a client may cancel at once after a silence, in seconds of `limits.http2-resets`.
const RESETS_BURST: u32 = 2;

/// Error code of a `GOAWAY` (RFC 9113, section 7).
const ENHANCE_YOUR_CALM: u32 = 11;

/// Thousandths of a frame, so that a slow allowance grows in short times, too.
const FRAME: u64 = 1000;

/// The most that is earned beyond time: so many bursts, but not less than so many frames.
const MOST_BURSTS: u64 = 10;
const MOST_FRAMES: u64 = 1000;

/// `DATA` with less than this earns no window updates, unless it is its stream's last: a client that opens its window by a
/// byte gets a frame for it, which must not pay for the next.
const SMALL_DATA: u32 = 256;

/// What is allowed of the kinds that have one number for all.
const PINGS: Allowance = Allowance { per_second: 10, burst: 100 };
const SETTINGS: Allowance = Allowance { per_second: 1, burst: 50 };
const WINDOW_UPDATES: Allowance = Allowance { per_second: 200, burst: 2000 };
const IDLE_FRAMES: Allowance = Allowance { per_second: 100, burst: 1000 };

/// Watches both directions of a client's HTTP/2 connection.
pub(super) struct FloodGuard {
    reads: Frames,
    writes: Frames,
    resets: Budget,
    pings: Budget,
    settings: Budget,
    window_updates: Budget,
    idle_frames: Budget,
    /// Milliseconds since the connection's start at which the budgets grew last.
    grown: u64,
    /// The last stream that the client opened.
    last_stream: u32,
    abuse: Option<Abuse>,
}

/// A kind of frame that came too often.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flood {
    /// Where in the bytes the first one too many begins.
    pub(super) at: usize,
    pub(super) abuse: Abuse,
}

#[derive(Clone, Copy)]
struct Allowance {
    per_second: u32,
    /// So many may come at once after a silence.
    burst: u32,
}

struct Budget {
    allowance: Allowance,
    /// In thousandths of a frame.
    left: u64,
}

impl Budget {
    fn new(allowance: Allowance) -> Self {
        Self { allowance, left: u64::from(allowance.burst) * FRAME }
    }

    fn grow(&mut self, millis: u64) {
        let most = u64::from(self.allowance.burst) * FRAME;
        if self.left < most {
            let grown = u64::from(self.allowance.per_second).saturating_mul(millis);
            self.left = self.left.saturating_add(grown).min(most);
        }
    }

    /// What was sent to the client earns these, beyond the burst, up to [`MOST_BURSTS`].
    fn earn(&mut self, frames: u32) {
        let most = (u64::from(self.allowance.burst) * MOST_BURSTS).max(MOST_FRAMES) * FRAME;
        self.left = self.left.saturating_add(u64::from(frames) * FRAME).min(most);
    }

    fn spend(&mut self) -> bool {
        let Some(left) = self.left.checked_sub(FRAME) else { return false };
        self.left = left;
        true
    }
}

impl FloodGuard {
    /// At the start of a connection, with so many resets allowed in a second.
    pub(super) fn new(resets: u32) -> Self {
        let resets = Allowance { per_second: resets, burst: resets.saturating_mul(RESETS_BURST) };
        Self {
            reads: Frames::of_client(),
            writes: Frames::of_server(),
            resets: Budget::new(resets),
            pings: Budget::new(PINGS),
            settings: Budget::new(SETTINGS),
            window_updates: Budget::new(WINDOW_UPDATES),
            idle_frames: Budget::new(IDLE_FRAMES),
            grown: 0,
            last_stream: 0,
            abuse: None,
        }
    }

    /// What the connection is to be ended for, by this guard or by the HTTP/2 library.
    pub(super) fn abuse(&self) -> Option<Abuse> {
        self.abuse
    }

    /// Looks at the next bytes from the client, `millis` after the connection's start.
    ///
    /// # Errors
    ///
    /// [`Flood`]; what follows is not to be looked at.
    pub(super) fn received(&mut self, bytes: &[u8], millis: u64) -> Result<(), Flood> {
        let passed = millis.saturating_sub(self.grown);
        if passed > 0 {
            self.grown = millis;
            let Self { resets, pings, settings, window_updates, idle_frames, .. } = self;
            for budget in [resets, pings, settings, window_updates, idle_frames] {
                budget.grow(passed);
            }
        }
        let Self { reads, resets, pings, settings, window_updates, idle_frames, last_stream, abuse, .. } =
            self;
        reads.follow(bytes, |at, head, _| {
            let (budget, kind) = match head.kind {
                frames::HEADERS => {
                    *last_stream = head.stream.max(*last_stream);
                    return Ok(());
                }
                frames::DATA | frames::CONTINUATION | frames::PUSH_PROMISE => return Ok(()),
                frames::RST_STREAM => (&mut *resets, Abuse::Resets),
                frames::PING => (&mut *pings, Abuse::Pings),
                frames::SETTINGS => (&mut *settings, Abuse::Settings),
                frames::WINDOW_UPDATE => (&mut *window_updates, Abuse::WindowUpdates),
                _ => (&mut *idle_frames, Abuse::IdleFrames),
            };
            if budget.spend() {
                return Ok(());
            }
            *abuse = Some(kind);
            Err(Flood { at, abuse: kind })
        })
    }

    /// Looks at the next bytes to the client.
    pub(super) fn sent(&mut self, bytes: &[u8]) {
        let Self { writes, resets, pings, window_updates, idle_frames, abuse, .. } = self;
        let Ok(()) = writes.follow(bytes, |_, head, payload| -> Result<(), Infallible> {
            match head.kind {
                frames::DATA => {
                    pings.earn(1);
                    if head.length < SMALL_DATA && !head.ends_stream() {
                        return Ok(());
                    }
                    // Of the stream and of the connection, and some clients return the window in pieces of a few KiB.
                    window_updates.earn(2 + head.length / 1024);
                }
                frames::HEADERS => {
                    resets.earn(1);
                    pings.earn(1);
                    if head.ends_stream() {
                        window_updates.earn(2);
                    }
                    idle_frames.earn(2);
                }
                frames::GOAWAY => *abuse = abuse.or_else(|| calmed(&head, payload)),
                _ => {}
            }
            Ok(())
        });
    }

    /// The `GOAWAY` that a flood is answered with; `None` if the last frame to the client is not complete, so that nothing
    /// can follow it.
    pub(super) fn go_away(&self) -> Option<Vec<u8>> {
        let abuse = self.abuse.filter(|_| self.writes.is_between())?;
        let debug_data = abuse.label().as_bytes();
        let length = u8::try_from(8 + debug_data.len()).ok()?;
        let mut frame = vec![0, 0, length, frames::GOAWAY, 0, 0, 0, 0, 0];
        frame.extend(self.last_stream.to_be_bytes());
        frame.extend(ENHANCE_YOUR_CALM.to_be_bytes());
        frame.extend(debug_data);
        Some(frame)
    }
}

/// What the HTTP/2 library ends the connection for, if it does so for abuse.
fn calmed(head: &Head, payload: &[u8]) -> Option<Abuse> {
    let (code, debug_data) = (payload.get(4..8)?, &payload[8..]);
    let is_calm = code == ENHANCE_YOUR_CALM.to_be_bytes();
    (is_calm && payload.len() == head.length as usize).then(|| Abuse::told_in(debug_data))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn frame(kind: u8, length: u16) -> Vec<u8> {
        let [high, low] = length.to_be_bytes();
        let mut frame = vec![0, high, low, kind, 0, 0, 0, 0, 1];
        frame.resize(9 + usize::from(length), 0);
        frame
    }

    fn guard() -> FloodGuard {
        let mut guard = FloodGuard::new(100);
        guard.received(PREFACE, 0).unwrap();
        guard
    }

    /// How many of them pass at this time, up to ten thousand.
    fn passed(guard: &mut FloodGuard, kind: u8, millis: u64) -> usize {
        (0..10_000).take_while(|_| guard.received(&frame(kind, 4), millis).is_ok()).count()
    }

    #[test]
    fn each_kind_has_a_burst_and_then_an_allowance_by_time() {
        for (kind, burst, per_second, abuse) in [
            (frames::RST_STREAM, 200, 100, Abuse::Resets),
            (frames::PING, 100, 10, Abuse::Pings),
            (frames::SETTINGS, 50, 1, Abuse::Settings),
            (frames::WINDOW_UPDATE, 2000, 200, Abuse::WindowUpdates),
            (2, 1000, 100, Abuse::IdleFrames),
            (0x10, 1000, 100, Abuse::IdleFrames),
        ] {
            assert_eq!(passed(&mut guard(), kind, 1_000_000), burst, "{abuse}");
            let mut guard = guard();
            for sent in 0..burst {
                assert_eq!(guard.received(&frame(kind, 4), 0), Ok(()), "{abuse} {sent}");
            }
            // One by one as they are allowed, for a minute.
            let step = 1000 / per_second;
            for at in 1..=60 * per_second {
                guard.received(&frame(kind, 4), at * step).unwrap();
            }
            let both = [frame(0, 5), frame(kind, 4)].concat();
            assert_eq!(guard.received(&both, 60_000), Err(Flood { at: 14, abuse }));
            assert_eq!(guard.abuse(), Some(abuse));
        }
    }

    #[test]
    fn requests_and_their_bodies_are_not_counted() {
        let mut guard = guard();
        for kind in [frames::DATA, frames::HEADERS, frames::CONTINUATION] {
            assert_eq!(passed(&mut guard, kind, 0), 10_000);
        }
    }

    #[test]
    fn a_client_may_acknowledge_all_that_it_gets_and_cancel_what_was_answered() {
        let mut guard = guard();
        for _ in 0..2000 {
            guard.sent(&frame(frames::DATA, 16_384));
        }
        for _ in 0..16_000 {
            guard.received(&frame(frames::WINDOW_UPDATE, 4), 0).unwrap();
        }
        for _ in 0..2000 {
            guard.received(&frame(frames::PING, 8), 0).unwrap();
            guard.sent(&frame(frames::HEADERS, 30));
            guard.received(&frame(frames::RST_STREAM, 4), 0).unwrap();
        }
        assert_eq!(passed(&mut guard, frames::RST_STREAM, 0), 200);
    }

    #[test]
    fn what_is_earned_is_bounded() {
        let sent = |resets| {
            let mut guard = FloodGuard::new(resets);
            guard.received(PREFACE, 0).unwrap();
            for _ in 0..50_000 {
                guard.sent(&frame(frames::HEADERS, 30));
                guard.sent(&frame(frames::DATA, 1024));
            }
            // Time neither adds to that nor takes it away.
            guard.received(&frame(frames::DATA, 0), 1_000_000).unwrap();
            guard
        };
        for (kind, most) in
            [(frames::RST_STREAM, 2000), (frames::PING, 1000), (frames::SETTINGS, 50), (2, 10_000)]
        {
            assert_eq!(passed(&mut sent(100), kind, 1_000_000), most, "{kind}");
        }
        assert_eq!(passed(&mut sent(1), frames::RST_STREAM, 1_000_000), 1000);
        let updates = frame(frames::WINDOW_UPDATE, 4);
        let mut guard = sent(100);
        let passed = (0..30_000).take_while(|_| guard.received(&updates, 1_000_000).is_ok()).count();
        assert_eq!(passed, 20_000);
    }

    #[test]
    fn small_data_pays_for_no_window_updates() {
        let ending = |kind, length| {
            let mut frame = frame(kind, length);
            frame[4] = 1;
            frame
        };
        for (sent, earned) in [
            (frame(frames::DATA, 1), 0),
            (frame(frames::DATA, 255), 0),
            (frame(frames::DATA, 256), 2),
            (frame(frames::HEADERS, 30), 0),
            (ending(frames::DATA, 0), 2),
            (ending(frames::HEADERS, 30), 2),
        ] {
            let mut guard = guard();
            guard.sent(&sent);
            assert_eq!(passed(&mut guard, frames::WINDOW_UPDATE, 0), 2000 + earned, "{sent:?}");
        }
    }

    #[test]
    fn the_library_says_what_it_ends_a_connection_for() {
        let go_away = |code: u8, text: &[u8]| {
            let length = u8::try_from(8 + text.len()).unwrap();
            [&[0, 0, length, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, code], text].concat()
        };
        for (code, text, expected) in [
            (11, &b"too_many_resets"[..], Some(Abuse::Resets)),
            (11, b"too_many_internal_resets", Some(Abuse::StreamErrors)),
            (11, b"too_many_continuations", Some(Abuse::Continuations)),
            (11, b"header_list_way_too_large", Some(Abuse::HeaderList)),
            (11, b"too_many_data_frames", Some(Abuse::SmallData)),
            (11, b"", Some(Abuse::Other)),
            (0, b"", None),
            (1, b"too_many_resets", None),
        ] {
            let mut guard = guard();
            guard.sent(&go_away(code, text));
            assert_eq!(guard.abuse(), expected);
        }
    }

    #[test]
    fn a_flood_is_answered_with_the_reason_where_a_frame_may_stand() {
        let mut guard = guard();
        assert_eq!(guard.go_away(), None);
        guard.received(&frame(frames::HEADERS, 4), 0).unwrap();
        passed(&mut guard, frames::PING, 0);
        let expected = [&[0, 0, 13, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 11], &b"pings"[..]].concat();
        assert_eq!(guard.go_away(), Some(expected));
        guard.sent(&frame(frames::DATA, 100)[..50]);
        assert_eq!(guard.go_away(), None);
    }
}
