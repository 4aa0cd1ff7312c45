//! The real binary: started, killed, starved and lied to.

mod command_line;
mod fixture;
mod hostile_peers;
mod peer;
mod service;
mod supervision;
