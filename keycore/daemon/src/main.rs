//! The process that holds the keys: event loop, worker pool, supervisor.

fn main() {}
