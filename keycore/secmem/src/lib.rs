//! Locked, wiped, never-dumped memory, and the lockdown of a process that holds keys.
//!
//! This is the only unsafe code on the engine's side. What it defends against is memory that leaves the process by
//! the operating system's own doing: swap, core dumps, a debugger of the same user, the copy that a fork makes. It
//! does not defend against root, nor against code that runs inside the process.
//!
//! * [`SecretBytes`], [`Key32`]: secrets in pages of their own
//! * [`lockdown`]: what a process gives up before it touches a secret

#![allow(unsafe_code)]

pub mod lockdown;
mod pages;
mod secret;

pub use pages::SecmemError;
pub use secret::{Key32, SecretBytes};
