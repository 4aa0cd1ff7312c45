//! Between whom the engine is fair.

use keycore_wire::UserId;

/// Whose work it is: all connections of one share one turn, so that opening more of them gets nobody more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Party {
    /// Whoever is logged in.
    User(UserId),
    /// Nobody yet: the processes of one local user.
    Local(u32),
}

impl Party {
    /// To whom the work of a connection counts.
    pub(crate) fn of(connection: &keycore_engine::Connection) -> Self {
        connection.user().map_or(Self::Local(connection.peer().uid), Self::User)
    }
}
