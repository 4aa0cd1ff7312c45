//! hsm: the administrator's command line of an HSM cluster.

fn main() {}
