//! Which processes may connect, by the credentials that the kernel vouches for.

use std::io;
use std::os::fd::AsFd;

use keycore_audit::Peer;

/// A process of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) pid: u32,
}

impl From<Process> for Peer {
    fn from(Process { uid, gid, pid }: Process) -> Self {
        Self::Local { uid, gid, pid }
    }
}

/// Whose processes may speak to the engine: root, the engine's own user, and those of `allow-uids`.
#[derive(Debug, Clone)]
pub(crate) struct PeerFilter {
    own: u32,
    allowed: Vec<u32>,
}

impl PeerFilter {
    /// A filter for an engine that runs as `own`.
    pub(crate) fn new(own: u32, allow_uids: &[u32]) -> Self {
        let mut allowed = vec![0, own];
        allowed.extend_from_slice(allow_uids);
        allowed.sort_unstable();
        allowed.dedup();
        Self { own, allowed }
    }

    /// Whether `uid` is root or the engine's own user: who could stop the engine as well.
    pub(crate) fn is_operator(&self, uid: u32) -> bool {
        uid == 0 || uid == self.own
    }

    /// Whether a process of user `uid` may connect.
    pub(crate) fn allows(&self, uid: u32) -> bool {
        self.allowed.binary_search(&uid).is_ok()
    }
}

/// Who connected: the credentials of the process at the time of its `connect` (SO_PEERCRED, unix(7)).
pub(crate) fn credentials(socket: &impl AsFd) -> io::Result<Process> {
    let credentials = rustix::net::sockopt::socket_peercred(socket)?;
    Ok(Process {
        uid: credentials.uid.as_raw(),
        gid: credentials.gid.as_raw(),
        pid: credentials.pid.as_raw_nonzero().get().unsigned_abs(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn root_the_engine_and_the_listed_may_connect_and_nobody_else() {
        let filter = PeerFilter::new(990, &[1000, 33]);
        for uid in [0, 990, 1000, 33] {
            assert!(filter.allows(uid), "{uid}");
        }
        for uid in [1, 32, 34, 989, 999, u32::MAX] {
            assert!(!filter.allows(uid), "{uid}");
        }
    }

    #[test]
    fn credentials_are_those_of_the_other_end() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = credentials(&one).unwrap();
        assert_eq!(peer.pid, std::process::id());
        assert_eq!(peer.uid, rustix::process::getuid().as_raw());
    }
}
