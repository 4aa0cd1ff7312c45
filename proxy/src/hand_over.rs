use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::sync::Notify;

/// Lets nothing that a worker collects wait for more of it for longer than `delay`: flushes so long after each `first`. Ends with
/// the collection, whose end is to notify `first`, too. To be spawned inside a `LocalSet`.
pub(crate) async fn hand_over_soon<T>(
    collected: Weak<T>,
    first: Rc<Notify>,
    delay: Duration,
    flush: impl Fn(&T),
) {
    loop {
        first.notified().await;
        tokio::time::sleep(delay).await;
        let Some(collected) = collected.upgrade() else { return };
        flush(&collected);
    }
}
