use std::sync::atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// Room for so many of something in the whole process; a reload may change how many.
#[derive(Clone)]
pub(crate) struct Capacity {
    room: Arc<Semaphore>,
    /// Permits that are out and are not to come back.
    surplus: Arc<AtomicUsize>,
    /// What it is now, or will be when the surplus is gone. Held while it changes.
    size: Arc<Mutex<usize>>,
}

impl Capacity {
    pub(crate) fn new(size: usize) -> Self {
        let room = Arc::new(Semaphore::new(size));
        Self { room, surplus: Arc::default(), size: Arc::new(Mutex::new(size)) }
    }

    /// Room for one, without waiting.
    pub(crate) fn try_acquire(&self) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        loop {
            let permit = Arc::clone(&self.room).try_acquire_owned()?;
            if !self.is_surplus() {
                return Ok(permit);
            }
            permit.forget();
        }
    }

    /// Room for one, as soon as there is.
    pub(crate) async fn acquire(&self) -> Result<OwnedSemaphorePermit, AcquireError> {
        loop {
            let permit = Arc::clone(&self.room).acquire_owned().await?;
            if !self.is_surplus() {
                return Ok(permit);
            }
            permit.forget();
        }
    }

    /// Makes it `wanted`. Those who have room already keep it: a smaller capacity takes effect as they leave.
    pub(crate) fn resize(&self, wanted: usize) {
        // A number only: a panic leaves nothing half done.
        let mut size = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted >= *size {
            let more = wanted - *size;
            let owed =
                self.surplus.fetch_update(AcqRel, Acquire, |surplus| Some(surplus.saturating_sub(more)));
            self.room.add_permits(more.saturating_sub(owed.unwrap_or_default()));
        } else {
            let less = *size - wanted;
            self.surplus.fetch_add(less - self.room.forget_permits(less), AcqRel);
        }
        *size = wanted;
    }

    fn is_surplus(&self) -> bool {
        self.surplus.load(Relaxed) > 0
            && self.surplus.fetch_update(AcqRel, Acquire, |surplus| surplus.checked_sub(1)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(capacity: &Capacity) -> Vec<OwnedSemaphorePermit> {
        std::iter::from_fn(|| capacity.try_acquire().ok()).collect()
    }

    #[test]
    fn a_smaller_capacity_takes_effect_as_its_users_leave() {
        let capacity = Capacity::new(4);
        let mut taken = take_all(&capacity);
        assert_eq!(taken.len(), 4);
        capacity.resize(2);
        for left in [3, 2] {
            taken.pop();
            assert!(capacity.try_acquire().is_err(), "{left} are still there");
        }
        taken.pop();
        assert!(capacity.try_acquire().is_ok());
        drop(taken);
        assert_eq!(take_all(&capacity).len(), 2);
    }

    #[tokio::test]
    async fn a_larger_one_lets_in_those_who_wait_but_for_what_was_owed() {
        let capacity = Capacity::new(3);
        let taken = take_all(&capacity);
        capacity.resize(1);
        capacity.resize(4);
        let more = capacity.acquire().await.unwrap();
        assert!(capacity.try_acquire().is_err(), "three from before, and one");
        drop((taken, more));
        assert_eq!(take_all(&capacity).len(), 4);
    }
}
