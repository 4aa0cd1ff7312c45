//! The hash-chained audit log: record format, writer and offline verifier.
