//! What an operation does, in the words that approvers read and sign. Two requests with the same words are the same to them:
//! secrets and idempotency keys are left out, every other argument is in.

use keycore_wire::Request;

/// The operation and its arguments, a line each.
pub(super) fn of(request: &Request<'_>) -> String {
    let mut lines = Lines(format!("operation: {}\n", request.name()));
    match request {
        Request::UserCreate(create) => lines
            .say("name", &create.name)
            .say("role", create.role)
            .say("password", if create.password.is_some() { "set by the proposer" } else { "none" })
            .say("peer-uid", create.peer_uid.map_or("none".to_owned(), |uid| uid.to_string())),
        Request::UserDelete(delete) => lines.say("name", &delete.name),
        Request::UserChangePassword(change) => {
            lines.say("name", change.name.as_ref().map_or("the proposer", |name| name.as_str()))
        }
        Request::UserSetPeerUid(set) => lines
            .say("name", &set.name)
            .say("peer-uid", set.peer_uid.map_or("none".to_owned(), |uid| uid.to_string())),
        Request::UserRemoveKey(remove) => lines.say("name", &remove.name).say("key", remove.purpose.name()),
        Request::QuorumSetValue(set) => lines.say("service", set.service).say("approvals", set.value),
        Request::QuorumSetPolicy(set) => {
            let kept = || "as it is".to_owned();
            lines
                .say("timeout", set.timeout_secs.map_or_else(kept, |secs| format!("{secs} seconds")))
                .say("self-approval", set.self_approval.map_or_else(kept, |on| on.to_string()))
        }
        // `Debug` shows every argument but secrets. One with an idempotency key would never be found again: safe, and
        // noticed at once.
        other => lines.say("arguments", format!("{other:?}")),
    };
    lines.0
}

struct Lines(String);

impl Lines {
    fn say(&mut self, name: &str, value: impl core::fmt::Display) -> &mut Self {
        self.0.push_str(&format!("{name}: {value}\n"));
        self
    }
}
