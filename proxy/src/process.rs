//! What this process may do, and what others may do to it.

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// Keeps other processes of the same user, and core dumps, away from the crypto user's password and the sessions' secrets
/// (`PR_SET_DUMPABLE` 0, `RLIMIT_CORE` 0). To be called before there are any.
pub(crate) fn lock_down() {
    let core = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable).and(core) {
        tracing::warn!(%error, "core dumps and debuggers can't be kept away from the secrets of this process");
    }
}

/// Lets the process open as many files as its hard limit allows: the usual soft limit of 1,024 is one for programs that
/// `select(2)`. Says so if that is little for this many client connections, each of which may need one to an upstream.
pub(crate) fn raise_file_limit(connections: usize) {
    const OTHERS: u64 = 256;
    let wanted = u64::try_from(connections).unwrap_or(u64::MAX).saturating_mul(2).saturating_add(OTHERS);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    let limit = if raised { maximum } else { current };
    if let Some(limit) = limit.filter(|&limit| limit < wanted) {
        tracing::warn!(
            limit,
            "limits.connections = {connections} may need {wanted} open files; raise RLIMIT_NOFILE (systemd: LimitNOFILE)"
        );
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::dumpable_behavior;

    use super::*;

    #[test]
    fn nobody_may_look_inside() {
        lock_down();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        assert_eq!(getrlimit(Resource::Core).maximum, Some(0));
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        let few = Some(maximum.unwrap_or(4096).min(4096) - 1);
        setrlimit(Resource::Nofile, Rlimit { current: few, maximum }).unwrap();
        raise_file_limit(20_000);
        assert_eq!(getrlimit(Resource::Nofile).current, maximum);
    }
}
