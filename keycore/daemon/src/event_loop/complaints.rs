//! What the loop logs about peers, in moderation: a peer must not fill a disk through the log.

use std::io;
use std::time::Duration;

use keycore_audit::Peer;

use super::accept::Rejection;
use crate::connection::CloseReason;
use crate::logging::RateLimit;

/// One line of each kind in a while.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    users: RateLimit,
    full: RateLimit,
    accept: RateLimit,
    peers: RateLimit,
}

impl Complaints {
    /// A connection was closed before its first request.
    pub(super) fn rejected(&mut self, rejection: &Rejection, now: Duration) {
        let limit = match rejection {
            Rejection::User(_) | Rejection::Unknown(_) => &mut self.users,
            Rejection::Full(_) => &mut self.full,
        };
        if let Some(more) = limit.admit(now) {
            tracing::warn!(more, "connection refused: {rejection}");
        }
    }

    /// No connection could be taken.
    pub(super) fn accept_failed(&mut self, error: &io::Error, now: Duration) {
        if let Some(more) = self.accept.admit(now) {
            tracing::error!(more, "can't take connections: {error}; trying again");
        }
    }

    /// A connection has ended.
    pub(super) fn closed(&mut self, peer: Peer, reason: &CloseReason, now: Duration) {
        if !reason.is_misbehaviour() {
            tracing::debug!(uid = peer.uid, pid = peer.pid, "connection closed: {reason}");
        } else if let Some(more) = self.peers.admit(now) {
            tracing::warn!(uid = peer.uid, pid = peer.pid, more, "connection closed: {reason}");
        }
    }
}
