use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, RandomState};

use super::group::ServerGroup;
use crate::config::Balance;

/// How much more than its share a server may have in flight before hashing passes it over.
const BOUND: f64 = 1.25;

/// Chooses servers for one worker's requests.
pub(super) struct Chooser {
    /// For each server, what it is owed (smooth weighted round robin).
    owed: RefCell<Vec<f64>>,
    random: Random,
}

/// What a request brings to the choice.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wish {
    /// What the balance hashes.
    pub(super) hash: Option<u64>,
    /// The server that its cookie names.
    pub(super) stuck_to: Option<usize>,
}

/// A server that may be chosen.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    at: usize,
    weight: f64,
    hash: u64,
    in_flight: u32,
}

impl Candidate {
    /// How busy it would be with one more.
    fn load(&self) -> f64 {
        (f64::from(self.in_flight) + 1.0) / self.weight
    }
}

impl Chooser {
    pub(super) fn new(group: &ServerGroup) -> Self {
        Self { owed: RefCell::new(vec![0.0; group.members.len()]), random: Random::new() }
    }

    /// A server that was not `tried` yet: of those that are up, or, if none is, of the ejected ones; `None` if all were
    /// tried or are down, as their health checks say. `in_flight` tells what each has to do for this worker.
    pub(super) fn choose(
        &self,
        group: &ServerGroup,
        wish: Wish,
        tried: &[usize],
        in_flight: impl Fn(usize) -> u32,
    ) -> Option<usize> {
        if group.members.len() == 1 {
            let is_down = group.members[0].server.health.is_down();
            return (tried.is_empty() && !is_down).then_some(0);
        }
        let candidates = |wanted: bool| -> Vec<Candidate> {
            let members = group.members.iter().enumerate();
            let untried =
                members.filter(|(at, member)| !tried.contains(at) && !member.server.health.is_down());
            untried
                .filter(|(_, member)| member.server.health.is_up() == wanted)
                .map(|(at, member)| Candidate {
                    at,
                    weight: f64::from(member.weight) * member.server.health.share(),
                    hash: member.hash,
                    in_flight: in_flight(at),
                })
                .collect()
        };
        let mut candidates =
            Some(candidates(true)).filter(|up| !up.is_empty()).unwrap_or_else(|| candidates(false));
        if let Some(stuck_to) = wish.stuck_to
            && candidates.iter().any(|candidate| candidate.at == stuck_to)
        {
            return Some(stuck_to);
        }
        match (group.balance, wish.hash) {
            (Balance::RoundRobin, _) => self.next_in_turn(&candidates),
            (Balance::LeastConnections, _) => self.least_busy(&candidates),
            (Balance::Hash, Some(hash)) => by_hash(&mut candidates, hash),
            (Balance::PowerOfTwo | Balance::Hash, _) => self.better_of_two(candidates),
        }
    }

    /// Smooth weighted round robin, as nginx has it: A A B with weights 2 and 1 comes as A B A.
    fn next_in_turn(&self, candidates: &[Candidate]) -> Option<usize> {
        let mut owed = self.owed.borrow_mut();
        let total: f64 = candidates.iter().map(|candidate| candidate.weight).sum();
        candidates.iter().for_each(|candidate| owed[candidate.at] += candidate.weight);
        // The first of the largest.
        let next = candidates.iter().rev().max_by(|a, b| owed[a.at].total_cmp(&owed[b.at]))?;
        owed[next.at] -= total;
        Some(next.at)
    }

    /// The least busy one; among equals each has its turn.
    fn least_busy(&self, candidates: &[Candidate]) -> Option<usize> {
        let least = candidates.iter().map(Candidate::load).min_by(f64::total_cmp)?;
        let equals: Vec<_> =
            candidates.iter().filter(|candidate| candidate.load() <= least).copied().collect();
        self.next_in_turn(&equals)
    }

    fn better_of_two(&self, mut candidates: Vec<Candidate>) -> Option<usize> {
        let first = candidates.swap_remove(self.draw(&candidates)?);
        let second = self.draw(&candidates).map(|at| candidates[at]);
        Some(second.filter(|second| second.load() < first.load()).unwrap_or(first).at)
    }

    /// A place in `candidates`, by weight.
    fn draw(&self, candidates: &[Candidate]) -> Option<usize> {
        let total: f64 = candidates.iter().map(|candidate| candidate.weight).sum();
        let mut rest = self.random.fraction() * total;
        for (place, candidate) in candidates.iter().enumerate() {
            rest -= candidate.weight;
            if rest < 0.0 {
                return Some(place);
            }
        }
        candidates.len().checked_sub(1)
    }
}

/// Rendezvous hashing: when a server goes, only what was its goes elsewhere. One that has much more than its share to do
/// is passed over.
fn by_hash(candidates: &mut [Candidate], hash: u64) -> Option<usize> {
    // Weighted as in Schindelhauer and Schomaker's logarithmic method.
    let score = |candidate: &Candidate| -candidate.weight / fraction(mix(hash ^ candidate.hash)).ln();
    candidates.sort_by(|a, b| score(b).total_cmp(&score(a)));
    let in_flight: f64 = candidates.iter().map(|candidate| f64::from(candidate.in_flight)).sum();
    let weights: f64 = candidates.iter().map(|candidate| candidate.weight).sum();
    let has_room = |candidate: &&Candidate| {
        let share = (in_flight + 1.0) * candidate.weight / weights;
        f64::from(candidate.in_flight) < (BOUND * share).ceil()
    };
    candidates.iter().find(has_room).or(candidates.first()).map(|candidate| candidate.at)
}

/// Not for secrets: it only spreads load.
struct Random(Cell<u64>);

impl Random {
    fn new() -> Self {
        Self(Cell::new(RandomState::new().hash_one(0)))
    }

    fn fraction(&self) -> f64 {
        // SplitMix64.
        let next = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(next);
        fraction(mix(next))
    }
}

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// More than 0 and less than 1.
fn fraction(bits: u64) -> f64 {
    let high = u32::try_from(bits >> 32).unwrap_or(u32::MAX);
    (f64::from(high) + 0.5) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests;
