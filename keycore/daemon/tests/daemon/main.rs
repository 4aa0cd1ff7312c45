//! The real binary: started, killed, starved and lied to.

#![allow(clippy::unwrap_used, reason = "a test's fixture may panic like a test")]

mod command_line;
mod confinement;
mod disk_full;
mod fixture;
mod hostile_peers;
mod peer;
mod remote;
mod same_user;
mod service;
mod supervision;
mod timed_signatures;
mod vectors;
