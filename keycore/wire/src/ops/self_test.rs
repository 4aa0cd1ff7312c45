use serde::{Deserialize, Serialize};

use crate::session::UnixMillis;

/// Runs the engine's self-tests again, and tells how they ended. Needs no login, so that an engine that refuses logins
/// because one failed can still be asked which.
///
/// They run at most once in [`SELF_TEST_PAUSE_SECS`]; whoever asks sooner gets the last report.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct SelfTest;

/// Least time between two runs that were asked for, in seconds.
pub const SELF_TEST_PAUSE_SECS: u64 = 10;

/// How the self-tests ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfTestReport {
    /// When they ran.
    pub ran_at: UnixMillis,
    /// The cryptographic library, with its version.
    pub library: String,
    /// Whether the library is the FIPS 140-3 module.
    pub fips: bool,
    /// The test that failed and stopped this engine, be it one of those below or one that is run when it is needed (pairwise
    /// consistency of a new key, health of the random generator). Until the engine is started anew it does nothing else.
    pub failed: Option<String>,
    /// Each test that ran at that time, in its order.
    pub tests: Vec<SelfTestOutcome>,
}

/// One self-test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfTestOutcome {
    /// What was tested.
    pub name: String,
    /// Where the known answer is from.
    pub source: String,
    /// Whether the answer was the known one.
    pub passed: bool,
}
