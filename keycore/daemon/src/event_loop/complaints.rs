//! What the loop logs about peers, in moderation: a peer must not fill a disk through the log.

use std::io;
use std::net::SocketAddr;
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
    identity: RateLimit,
    handshakes: RateLimit,
    accept: RateLimit,
    peers: RateLimit,
}

impl Complaints {
    /// A connection was closed before its first request.
    pub(super) fn rejected(&mut self, rejection: &Rejection, now: Duration) {
        let limit = match rejection {
            Rejection::User(_) | Rejection::Unknown(_) => &mut self.users,
            Rejection::Full(_) | Rejection::Busy(_) | Rejection::BusyNetwork { .. } => &mut self.full,
            Rejection::NoIdentity | Rejection::Identity(_) => &mut self.identity,
        };
        if let Some(more) = limit.admit(now) {
            tracing::warn!(more, "connection refused: {rejection}");
        }
    }

    /// A client of another machine has not shaken hands.
    pub(super) fn no_handshake(&mut self, address: SocketAddr, error: &io::Error, now: Duration) {
        if let Some(more) = self.handshakes.admit(now) {
            tracing::warn!(more, %address, "connection closed before the end of its TLS handshake: {error}");
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
            tracing::debug!(%peer, "connection closed: {reason}");
        } else if let Some(more) = self.peers.admit(now) {
            tracing::warn!(%peer, more, "connection closed: {reason}");
        }
    }
}
