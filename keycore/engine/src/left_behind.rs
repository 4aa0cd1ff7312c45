//! Engines that can't learn any more what their cluster changes.
//!
//! Such an engine would go on with the users and keys that it happens to know: deleted ones would sign, for good. So it does
//! nothing more, from the moment that it notices.

use keycore_wire::{RefusalCode, Request};

use crate::cluster::UnsealError;
use crate::denial::Denial;
use crate::engine::Engine;
use crate::error::FollowError;

/// Why an engine will never follow again in the life of its process.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeftBehind {
    /// What unseals the cluster was changed, and the time to hand the new key over passed while the engine stood still. A process that
    /// is started anew opens the cluster with the new secret, or waits for shares.
    #[error("what unseals the cluster was changed while this engine did not follow")]
    MethodChanged,
    /// The store's record of the cluster key is older than what the engine has. A process that is started anew takes what there is, so
    /// whether to do that is for a person to decide.
    #[error("{0}")]
    PutBack(String),
}

impl Engine {
    /// Why this engine does nothing more until its process is started anew, if it was left behind; until then it refuses
    /// everything but hellos and pings.
    pub fn left_behind(&self) -> Option<&LeftBehind> {
        self.left_behind.get()
    }

    /// Looks at why the engine could not follow.
    pub(crate) fn note_unfollowed(&self, error: &FollowError) {
        // Who opens a cluster for the first time is behind nothing.
        if self.sealing.get().is_none() {
            return;
        }
        let why = match error {
            // The one that it knew is gone.
            FollowError::Unseal(UnsealError::AnotherCluster) => return self.forget_everything(),
            FollowError::Unseal(UnsealError::MethodChanged) => LeftBehind::MethodChanged,
            FollowError::ClusterKeyPutBack { .. } => LeftBehind::PutBack(error.to_string()),
            _ => return,
        };
        let _the_first_reason_stays = self.left_behind.set(why);
        self.take_identity(None);
    }

    /// Refuses what an engine can't do that knows only how its cluster was.
    pub(crate) fn check_not_left_behind(&self, request: &Request<'_>) -> Result<(), Denial> {
        match self.left_behind() {
            Some(why) if !matches!(request, Request::Hello(_) | Request::Ping(_)) => {
                let detail = "this engine can't follow its cluster any more and does nothing until it is started anew; ask another one";
                Err(Denial::new(RefusalCode::ShuttingDown, detail).because(why.to_string()))
            }
            _ => Ok(()),
        }
    }
}
