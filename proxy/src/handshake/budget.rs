//! How many full handshakes a worker computes and has signed at once, and whose turn it is.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::config::Limits;
use crate::metrics::{Metrics, Waiting};

/// The full handshakes of one worker, which has its share of the process's: nothing is shared with others, so nothing is
/// locked.
///
/// A handshake takes a place before its key exchange and leaves it with its signature. While there are places, nobody
/// waits. Then those of a site wait in a queue of its own, first come, first served, and sites take turns: a flood at one makes
/// another's handshake wait for one of each site, and for no more. No site has all places.
pub(crate) struct SigningBudget {
    places: Rc<RefCell<Places>>,
    workers: usize,
    metrics: Arc<Metrics>,
}

/// How many places there are in the process, and for one site, and how many of its handshakes may wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    places: usize,
    of_a_site: usize,
    waiting: usize,
}

impl From<&Limits> for Sizes {
    fn from(limits: &Limits) -> Self {
        Self {
            places: limits.signatures,
            of_a_site: limits.signatures_per_site,
            waiting: limits.signature_queue,
        }
    }
}

/// A place; dropping it lets the next one in.
pub(super) struct Place {
    places: Rc<RefCell<Places>>,
    site: Arc<str>,
}

/// The site has as many handshakes waiting as it may.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct QueueIsFull;

#[derive(Default)]
struct Places {
    most: usize,
    most_of_a_site: usize,
    taken: usize,
    /// Those with a place taken, or somebody waiting.
    sites: HashMap<Arc<str>, OfSite>,
    /// Sites for which somebody waits, or waited, each once; the first is next.
    turns: VecDeque<Arc<str>>,
}

#[derive(Default)]
struct OfSite {
    taken: usize,
    waiting: VecDeque<oneshot::Sender<Place>>,
    /// Whether the site is among [`Places::turns`].
    has_turn: bool,
}

impl SigningBudget {
    /// A worker's part, one of so many.
    pub(crate) fn new(workers: usize, metrics: Arc<Metrics>) -> Self {
        Self { places: Rc::default(), workers, metrics }
    }

    /// A place for a handshake of this site, as soon as there is one.
    pub(super) async fn enter(&self, site: &str, sizes: Sizes) -> Result<Place, QueueIsFull> {
        let turn = {
            let mut places = self.places.borrow_mut();
            places.resize(self.share(sizes.places), self.share(sizes.of_a_site));
            let site = places.name(site);
            if places.has_room_for(&site) {
                return Ok(places.take(&self.places, site));
            }
            places.queue(site, self.share(sizes.waiting))?
        };
        let _waiting = Waiting::begin(&self.metrics.signing_queue);
        // A waiter's sender is dropped only with the whole budget.
        turn.await.map_err(|_| QueueIsFull)
    }

    /// A place if there is one now.
    pub(super) fn try_enter(&self, site: &str) -> Option<Place> {
        let mut places = self.places.borrow_mut();
        let site = places.name(site);
        places.has_room_for(&site).then(|| places.take(&self.places, site))
    }

    fn share(&self, of_process: usize) -> usize {
        of_process.div_ceil(self.workers.max(1))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.borrow_mut().leave(&self.site);
        loop {
            let Some((waiter, site)) = self.places.borrow_mut().next() else { return };
            let place = self.places.borrow_mut().take(&self.places, site);
            // Whoever waits is a task of this thread, and was there just now.
            let _ = waiter.send(place);
        }
    }
}

impl Places {
    /// More places than before are given out when somebody leaves.
    fn resize(&mut self, most: usize, most_of_a_site: usize) {
        (self.most, self.most_of_a_site) = (most, most_of_a_site);
    }

    fn name(&self, site: &str) -> Arc<str> {
        self.sites.get_key_value(site).map_or_else(|| site.into(), |(name, _)| Arc::clone(name))
    }

    /// While there are places, others wait only if their site has no more.
    fn has_room_for(&self, site: &str) -> bool {
        let of_site = self.sites.get(site);
        self.taken < self.most
            && of_site.is_none_or(|of| of.taken < self.most_of_a_site && of.waiting.is_empty())
    }

    fn take(&mut self, this: &Rc<RefCell<Self>>, site: Arc<str>) -> Place {
        self.taken += 1;
        self.sites.entry(Arc::clone(&site)).or_default().taken += 1;
        Place { places: Rc::clone(this), site }
    }

    fn leave(&mut self, site: &str) {
        self.taken -= 1;
        if let Some(of_site) = self.sites.get_mut(site) {
            of_site.taken -= 1;
            if of_site.taken == 0 && !of_site.has_turn {
                self.sites.remove(site);
            }
        }
    }

    fn queue(&mut self, site: Arc<str>, most: usize) -> Result<oneshot::Receiver<Place>, QueueIsFull> {
        let of_site = self.sites.entry(Arc::clone(&site)).or_default();
        if of_site.waiting.len() >= most {
            // Those who gave up don't count.
            of_site.waiting.retain(|waiter| !waiter.is_closed());
        }
        if of_site.waiting.len() >= most {
            return Err(QueueIsFull);
        }
        let (waiter, turn) = oneshot::channel();
        of_site.waiting.push_back(waiter);
        if !of_site.has_turn {
            of_site.has_turn = true;
            self.turns.push_back(site);
        }
        Ok(turn)
    }

