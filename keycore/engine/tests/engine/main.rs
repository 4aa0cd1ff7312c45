//! The engine from outside: real request bytes through begin, run and finish; two replicas on one store.

#![allow(clippy::unwrap_used, reason = "the whole crate is tests")]

mod anchors;
mod api_attacks;
mod audit;
mod backup;
mod claims;
mod cluster;
mod cluster_rotation;
mod crash;
mod custodians;
mod harness;
mod hooked;
mod identity;
mod key_lives;
mod key_quorum;
mod keys;
mod limits;
mod logins;
mod model;
mod operations;
mod past_cves;
mod permissions;
mod quorum;
mod replicas;
mod rotation_races;
mod sessions;
mod sharing;
mod signatures;
mod stolen_proxy;
mod tampering;
mod unseal;
mod users;
mod zeroization;
