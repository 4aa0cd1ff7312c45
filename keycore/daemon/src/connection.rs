//! One client: its socket, its buffers and its requests.

use std::io::{self, ErrorKind};
use std::time::Duration;

use keycore_engine::{Answer, Cost, Engine, Job, Leisure, Now, Step};
use keycore_wire::frame::{FrameError, MAX_HELLO_FRAME};
use keycore_wire::{Refusal, RefusalCode, Reply};
use mio::event::Source;

use crate::clock::Clock;
use crate::party::Party;
use crate::timed_job::{Spent, TimedJob, TimedResult};
use crate::worker_pool::{Panicked, Task, WorkerPool};

mod buffer;
mod patience;
mod stream;

use buffer::{Inbox, Outbox};
use patience::Patience;
pub(crate) use stream::Stream;

/// Names a connection for as long as the process lives: a later one in the same slot has another serial number, so
/// that no job's result goes to a stranger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ConnectionId {
    /// Where the loop keeps it.
    pub(crate) slot: usize,
    /// The how manyth connection of this process it is.
    pub(crate) serial: u64,
}

/// What connections work with.
pub(crate) struct Services<'a> {
    /// The rules.
    pub(crate) engine: &'a Engine,
    /// For slow jobs.
    pub(crate) pool: &'a WorkerPool<TimedJob, TimedResult>,
    /// Jobs that one connection may have in the pool.
    pub(crate) max_in_flight: usize,
    /// Longest frame after the hello, in bytes.
    pub(crate) max_frame: usize,
    /// Whether the process is about to end: nothing new is read.
    pub(crate) draining: bool,
    /// No other connection has anything to do.
    pub(crate) alone: bool,
    /// For those who want to know where their time went.
    pub(crate) clock: Clock,
    /// When what is read now had come, at the latest: all that was done since was done while it waited.
    pub(crate) woken_at: Duration,
}

