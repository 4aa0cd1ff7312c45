//! The proxy with its key in process: the benchmark's upper limit, never shipped.

fn main() {}
