//! Between whom the engine is fair.

use std::net::IpAddr;

use keycore_engine::{Peer, network_of};
use keycore_wire::UserId;

/// Whose work it is: all connections of one share one turn, so that opening more of them gets nobody more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Party {
    /// Whoever is logged in.
    User(UserId),
    /// Nobody yet: the processes of one local user.
    Local(u32),
    /// Nobody yet: the clients of one network.
    Remote(IpAddr),
}

impl Party {
    /// To whom the work of a connection counts.
    pub(crate) fn of(connection: &keycore_engine::Connection) -> Self {
        match (connection.user(), connection.peer()) {
            (Some(user), _) => Self::User(user),
            (None, Peer::Local { uid, .. }) => Self::Local(uid),
            (None, Peer::Remote { address, .. }) => Self::Remote(network_of(address.ip())),
        }
    }
}
