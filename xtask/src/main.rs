//! cargo xtask dev|test|bench.

fn main() {}
