//! Runs a future on its own stack, so that synchronous code inside it can wait without blocking the thread.
//!
//! rustls asks for a handshake's signature through a synchronous callback, `Signer::sign`. When the signature is made
//! by another process, that callback has to wait, and blocking the thread would stall every connection of it. So the
//! handshake's future runs in a [`Fiber`], on a stack of its own; the callback calls [`wait`], which switches back
//! to whoever polled the fiber; and the next poll switches to the callback again. The future, its caller and the
//! executor stay unmodified.
//!
//! A fiber costs one pooled stack ([`StackPool`]), two allocations and two stack switches (some ten nanoseconds
//! each); a [`wait`] costs two switches more for each time that its future is not ready.
//!
//! # What code inside a fiber must not do
//!
//! Hold across [`wait`] what belongs to the thread rather than to the fiber: a span guard of `tracing`, a `RefCell`
//! borrow or a closure of a thread-local. Nothing becomes unsound by it, but another fiber of the thread may find it
//! taken.

#![allow(unsafe_code)] // one of the two crates that own it; see the SAFETY comments

mod fiber;
mod stack;
mod wait;

pub use fiber::Fiber;
pub use stack::StackPool;
pub use wait::{NotInFiber, in_fiber, wait};