    /// Who gets the next place, if there is one and somebody who may have it.
    fn next(&mut self) -> Option<(oneshot::Sender<Place>, Arc<str>)> {
        if self.taken >= self.most {
            return None;
        }
        for _ in 0..self.turns.len() {
            let site = self.turns.pop_front()?;
            let of_site = self.sites.get_mut(&site)?;
            while of_site.waiting.front().is_some_and(oneshot::Sender::is_closed) {
                of_site.waiting.pop_front();
            }
            if of_site.waiting.is_empty() {
                of_site.has_turn = false;
                if of_site.taken == 0 {
                    self.sites.remove(&site);
                }
                continue;
            }
            self.turns.push_back(Arc::clone(&site));
            if of_site.taken < self.most_of_a_site {
                return of_site.waiting.pop_front().map(|waiter| (waiter, site));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn sizes(places: usize, of_a_site: usize, waiting: usize) -> Sizes {
        Sizes { places, of_a_site, waiting }
    }

    type Entering<'a> = Pin<Box<dyn Future<Output = Result<Place, QueueIsFull>> + 'a>>;

    /// What it comes to now, if it does.
    fn poll(entering: &mut Entering<'_>) -> Option<Result<Place, QueueIsFull>> {
        match entering.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(entered) => Some(entered),
            Poll::Pending => None,
        }
    }

    /// Someone who has asked for a place; the place if there was one at once.
    fn ask<'a>(
        budget: &'a SigningBudget,
        site: &'a str,
        sizes: Sizes,
    ) -> Result<Result<Place, QueueIsFull>, Entering<'a>> {
        let mut entering: Entering<'a> = Box::pin(budget.enter(site, sizes));
        match poll(&mut entering) {
            Some(entered) => Ok(entered),
            None => Err(entering),
        }
    }

    fn budget(workers: usize) -> SigningBudget {
        SigningBudget::new(workers, Arc::default())
    }

    #[test]
    fn a_site_gets_its_share_and_no_more() {
        let (budget, sizes) = (budget(2), sizes(8, 6, 4));
        let places: Vec<_> = (0..3).map(|_| ask(&budget, "a", sizes).ok().unwrap().unwrap()).collect();
        assert!(budget.try_enter("a").is_none(), "half of the process's six are this worker's");
        let other = ask(&budget, "b", sizes).ok().unwrap().unwrap();
        assert!(budget.try_enter("c").is_none(), "four in all");
        drop(other);
        assert!(budget.try_enter("c").is_some());
        drop(places);
        assert!(budget.places.borrow().sites.is_empty(), "nothing is left behind");
    }

    #[test]
    fn sites_take_turns_however_many_wait_for_one_of_them() {
        let (budget, sizes) = (budget(1), sizes(1, 1, 100));
        let mut running = ask(&budget, "flooded", sizes).ok().unwrap().unwrap();
        let mut flood: VecDeque<_> = (0..50).map(|_| ask(&budget, "flooded", sizes).err().unwrap()).collect();
        let mut others: VecDeque<_> = ["b", "c", "b"]
            .into_iter()
            .map(|site| (site, ask(&budget, site, sizes).err().unwrap()))
            .collect();
        assert_eq!(budget.metrics.signing_queue.waiting(), 53);
        for expected in ["flooded", "b", "c", "flooded", "b", "flooded", "flooded"] {
            drop(running);
            running = if expected == "flooded" {
                poll(&mut flood.pop_front().unwrap()).expect("its turn").unwrap()
            } else {
                let at = others.iter().position(|(site, _)| *site == expected).unwrap();
                poll(&mut others.remove(at).unwrap().1).expect("its turn").unwrap()
            };
        }
        assert!(flood.iter_mut().all(|waiting| poll(waiting).is_none()));
        drop(flood);
        drop(running);
        assert!(budget.places.borrow().sites.is_empty() && budget.places.borrow().turns.is_empty());
        assert_eq!(budget.metrics.signing_queue.waiting(), 0);
    }

    #[test]
    fn a_full_queue_refuses_and_those_who_gave_up_make_room() {
        let (budget, sizes) = (budget(1), sizes(2, 1, 2));
        let running = ask(&budget, "a", sizes).ok().unwrap().unwrap();
        let first = ask(&budget, "a", sizes).err().unwrap();
        let mut second = ask(&budget, "a", sizes).err().unwrap();
        assert_eq!(ask(&budget, "a", sizes).ok().unwrap().err(), Some(QueueIsFull));
        assert!(ask(&budget, "b", sizes).ok().unwrap().is_ok(), "another site does not notice");
        drop(first);
        let third = ask(&budget, "a", sizes).err().unwrap();
        drop(running);
        let running = poll(&mut second).expect("the one who stayed").unwrap();
        // One who goes when it has its place already gives it back.
        drop(third);
        drop(running);
        assert!(budget.places.borrow().sites.is_empty());
        assert!(ask(&budget, "a", sizes).ok().unwrap().is_ok());
    }
}
