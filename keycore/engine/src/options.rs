use core::num::NonZeroUsize;
use core::time::Duration;

use keycore_audit::Retention;
use keycore_wire::frame::MAX_FRAME;
use keycore_wire::{MAX_SHARES, UnixMillis, ZoneName};

/// The time, as the caller's clocks tell it: the engine has none of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Wall clock: when sessions end on every replica, and what the audit log says.
    pub wall: UnixMillis,
    /// Time since some fixed point of this process; never goes back. Ends a session even if the wall clock is set back.
    pub mono: Duration,
}

/// What the daemon's configuration decides.
#[derive(Debug, Clone)]
pub struct Options {
    /// This replica's number on its machine, from 0.
    pub replica: u16,
    /// Where it runs, for cluster information.
    pub zone: Option<ZoneName>,
    /// The process id that cluster information names.
    pub pid: u32,
    /// Most requests in flight on a connection, as announced in the hello; the daemon enforces it.
    pub max_in_flight: u16,
    /// Longest frame in bytes, as announced in the hello; the daemon enforces it. At most [`MAX_FRAME`].
    pub max_frame: u32,
    /// Most unsealed private keys in memory; the least recently used makes room.
    pub key_cache: NonZeroUsize,
    /// How long a login lasts.
    pub session_lifetime: Duration,
    /// How long a login lasts without being used. At or above the lifetime it is without effect, as by default.
    pub session_idle: Duration,
    /// What a password hash costs.
    pub password_cost: PasswordCost,
    /// What stretching a passphrase that unseals costs, where one is set from now on.
    pub unseal_cost: PasswordCost,
    /// Most users in the cluster.
    pub max_users: u64,
    /// Most keys in the cluster.
    pub max_keys: u64,
    /// Most keys of one user, those of all its sessions among them.
    pub max_user_keys: u64,
    /// Most users that a key is shared with; at most [`MAX_SHARES`].
    pub max_key_shares: usize,
    /// Most sessions of one user that have connections to this replica; a login that would be one more is refused.
    pub max_user_sessions: usize,
    /// Audit logs that are known to be shorter than their anchors, and go on: replica, and last record of the anchor.
    pub accepted_audit_losses: Vec<(u16, u64)>,
    /// How much of this replica's audit log is kept; all by default.
    pub audit_retention: Retention,
}

impl Options {
    /// How long a login lasts, used or not.
    pub(crate) fn session_limits(&self) -> SessionLimits {
        SessionLimits { lifetime: self.session_lifetime, idle: self.session_idle }
    }

    /// The defaults, for a replica.
    pub fn new(replica: u16, pid: u32) -> Self {
        Self {
            replica,
            zone: None,
            pid,
            max_in_flight: 1024,
            max_frame: u32::try_from(MAX_FRAME).unwrap_or(u32::MAX),
            key_cache: NonZeroUsize::new(10_000).unwrap_or(NonZeroUsize::MIN),
            session_lifetime: Duration::from_hours(12),
            session_idle: Duration::from_hours(30 * 24),
            password_cost: PasswordCost::default(),
            unseal_cost: PasswordCost::new(64 * 1024, 3),
            max_users: 1024,
            max_keys: 1_000_000,
            max_user_keys: 1_000_000,
            max_key_shares: MAX_SHARES,
            max_user_sessions: 256,
            accepted_audit_losses: Vec::new(),
            audit_retention: Retention::default(),
        }
    }
}

/// How long sessions last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionLimits {
    pub(crate) lifetime: Duration,
    /// Without being used.
    pub(crate) idle: Duration,
}

impl SessionLimits {
    /// Whether what is not used ends before its time. If not, tokens stay as they were issued.
    pub(crate) fn has_idle(self) -> bool {
        self.idle < self.lifetime
    }
}

/// Argon2id's parameters (RFC 9106) for passwords set from now on; a stored hash keeps those that it was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordCost {
    memory_kib: u32,
    passes: u32,
}

impl PasswordCost {
    /// Least memory that [`PasswordCost::new`] takes, in KiB: OWASP's recommendation for two passes.
    pub const MIN_MEMORY_KIB: u32 = 19 * 1024;

    /// Least number of passes that [`PasswordCost::new`] takes.
    pub const MIN_PASSES: u32 = 2;

    /// A cost of `memory_kib` KiB and `passes` passes, raised to the floor if it is below. One lane.
    #[must_use]
    pub fn new(memory_kib: u32, passes: u32) -> Self {
        Self { memory_kib: memory_kib.max(Self::MIN_MEMORY_KIB), passes: passes.max(Self::MIN_PASSES) }
    }

    /// The cheapest that Argon2 allows: for tests, which hash hundreds of passwords that protect nothing.
    #[must_use]
    pub const fn insecure_for_tests() -> Self {
        Self { memory_kib: 8, passes: 1 }
    }

    pub(crate) fn memory_kib(self) -> u32 {
        self.memory_kib
    }

    pub(crate) fn passes(self) -> u32 {
        self.passes
    }
}

impl Default for PasswordCost {
    fn default() -> Self {
        Self::new(Self::MIN_MEMORY_KIB, Self::MIN_PASSES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_cost_never_falls_below_the_floor() {
        assert_eq!(PasswordCost::new(1, 1), PasswordCost::default());
        let dear = PasswordCost::new(64 * 1024, 3);
        assert_eq!((dear.memory_kib(), dear.passes()), (64 * 1024, 3));
    }
}
