//! Cross-process tests: start the real binaries, kill them, speak to them with foreign clients.
