//! Client of the HSM engines: sans-I/O session, blocking driver, pool with failover and hedging.
