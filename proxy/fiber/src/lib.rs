//! Runs a future on its own stack so that a synchronous callback inside it can wait.
