//! Full-handshake load and failover drill against a TLS server.
//!
//! * [`Target`]: what is measured: an address, whom to trust, how to speak TLS
//! * [`Load`]: how much of it: until when ([`Extent`]), at what rate, how many at a time; gives a [`Tally`]
//! * [`Report`]: the tally in words and as JSON
//! * [`Drill`]: kills or freezes an engine under the load and judges what came of it
//! * [`Cli`]: the program's command line

mod attend;
mod cli;
mod drill;
mod failure;
mod handshake;
mod load;
mod names;
mod progress;
mod report;
mod schedule;
mod tally;
mod target;
#[cfg(test)]
mod test_server;
mod time;
mod trust;

pub use cli::{Cli, run};
pub use drill::{
    Disturbance, Drill, DrillError, DrillReport, EngineProcess, Moment, Replica, ReplicaError, RoundReport,
};
pub use failure::Failure;
pub use load::{Load, LoadError, Running};
pub use names::{InvalidNumbers, Numbers};
pub use report::{Latency, Report, Second};
pub use schedule::Extent;
pub use tally::Tally;
pub use target::{KeyExchange, Target, TargetError, TargetOptions, TlsVersion};
pub use time::{InvalidDuration, human, parse_duration};
