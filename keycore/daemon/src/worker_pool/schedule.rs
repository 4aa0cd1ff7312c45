//! Which job a free thread takes.

use std::num::NonZeroUsize;

use super::Task;
use super::fair_queue::FairQueue;
use crate::connection::ConnectionId;

/// Two queues, bounded together. Heavy jobs take every thread but one (of a single one, all), so that a storm of logins
/// never stops signatures; a thread that may take either kind alternates, so that signatures never stop logins.
///
/// Room is shared by dynamic thresholds (Choudhury and Hahne, 1998): no party may have more jobs waiting than
/// there is room left. So one fills half of the queue at most, two fill two thirds, and a newcomer finds a place.
#[derive(Debug)]
pub(super) struct Schedule<J> {
    light: FairQueue<J>,
    heavy: FairQueue<J>,
    heavy_running: usize,
    heavy_limit: usize,
    heavy_next: bool,
    capacity: usize,
}

impl<J> Schedule<J> {
    /// For so many threads and at most so many waiting jobs.
    pub(super) fn new(threads: NonZeroUsize, capacity: NonZeroUsize) -> Self {
        Self {
            light: FairQueue::new(),
            heavy: FairQueue::new(),
            heavy_running: 0,
            heavy_limit: (threads.get() - 1).max(1),
            heavy_next: false,
            capacity: capacity.get(),
        }
    }

    /// Gives the task back if there is no room for more of its party.
    pub(super) fn push(&mut self, task: Task<J>) -> Result<(), Task<J>> {
        let room = self.capacity - self.len();
        let own = self.light.waiting_of(task.party) + self.heavy.waiting_of(task.party);
        if own >= room {
            return Err(task);
        }
        if task.heavy {
            self.heavy.push(task);
        } else {
            self.light.push(task);
        }
        Ok(())
    }

    /// The next task for a free thread, which reports its end to [`Schedule::ended`].
    pub(super) fn pop(&mut self) -> Option<Task<J>> {
        let heavy_allowed = self.heavy_running < self.heavy_limit && self.heavy.len() > 0;
        let take_heavy = heavy_allowed && (self.heavy_next || self.light.len() == 0);
        let task = if take_heavy { self.heavy.pop() } else { self.light.pop() }?;
        self.heavy_running += usize::from(task.heavy);
        self.heavy_next = !task.heavy;
        Some(task)
    }

    /// Tasks waiting.
    pub(super) fn len(&self) -> usize {
        self.light.len() + self.heavy.len()
    }

    /// A task that was popped has run.
    pub(super) fn ended(&mut self, heavy: bool) {
        self.heavy_running -= usize::from(heavy);
    }

    /// Takes out everything of one connection.
    pub(super) fn remove(&mut self, connection: ConnectionId) -> Vec<Task<J>> {
        self.light.remove(connection).into_iter().chain(self.heavy.remove(connection)).collect()
    }

    /// Takes out everything.
    pub(super) fn clear(&mut self) -> [FairQueue<J>; 2] {
        [&mut self.light, &mut self.heavy].map(|queue| std::mem::replace(queue, FairQueue::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::party::Party;

    fn schedule(threads: usize, capacity: usize) -> Schedule<()> {
        Schedule::new(NonZeroUsize::new(threads).unwrap(), NonZeroUsize::new(capacity).unwrap())
    }

    fn task(request: u32, heavy: bool) -> Task<()> {
        task_of(0, request, heavy)
    }

    /// Each task on a connection of its own.
    fn task_of(uid: u32, request: u32, heavy: bool) -> Task<()> {
        Task {
            connection: ConnectionId { slot: request as usize, serial: u64::from(uid) },
            party: Party::Local(uid),
            request,
            heavy,
            brief: !heavy,
            job: (),
        }
    }

    #[test]
    fn heavy_jobs_leave_a_thread_to_the_light_ones() {
        let mut schedule = schedule(3, 10);
        for request in 0..3 {
            schedule.push(task(request, true)).unwrap();
        }
        assert_eq!(schedule.pop().unwrap().request, 0);
        assert_eq!(schedule.pop().unwrap().request, 1);
        assert!(schedule.pop().is_none(), "the third thread waits for a light job");
        schedule.push(task(9, false)).unwrap();
        assert_eq!(schedule.pop().unwrap().request, 9);
        schedule.ended(true);
        assert_eq!(schedule.pop().unwrap().request, 2);
    }

    #[test]
    fn a_single_thread_alternates() {
        let mut schedule = schedule(1, 12);
        for request in 0..3 {
            schedule.push(task(request, false)).unwrap();
            schedule.push(task(10 + request, true)).unwrap();
        }
        let order: Vec<_> = std::iter::from_fn(|| {
            let task = schedule.pop()?;
            schedule.ended(task.heavy);
            Some(task.request)
        })
        .collect();
        assert_eq!(order, [0, 10, 1, 11, 2, 12]);
    }

    #[test]
    fn gives_back_what_does_not_fit_and_takes_again_when_there_is_room() {
        let mut schedule = schedule(1, 2);
        schedule.push(task_of(0, 0, true)).unwrap();
        schedule.push(task_of(1, 1, false)).unwrap();
        assert_eq!(schedule.push(task_of(2, 2, false)).unwrap_err().request, 2);
        assert_eq!(schedule.pop().unwrap().request, 1);
        schedule.push(task_of(3, 3, false)).unwrap();
        assert!(schedule.push(task_of(4, 4, false)).is_err());
    }

    #[test]
    fn floods_leave_a_place_to_a_newcomer() {
        let mut schedule = schedule(2, 100);
        for (flood, fills) in [(0, 50), (1, 25), (2, 13), (3, 6)] {
            let taken = (0..1000).filter(|&request| schedule.push(task_of(flood, request, true)).is_ok());
            assert_eq!(taken.count(), fills, "party {flood}");
        }
        schedule.push(task_of(4, 0, false)).unwrap();
        // Whoever has many waiting gets no more, not even of the other kind.
        assert!(schedule.push(task_of(0, 0, false)).is_err());
    }
}
