//! How those who sign do, as all workers together see it: each worker has connections of its own.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::keys::{KeySource, SignerStatus, SigningCounts};

/// How long a worker may take to say what it sees. One that takes longer serves nobody either.
const PATIENCE: Duration = Duration::from_secs(1);

/// Asks all workers.
pub(crate) struct Views {
    workers: Vec<mpsc::UnboundedSender<Question>>,
}

/// What one worker is asked, and how it answers.
type Question = oneshot::Sender<(Vec<SignerStatus>, SigningCounts)>;

/// What one worker answers.
pub(crate) struct Questions(mpsc::UnboundedReceiver<Question>);

/// What all workers see.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct View {
    /// Whether each worker can have a new handshake signed.
    pub(crate) ready: bool,
    /// Workers that did not answer.
    pub(crate) silent: usize,
    /// Those who sign: up if all workers say so, counts of all workers together.
    pub(crate) signers: Vec<SignerStatus>,
    /// Of all workers together.
    pub(crate) counts: SigningCounts,
}

impl Views {
    /// For so many workers, each of which is to answer its questions.
    pub(crate) fn new(workers: usize) -> (Self, Vec<Questions>) {
        let (workers, questions) = (0..workers)
            .map(|_| mpsc::unbounded_channel())
            .map(|(sender, receiver)| (sender, Questions(receiver)))
            .unzip();
        (Self { workers }, questions)
    }

    /// How many workers there are.
    pub(crate) fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Asks all workers that have not ended.
    pub(crate) async fn all(&self) -> View {
        let asked: Vec<_> = self
            .workers
            .iter()
            .filter_map(|worker| {
                let (answer, view) = oneshot::channel();
                worker.send(answer).ok().map(|()| view)
            })
            .collect();
        let deadline = Instant::now() + PATIENCE;
        let mut all = View { ready: true, ..View::default() };
        for view in asked {
            match timeout_at(deadline, view).await {
                Ok(Ok((signers, counts))) => {
                    all.add(signers);
                    all.counts += counts;
                }
                Ok(Err(_ended)) => {}
                Err(_elapsed) => {
                    all.silent += 1;
                    all.ready = false;
                }
            }
        }
        all
    }
}

impl Questions {
    /// Answers as the calling worker, until the process ends.
    pub(crate) async fn answer(mut self, keys: Arc<dyn KeySource>) {
        while let Some(question) = self.0.recv().await {
            // Whoever asked may be gone.
            let _ = question.send((keys.signers(), keys.counts()));
        }
    }
}

impl View {
    fn add(&mut self, signers: Vec<SignerStatus>) {
        self.ready &= is_ready(&signers);
        for signer in signers {
            match self.signers.iter_mut().find(|known| known.name == signer.name) {
                None => self.signers.push(signer),
                Some(known) => {
                    known.answers += signer.answers;
                    known.losses += signer.losses;
                    known.silences += signer.silences;
                    known.timed_answers += signer.timed_answers;
                    known.answer_time += signer.answer_time;
                    if known.up && !signer.up {
                        (known.up, known.state) = (false, signer.state);
                    }
                }
            }
        }
    }
}

/// Ready means that a new handshake can be signed: by any one engine.
pub(crate) fn is_ready(signers: &[SignerStatus]) -> bool {
    signers.is_empty() || signers.iter().any(|signer| signer.up)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(name: &str, up: bool) -> SignerStatus {
        SignerStatus {
            name: name.to_owned(),
            up,
            state: format!("{up}"),
            answers: 3,
            losses: 1,
            silences: 1,
            timed_answers: 2,
            answer_time: Duration::from_millis(1),
        }
    }

    #[test]
    fn one_engine_is_enough_and_none_is_not() {
        assert!(is_ready(&[]), "keys that nobody could take away");
        assert!(is_ready(&[engine("0", false), engine("1", true)]));
        assert!(!is_ready(&[engine("0", false), engine("1", false)]));
    }

    #[test]
    fn each_worker_needs_an_engine_and_counts_are_added() {
        let mut view = View { ready: true, ..View::default() };
        view.add(vec![engine("0", true), engine("1", true)]);
        view.add(vec![engine("0", true), engine("1", false)]);
        assert!(view.ready);
        assert_eq!((view.signers[0].up, view.signers[0].answers, view.signers[0].losses), (true, 6, 2));
        let SignerStatus { silences, timed_answers, answer_time, .. } = view.signers[0];
        assert_eq!((silences, timed_answers, answer_time), (2, 4, Duration::from_millis(2)));
        assert_eq!((view.signers[1].up, view.signers[1].state.as_str()), (false, "false"));
        view.add(vec![engine("0", false), engine("1", false)]);
        assert!(!view.ready, "the third worker can't have anything signed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_hangs_is_noticed_and_one_that_has_ended_is_not_awaited() {
        let (views, mut questions) = Views::new(3);
        let mut answering = questions.remove(0);
        let ended = questions.remove(0);
        drop(ended);
        let _hanging = questions;
        let answer = async {
            answering
                .0
                .recv()
                .await
                .unwrap()
                .send((vec![engine("0", true)], SigningCounts { hedges: 2, ..SigningCounts::default() }))
                .unwrap();
        };
        let (view, ()) = tokio::join!(views.all(), answer);
        let counts = SigningCounts { hedges: 2, ..SigningCounts::default() };
        assert_eq!(view, View { ready: false, silent: 1, signers: vec![engine("0", true)], counts });
    }
}
