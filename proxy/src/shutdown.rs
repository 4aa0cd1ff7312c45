use tokio::sync::watch;

/// Tells every part of the proxy, on every thread, that it is to drain: take no new work, finish what runs.
///
/// Cloning gives another view of the same event.
#[derive(Clone)]
pub struct Shutdown {
    requested: watch::Receiver<bool>,
}

/// The other end of a [`Shutdown`]. Dropping it requests nothing.
pub struct ShutdownHandle {
    requested: watch::Sender<bool>,
}

impl Shutdown {
    /// A shutdown that is not requested yet, and the handle that requests it.
    pub fn new() -> (ShutdownHandle, Self) {
        let (sender, requested) = watch::channel(false);
        (ShutdownHandle { requested: sender }, Self { requested })
    }

    /// Whether the drain has begun.
    pub fn is_requested(&self) -> bool {
        *self.requested.borrow()
    }

    /// Completes when the drain begins; at once if it has. Cancel-safe, and may be awaited again.
    pub async fn requested(&mut self) {
        if self.requested.wait_for(|&requested| requested).await.is_err() {
            // The handle is gone: nobody can request it any more.
            std::future::pending::<()>().await;
        }
    }
}

impl ShutdownHandle {
    /// Begins the drain. Further calls change nothing.
    pub fn request(&self) {
        self.requested.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_hears_of_it_and_it_stays_requested() {
        let (handle, mut one) = Shutdown::new();
        let mut other = one.clone();
        assert!(!one.is_requested());
        tokio::select! {
            biased;
            () = one.requested() => panic!("not requested yet"),
            () = std::future::ready(()) => {}
        }
        handle.request();
        drop(handle);
        one.requested().await;
        other.requested().await;
        assert!(other.is_requested());
    }
}
