//! The HSM engine as processes: a supervisor and its replicas.
//!
//! ```text
//! supervisor ──┬─ replica 0: event loop ─ worker pool ─ follower, recorder   engine-0.sock, audit/engine-0/
//!  (no keys)   └─ replica 1: event loop ─ worker pool ─ follower, recorder   engine-1.sock, audit/engine-1/
//!                        └──────────── store.db ───────────┘
//! ```
//!
//! Each replica is a process of its own, so that the death of one takes no key operation of the others with it. The
//! rules live in `keycore-engine`, which does no I/O; here are the sockets, the clock, the threads and the signals.
//!
//! * [`Cli`], [`run`]: the command line
//! * [`Config`], [`ConfigError`]: the configuration file
//! * `supervisor`: starts the replicas, restarts the dead
//! * `replica`: what one replica opens, in order
//! * `sandbox`: what a replica gives up before it serves
//! * `event_loop`, `connection`: the socket side; nothing in it waits for a disk or a slow key
//! * `tls`: what clients of other machines are spoken to with; `event_loop/handshakes.rs` has them until they are known
//! * `worker_pool`: the slow work, in turn between parties (`party`: users, or who is not logged in); `timed_job`: where its time goes

mod backups;
mod cli;
mod clock;
mod config;
mod connection;
mod directory;
mod event_loop;
mod exit;
mod listener;
mod logging;
mod party;
mod peer;
mod priority;
mod replica;
mod sandbox;
mod shutdown;
mod supervisor;
mod timed_job;
mod tls;
mod worker_pool;

pub use cli::{Cli, run};
pub use config::{AuditRetention, BackupConfig, Config, ConfigError, LogFormat, SocketAccess, Unseal};
pub use sandbox::Sandbox;
