//! A queue that serves parties in turn.

use std::collections::{HashMap, VecDeque};

use super::Task;
use crate::connection::ConnectionId;
use crate::party::Party;

/// One job of each party in turn, whatever number of connections it has; of a party's connections, one of each in
/// turn; of a connection, first in, first out. So whoever queues a hundred jobs on a hundred connections delays
/// another's one job by a single job of his.
#[derive(Debug)]
pub(super) struct FairQueue<J> {
    waiting: HashMap<Party, Lines<J>>,
    /// Each party with something waiting, once.
    rotation: VecDeque<Party>,
    length: usize,
}

/// What one party has waiting.
#[derive(Debug)]
struct Lines<J> {
    of: HashMap<ConnectionId, VecDeque<Task<J>>>,
    /// Each of its connections with something waiting, once.
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

    /// Tasks of one party that are waiting.
    pub(super) fn waiting_of(&self, party: Party) -> usize {
        self.waiting.get(&party).map_or(0, |lines| lines.length)
    }

    pub(super) fn push(&mut self, task: Task<J>) {
        let party = task.party;
        let lines = self.waiting.entry(party).or_insert_with(Lines::new);
        if lines.length == 0 {
            self.rotation.push_back(party);
        }
        lines.push(task);
        self.length += 1;
    }

    pub(super) fn pop(&mut self) -> Option<Task<J>> {
        let party = self.rotation.pop_front()?;
        let lines = self.waiting.get_mut(&party)?;
        let task = lines.pop()?;
        if lines.length == 0 {
            self.waiting.remove(&party);
        } else {
            self.rotation.push_back(party);
        }
        self.length -= 1;
        Some(task)
    }

    /// Takes out everything of one connection, whoever was logged in on it at the time.
    pub(super) fn remove(&mut self, connection: ConnectionId) -> Vec<Task<J>> {
        let mut removed = Vec::new();
        self.waiting.retain(|_party, lines| {
            removed.extend(lines.remove(connection));
            lines.length > 0
        });
        if !removed.is_empty() {
            self.rotation.retain(|party| self.waiting.contains_key(party));
            self.length -= removed.len();
        }
        removed
    }
}

impl<J> Lines<J> {
    fn new() -> Self {
        Self { of: HashMap::new(), rotation: VecDeque::new(), length: 0 }
    }

    fn push(&mut self, task: Task<J>) {
        let connection = task.connection;
        let tasks = self.of.entry(connection).or_default();
        if tasks.is_empty() {
            self.rotation.push_back(connection);
        }
        tasks.push_back(task);
        self.length += 1;
    }

    fn pop(&mut self) -> Option<Task<J>> {
        let connection = self.rotation.pop_front()?;
        let tasks = self.of.get_mut(&connection)?;
        let task = tasks.pop_front()?;
        if tasks.is_empty() {
            self.of.remove(&connection);
        } else {
            self.rotation.push_back(connection);
        }
        self.length -= 1;
        Some(task)
    }

    fn remove(&mut self, connection: ConnectionId) -> VecDeque<Task<J>> {
        let Some(tasks) = self.of.remove(&connection) else { return VecDeque::new() };
        self.rotation.retain(|&other| other != connection);
        self.length -= tasks.len();
        tasks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Party = Party::Local(1);
    const TWO: Party = Party::Local(2);

    fn task(party: Party, connection: usize, job: u32) -> Task<u32> {
        Task {
            connection: ConnectionId { slot: connection, serial: 0 },
            party,
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
    fn a_flood_on_many_connections_delays_another_by_one_job_each() {
        let mut queue = FairQueue::new();
        for job in 0..100 {
            queue.push(task(ONE, 1000 + job as usize, job));
        }
        queue.push(task(TWO, 2, 200));
        queue.push(task(TWO, 2, 201));
        assert_eq!(queue.waiting_of(ONE), 100);
        assert_eq!(drain(&mut queue)[..5], [0, 200, 1, 201, 2]);
    }

    #[test]
    fn of_one_party_the_connections_take_turns() {
        let mut queue = FairQueue::new();
        for (connection, job) in [(1, 0), (1, 1), (1, 2), (2, 20), (3, 30), (2, 21)] {
            queue.push(task(ONE, connection, job));
        }
        assert_eq!(drain(&mut queue), [0, 20, 30, 1, 21, 2]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn removing_a_connection_frees_its_places_and_leaves_the_others() {
        let mut queue = FairQueue::new();
        // The first connection logged in between its two jobs.
        for (party, connection, job) in [(ONE, 1, 0), (TWO, 2, 1), (TWO, 1, 2), (ONE, 4, 4)] {
            queue.push(task(party, connection, job));
        }
        assert_eq!(queue.remove(ConnectionId { slot: 1, serial: 0 }).len(), 2);
        assert!(queue.remove(ConnectionId { slot: 1, serial: 1 }).is_empty());
        assert_eq!((queue.len(), queue.waiting_of(ONE), queue.waiting_of(TWO)), (2, 1, 1));
        queue.push(task(ONE, 3, 3));
        assert_eq!(drain(&mut queue), [4, 1, 3]);
        assert_eq!(queue.len(), 0);
    }
}
