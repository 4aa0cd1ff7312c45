//! A queue that serves connections in turn.

use std::collections::{HashMap, VecDeque};

use super::Task;
use crate::connection::ConnectionId;

/// First in, first out within a connection; one from each in turn between connections. So whoever queues a hundred
/// jobs delays another's one job by a single job of his.
#[derive(Debug)]
pub(super) struct FairQueue<J> {
    waiting: HashMap<ConnectionId, VecDeque<Task<J>>>,
    /// Each connection with something waiting, once.
    rotation: VecDeque<ConnectionId>,
    length: usize,
}

impl<J> FairQueue<J> {
    pub(super) fn new() -> Self {
        Self { waiting: HashMap::new(), rotation: VecDeque::new(), length: 0 }
    }

    /// Tasks waiting.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Tasks of one connection that are waiting.
    pub(super) fn waiting_of(&self, connection: ConnectionId) -> usize {
        self.waiting.get(&connection).map_or(0, VecDeque::len)
    }

    pub(super) fn push(&mut self, task: Task<J>) {
        let connection = task.connection;
        let tasks = self.waiting.entry(connection).or_default();
        if tasks.is_empty() {
            self.rotation.push_back(connection);
        }
        tasks.push_back(task);
        self.length += 1;
    }

    pub(super) fn pop(&mut self) -> Option<Task<J>> {
        let connection = self.rotation.pop_front()?;
        let tasks = self.waiting.get_mut(&connection)?;
        let task = tasks.pop_front()?;
        if tasks.is_empty() {
            self.waiting.remove(&connection);
        } else {
            self.rotation.push_back(connection);
        }
        self.length -= 1;
        Some(task)
    }

    /// Takes out everything of one connection.
    pub(super) fn remove(&mut self, connection: ConnectionId) -> VecDeque<Task<J>> {
        let Some(tasks) = self.waiting.remove(&connection) else { return VecDeque::new() };
        self.rotation.retain(|&other| other != connection);
        self.length -= tasks.len();
        tasks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(connection: usize, job: u32) -> Task<u32> {
        Task {
            connection: ConnectionId { slot: connection, serial: 0 },
            request: job,
            heavy: false,
            brief: false,
            job,
        }
    }

    fn drain(queue: &mut FairQueue<u32>) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop()).map(|task| task.job).collect()
    }

    #[test]
    fn a_flood_delays_the_others_by_one_job_each() {
        let mut queue = FairQueue::new();
        for job in 0..5 {
            queue.push(task(1, job));
        }
        queue.push(task(2, 20));
        queue.push(task(3, 30));
        queue.push(task(2, 21));
        assert_eq!(drain(&mut queue), [0, 20, 30, 1, 21, 2, 3, 4]);
    }

    #[test]
    fn removing_a_connection_frees_its_places_and_leaves_the_others() {
        let mut queue = FairQueue::new();
        for (connection, job) in [(1, 0), (2, 1), (1, 2)] {
            queue.push(task(connection, job));
        }
        assert_eq!(queue.remove(ConnectionId { slot: 1, serial: 0 }).len(), 2);
        assert!(queue.remove(ConnectionId { slot: 1, serial: 1 }).is_empty());
        assert_eq!(queue.len(), 1);
        queue.push(task(3, 3));
        assert_eq!(drain(&mut queue), [1, 3]);
        assert_eq!(queue.len(), 0);
    }
}