/// What a turn has come to.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Nothing to do until the socket or a worker has news.
    Idle,
    /// There is more to do: after the others had their turn.
    Again,
    /// The connection is over.
    Close(CloseReason),
}

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CloseReason {
    #[error("the client closed it")]
    Ended,
    #[error("the engine refused the first request")]
    Refused,
    #[error("the engine is shutting down")]
    Drained,
    #[error(transparent)]
    Framing(FrameError),
    #[error("the socket failed: {0}")]
    Socket(#[from] io::Error),
    #[error("no hello within {} s", Patience::HELLO.as_secs())]
    NoHello,
    #[error("a frame was not finished within {} s", Patience::FRAME.as_secs())]
    UnfinishedFrame,
    #[error("the client took no reply for {} s", Patience::WRITE.as_secs())]
    NotReading,
}

impl CloseReason {
    /// Whether the peer broke the rules, so that the log should say so.
    pub(crate) fn is_misbehaviour(&self) -> bool {
        matches!(self, Self::Framing(_) | Self::NoHello | Self::UnfinishedFrame | Self::NotReading)
    }
}

/// A client's connection. Nothing in it blocks.
pub(crate) struct Connection {
    id: ConnectionId,
    stream: Stream,
    session: keycore_engine::Connection,
    inbox: Inbox,
    outbox: Outbox,
    patience: Patience,
    /// The socket may have more for us. Edge-triggered: only a read that comes up short clears it.
    readable: bool,
    /// Jobs in the pool.
    in_flight: usize,
    /// Longest frame for now: little before the hello.
    frame_limit: usize,
    /// The client has closed its side: what it sent before is still to be read.
    closing: bool,
    /// All of that is read.
    ended: bool,
    /// A refusal was the last word.
    refused: bool,
    /// When what is unread had come.
    arrived: Duration,
}

impl Connection {
    /// Reads in one turn, for a peer that sends byte by byte.
    const READS_PER_TURN: usize = 4;
    /// Unsent replies above which no request is read.
    const MAX_UNSENT: usize = 256 * 1024;

    /// A connection that was accepted at `now`.
    pub(crate) fn new(
        id: ConnectionId,
        stream: Stream,
        session: keycore_engine::Connection,
        now: Duration,
    ) -> Self {
        Self {
            id,
            stream,
            session,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            patience: Patience::new(now),
            readable: true,
            in_flight: 0,
            frame_limit: MAX_HELLO_FRAME,
            closing: false,
            ended: false,
            refused: false,
            arrived: now,
        }
    }

    /// Which one this is.
    pub(crate) fn id(&self) -> ConnectionId {
        self.id
    }

    /// To whom its work counts.
    pub(crate) fn party(&self) -> Party {
        Party::of(&self.session)
    }

    /// What the event loop registers.
    pub(crate) fn source(&mut self) -> &mut dyn Source {
        self.stream.source()
    }

    /// The socket has more to read, and `closing` if the last of it.
    pub(crate) fn became_readable(&mut self, closing: bool) {
        self.readable = true;
        self.closing |= closing;
    }

    /// Whether replies wait for room in the socket.
    pub(crate) fn wants_to_write(&self) -> bool {
        self.unsent() > 0
    }

    /// Requests in, replies out: at most `burst` frames, so that a flood waits for the others after each of its bursts.
    pub(crate) fn turn(&mut self, services: &Services<'_>, burst: usize, now: Now) -> Turn {
        let turn = match self.take_requests(services, burst, now) {
            Ok(turn) => turn,
            Err(reason) => return Turn::Close(reason),
        };
        match self.stream.send(&mut self.outbox) {
            Ok(progress) => self.patience.wrote(progress, self.unsent(), now.mono),
            Err(error) => return Turn::Close(error.into()),
        }
        if self.in_flight == 0 && self.unsent() == 0 {
            if self.refused {
                return Turn::Close(CloseReason::Refused);
            }
            if services.draining {
                return Turn::Close(CloseReason::Drained);
            }
            if self.ended && matches!(turn, Turn::Idle) {
                return Turn::Close(CloseReason::Ended);
            }
        }
        turn
    }

    /// A job of this connection has run.
    pub(crate) fn take_result(
        &mut self,
        engine: &Engine,
        request: u32,
        result: Result<TimedResult, Panicked>,
        now: Now,
    ) {
        self.in_flight -= 1;
        let answer = match result {
            Ok(result) => {
                let (finished, spent) = result.split();
                let mut answer = engine.finish(&mut self.session, finished);
                spent.note(&mut answer, now.mono);
                answer
            }
            Err(Panicked) => {
                let refusal =
                    Refusal::new(RefusalCode::Internal, "a fault of the engine; its log says where");
                engine.refuse(&mut self.session, now, refusal)
            }
        };
        self.answer(request, &answer, now.mono);
    }

    /// Whether the peer has used up a patience.
    pub(crate) fn overdue(&self, now: Duration) -> Option<CloseReason> {
        self.patience.overdue(now)
    }

    /// Whether a patience is running at all.
    pub(crate) fn has_deadline(&self) -> bool {
        self.patience.is_running()
    }

    /// Ends the session in the engine; the socket closes.
    pub(crate) fn close(mut self, engine: &Engine, now: Now) {
        self.stream.close();
        engine.disconnect(self.session, now);
    }

    /// Bytes of replies that the peer has not taken; those in the hands of TLS count as one.
    fn unsent(&self) -> usize {
        self.outbox.unsent() + usize::from(self.stream.wants_write())
    }

    fn take_requests(
        &mut self,
        services: &Services<'_>,
        burst: usize,
        now: Now,
    ) -> Result<Turn, CloseReason> {
        let (mut frames, mut reads) = (0, 0);
        // Since when the next request is worked on.
        let mut begun = now.mono;
        loop {
            let mut complete = true;
            while self.may_read(services) {
                if frames == burst {
                    return Ok(Turn::Again);
                }
                complete = self.take_frame(services, now, &mut begun)?;
                if !complete {
                    break;
                }
                frames += 1;
            }
            // Paused: news from the socket or a worker brings the next turn.
            if complete {
                self.patience.paused();
                return Ok(Turn::Idle);
            }
            self.patience.waiting_for_rest(self.inbox.unread().len(), frames > 0, now.mono);
            if self.ended || !self.readable {
                return Ok(Turn::Idle);
            }
            if reads == Self::READS_PER_TURN {
                return Ok(Turn::Again);
            }
            reads += 1;
            self.arrived = services.woken_at;
            match self.stream.receive(&mut self.inbox) {
                Ok((0, _)) => self.ended = true,
                // A read that comes up short has emptied the socket (epoll(7)), and the next byte is an event. The end
                // of the stream may have been part of an earlier one, so it is read for.
                Ok((_, more)) => self.readable = more || self.closing,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Backpressure: a client with its hands full is not read from, so that it can't grow anything of ours.
    fn may_read(&self, services: &Services<'_>) -> bool {
        !self.refused
            && !services.draining
            && self.in_flight < services.max_in_flight
            && self.outbox.unsent() <= Self::MAX_UNSENT
    }

    /// Takes one frame from the inbox; `false` if none is complete.
    fn take_frame(
        &mut self,
        services: &Services<'_>,
        now: Now,
        begun: &mut Duration,
    ) -> Result<bool, CloseReason> {
        let Some((frame, took)) = self.inbox.first(self.frame_limit).map_err(CloseReason::Framing)? else {
            return Ok(false);
        };
        let request = frame.id;
        let is_last = self.inbox.unread().len() == took;
        let is_idle = services.alone && is_last && self.in_flight == 0 && services.pool.is_idle();
        let leisure = if is_idle { Leisure::Idle } else { Leisure::Busy };
        let step = services.engine.begin(&mut self.session, now, frame.body, leisure);
        self.inbox.consume(took);
        match step {
            Step::Answer(mut answer) => {
                if matches!(answer.result, Ok(Reply::Hello(_))) {
                    self.frame_limit = services.max_frame;
                    self.patience.greeted();
                }
                if answer.is_timed() {
                    // One look at the clock for each: the end of one is the beginning of the next.
                    let end = services.clock.mono();
                    Spent::until(self.arrived, *begun, end).note(&mut answer, end);
                    *begun = end;
                }
                self.answer(request, &answer, now.mono);
            }
            Step::Job(job) => self.submit(services, request, job, now),
        }
        Ok(true)
    }

    fn submit(&mut self, services: &Services<'_>, request: u32, job: Job, now: Now) {
        let (heavy, brief) = (job.cost() == Cost::Heavy, job.cost() == Cost::Signature);
        let party = self.party();
        let job = TimedJob { job, arrived: self.arrived };
        match services.pool.submit(Task { connection: self.id, party, request, heavy, brief, job }) {
            Ok(()) => self.in_flight += 1,
            Err(_full) => {
                let refusal =
                    Refusal::new(RefusalCode::Overloaded, "too many slow requests are waiting; try again");
                let answer = services.engine.refuse(&mut self.session, now, refusal);
                self.answer(request, &answer, now.mono);
            }
        }
    }

    fn answer(&mut self, request: u32, answer: &Answer, now: Duration) {
        self.outbox.push(request, &answer.result);
        self.patience.owes(now);
        self.refused |= answer.close;
    }
}
