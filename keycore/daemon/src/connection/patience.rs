//! How long a peer may take.

use std::time::Duration;

use super::CloseReason;

/// The deadlines of one connection. A connection that has said hello, owes no half of a frame and takes its replies may
/// be idle for ever.
#[derive(Debug)]
pub(super) struct Patience {
    /// Accepted then; `None` once the hello is answered.
    hello_since: Option<Duration>,
    /// The first byte of an unfinished frame came then.
    frame_since: Option<Duration>,
    /// The peer last took something then, and there is more for it.
    write_since: Option<Duration>,
}

impl Patience {
    /// From the connection to the hello.
    pub(super) const HELLO: Duration = Duration::from_secs(5);
    /// From the first byte of a frame to its last.
    pub(super) const FRAME: Duration = Duration::from_secs(10);
    /// Between two writes that the peer has room for.
    pub(super) const WRITE: Duration = Duration::from_secs(10);

    /// A connection that was accepted at `now`.
    pub(super) fn new(now: Duration) -> Self {
        Self { hello_since: Some(now), frame_since: None, write_since: None }
    }

    /// The hello is answered.
    pub(super) fn greeted(&mut self) {
        self.hello_since = None;
    }

    /// It is we who don't read: the peer is not to blame for half a frame.
    pub(super) fn paused(&mut self) {
        self.frame_since = None;
    }

    /// `unread` bytes of a frame are there; `new` if it is another frame than the last time.
    pub(super) fn waiting_for_rest(&mut self, unread: usize, new: bool, now: Duration) {
        if unread == 0 {
            self.frame_since = None;
        } else if new || self.frame_since.is_none() {
            self.frame_since = Some(now);
        }
    }

    /// There is a reply for the peer.
    pub(super) fn owes(&mut self, now: Duration) {
        self.write_since.get_or_insert(now);
    }

    /// A write has left `unsent` bytes, with or without `progress`.
    pub(super) fn wrote(&mut self, progress: bool, unsent: usize, now: Duration) {
        if unsent == 0 {
            self.write_since = None;
        } else if progress {
            self.write_since = Some(now);
        }
    }

    /// The rule that the peer has broken by `now`.
    pub(super) fn overdue(&self, now: Duration) -> Option<CloseReason> {
        let over =
            |since: Option<Duration>, limit| since.is_some_and(|since| now.saturating_sub(since) > limit);
        if over(self.hello_since, Self::HELLO) {
            Some(CloseReason::NoHello)
        } else if over(self.frame_since, Self::FRAME) {
            Some(CloseReason::UnfinishedFrame)
        } else if over(self.write_since, Self::WRITE) {
            Some(CloseReason::NotReading)
        } else {
            None
        }
    }

    /// Whether any of them is running.
    pub(super) fn is_running(&self) -> bool {
        self.hello_since.or(self.frame_since).or(self.write_since).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn greeted() -> Patience {
        let mut patience = Patience::new(s(0));
        patience.greeted();
        patience
    }

    #[test]
    fn silence_is_allowed_after_the_hello_only() {
        let patience = Patience::new(s(100));
        assert!(patience.overdue(s(105)).is_none());
        assert!(matches!(patience.overdue(s(106)), Some(CloseReason::NoHello)));
        assert!(!greeted().is_running());
        assert!(greeted().overdue(s(1_000_000)).is_none());
    }

    #[test]
    fn a_trickle_does_not_prolong_a_frame_but_a_new_frame_does() {
        let mut patience = greeted();
        patience.waiting_for_rest(1, false, s(0));
        patience.waiting_for_rest(2, false, s(9));
        assert!(matches!(patience.overdue(s(11)), Some(CloseReason::UnfinishedFrame)));
        patience.waiting_for_rest(1, true, s(11));
        assert!(patience.overdue(s(20)).is_none());
        patience.waiting_for_rest(0, true, s(20));
        assert!(!patience.is_running());
    }

    #[test]
    fn a_pause_of_ours_is_not_the_peers_fault() {
        let mut patience = greeted();
        patience.waiting_for_rest(1, false, s(0));
        patience.paused();
        assert!(patience.overdue(s(100)).is_none());
        patience.waiting_for_rest(1, false, s(100));
        assert!(patience.overdue(s(109)).is_none());
    }

    #[test]
    fn a_peer_has_to_take_its_replies() {
        let mut patience = greeted();
        patience.owes(s(0));
        patience.wrote(true, 10, s(5));
        patience.owes(s(8));
        patience.wrote(false, 20, s(14));
        assert!(patience.overdue(s(15)).is_none());
        assert!(matches!(patience.overdue(s(16)), Some(CloseReason::NotReading)));
        patience.wrote(true, 0, s(16));
        assert!(!patience.is_running());
    }
}
