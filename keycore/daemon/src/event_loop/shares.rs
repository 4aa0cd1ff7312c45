//! What each party may do in one round.

use std::collections::HashMap;

use crate::party::Party;

/// Frames in a round, at most: about as many signatures as there is time for in ten milliseconds.
const ROUND: usize = 512;
/// Frames of one party while another has something to do, too.
const CONTESTED: usize = 64;
/// Frames in one turn of a connection.
const BURST: usize = 32;

/// Divides a round between the parties, and a party's share between its connections. So whoever opens a thousand
/// connections makes the round no longer, and gets no more of it than who has two.
#[derive(Debug, Default)]
pub(super) struct Shares {
    parties: HashMap<Party, Share>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Share {
    connections: usize,
    turns: usize,
    burst: usize,
}

impl Shares {
    /// Divides a round in which a connection of each of `ready` wants a turn.
    pub(super) fn divide(&mut self, ready: impl Iterator<Item = Party>) {
        self.parties.clear();
        for party in ready {
            self.parties.entry(party).or_default().connections += 1;
        }
        let parties = self.parties.len().max(1);
        let frames = if parties == 1 { ROUND } else { (ROUND / parties).clamp(1, CONTESTED) };
        for share in self.parties.values_mut() {
            share.turns = share.connections.min(frames);
            share.burst = (frames / share.turns).clamp(1, BURST);
        }
    }

    /// Frames that the next connection of `party` may send; none if the party has had its share of this round.
    pub(super) fn take(&mut self, party: Party) -> Option<usize> {
        let share = self.parties.get_mut(&party)?;
        share.turns = share.turns.checked_sub(1)?;
        Some(share.burst)
    }
}

#[cfg(test)]
mod tests {
    use keycore_wire::UserId;

    use super::*;

    const ALICE: Party = Party::User(UserId([1; 16]));
    const BOB: Party = Party::User(UserId([2; 16]));

    /// Turns and frames in each that a party gets in a round with so many ready connections of each.
    fn round(ready: &[(Party, usize)]) -> Vec<(usize, usize)> {
        let mut shares = Shares::default();
        shares.divide(ready.iter().flat_map(|&(party, count)| std::iter::repeat_n(party, count)));
        ready
            .iter()
            .map(|&(party, count)| {
                let bursts: Vec<_> = (0..count).map_while(|_| shares.take(party)).collect();
                (bursts.len(), bursts.first().copied().unwrap_or(0))
            })
            .collect()
    }

    #[test]
    fn a_round_is_bounded_however_many_take_part() {
        for (connections, turns, burst) in
            [(1, 1, 32), (16, 16, 32), (17, 17, 30), (64, 64, 8), (512, 512, 1), (1024, 512, 1)]
        {
            assert_eq!(round(&[(ALICE, connections)]), [(turns, burst)], "{connections} connections");
        }
    }

    #[test]
    fn a_thousand_connections_of_one_get_no_more_than_two_of_another() {
        assert_eq!(round(&[(ALICE, 1000), (BOB, 1)]), [(64, 1), (1, 32)]);
        assert_eq!(round(&[(ALICE, 1000), (BOB, 2)]), [(64, 1), (2, 32)]);
        assert_eq!(round(&[(ALICE, 4), (Party::Local(33), 4)]), [(4, 16), (4, 16)]);
    }

    #[test]
    fn with_many_parties_the_round_stays_bounded_and_each_has_a_turn() {
        let parties: Vec<_> = (0..600).map(|uid| (Party::Local(uid), 1)).collect();
        assert!(round(&parties).iter().all(|&turn| turn == (1, 1)));
        let parties: Vec<_> = (0..16).map(|uid| (Party::Local(uid), 100)).collect();
        assert!(round(&parties).iter().all(|&turn| turn == (32, 1)));
    }

    #[test]
    fn who_was_not_there_when_the_round_was_divided_waits_for_the_next() {
        let mut shares = Shares::default();
        shares.divide([ALICE].into_iter());
        assert_eq!(shares.take(BOB), None);
    }
}
