//! Sealed records behind one small trait, with SQLite as the store of one machine.
