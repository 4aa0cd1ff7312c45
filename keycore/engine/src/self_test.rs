//! Self-tests in the manner of FIPS 140-3: the engine uses no cryptography that has not just proved to work, and none any
//! more once a test failed.
//!
//! | when | what |
//! |---|---|
//! | at start, before anything is unsealed, and on demand | aws-lc's own tests; a known-answer test of every algorithm, by the code that serves; the generator's health tests on 1,024 bytes |
//! | with each new key pair | pairwise consistency (`private_key.rs`) |
//! | with each new key and all random bytes that are handed out | the generator's health tests, continuously |
//!
//! **The error state** is latched: whatever failed, this engine refuses everything but hello, ping, cluster information and
//! the report of its self-tests with `SelfTestFailed`, which blames the engine, so that clients go to another one. It lasts as
//! long as the process; nothing starts the process anew by itself, because a broken machine would fail again.

use core::time::Duration;
use std::sync::{Mutex, OnceLock};

use aws_lc_rs::error::Unspecified;
use keycore_wire::{KeyAlgorithm, SELF_TEST_PAUSE_SECS, Secret, SelfTestOutcome, SelfTestReport, UnixMillis};

use crate::denial::Denial;
use crate::engine::{Engine, locked};
use crate::journal;
use crate::material::Material;
use crate::options::Now;
use crate::policy::{Action, Permission};
use crate::session::Caller;

mod ciphers;
mod derivations;
mod entropy;
mod hashes;
mod known_answer;
mod library;
mod signatures;

use entropy::EntropyHealth;
pub(crate) use known_answer::is_broken;
use known_answer::{KnownAnswer, hex};

/// Keys and plaintext of the examples in NIST SP 800-38A and 800-38B.
const AES_128: [u8; 16] = hex("2b7e151628aed2a6abf7158809cf4f3c");
const AES_192: [u8; 24] = hex("8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b");
const AES_256: [u8; 32] = hex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
const P: [u8; 64] = hex(concat!(
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52ef",
    "f69f2445df4f9b17ad2b417be66c3710",
));

/// A key, as the store would give it back.
fn material(algorithm: KeyAlgorithm, bytes: &[u8]) -> Result<Material, Unspecified> {
    Material::load(algorithm, Secret::new(bytes.to_vec())).map_err(|_| Unspecified)
}

/// The test of a new key pair.
pub(crate) const PAIRWISE_CONSISTENCY: &str = "pairwise consistency of a new key pair";

/// The continuous tests of the random generator.
pub(crate) const ENTROPY: &str = "health of the random generator";

/// Every test that runs at start, in this order: what the later ones rest on comes first.
pub(crate) fn all() -> impl Iterator<Item = &'static KnownAnswer> {
    [
        library::LIBRARY,
        hashes::HASHES,
        ciphers::CIPHERS,
        derivations::DERIVATIONS,
        signatures::SIGNATURES,
        entropy::GENERATOR,
    ]
    .into_iter()
    .flatten()
}

/// What is known of this engine's self-tests.
#[derive(Default)]
pub(crate) struct SelfTests {
    /// Set once, by the first failure.
    failed: OnceLock<String>,
    last: Mutex<Option<Run>>,
    entropy: Mutex<EntropyHealth>,
}

/// All tests, once.
struct Run {
    mono: Duration,
    wall: UnixMillis,
    outcomes: Vec<SelfTestOutcome>,
}

impl SelfTests {
    /// The test that failed, if one did.
    pub(crate) fn failed(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
    }

    /// Refuses if a test failed, unless the action is one that an engine in the error state still answers.
    pub(crate) fn check(&self, action: Action) -> Result<(), Denial> {
        match self.failed() {
            Some(test) if !is_answered_in_the_error_state(action) => Err(Denial::self_test_failed(test)),
            _ => Ok(()),
        }
    }

    /// Enters the error state if it is for a self-test that something was denied.
    pub(crate) fn latch(&self, denial: &Denial) {
        if let Some(test) = denial.failed_self_test() {
            let _an_earlier_one_counts = self.failed.set(test.to_owned());
        }
    }

    /// Runs all tests; not any more once one failed.
    fn run(&self, now: Now) {
        if self.failed().is_some() {
            return;
        }
        let mut outcomes = Vec::new();
        for test in all() {
            let passed = test.passes();
            outcomes.push(SelfTestOutcome { name: test.name.into(), source: test.source.into(), passed });
            if !passed {
                self.latch(&Denial::self_test_failed(test.name));
                break;
            }
        }
        self.note(now, outcomes);
    }

    fn note(&self, now: Now, outcomes: Vec<SelfTestOutcome>) {
        *locked(&self.last) = Some(Run { mono: now.mono, wall: now.wall, outcomes });
    }

    /// Whether a run is due that somebody asks for.
    fn is_due(&self, now: Now) -> bool {
        let pause = Duration::from_secs(SELF_TEST_PAUSE_SECS);
        self.failed().is_none()
            && locked(&self.last).as_ref().is_none_or(|run| now.mono.saturating_sub(run.mono) >= pause)
    }

    fn report(&self) -> SelfTestReport {
        let last = locked(&self.last);
        let last = last.as_ref();
        SelfTestReport {
            ran_at: last.map_or(UnixMillis(0), |run| run.wall),
            library: library::name(),
            fips: aws_lc_rs::try_fips_mode().is_ok(),
            failed: self.failed().map(str::to_owned),
            tests: last.map(|run| run.outcomes.clone()).unwrap_or_default(),
        }
    }

    /// Draws from the generator and tests what came: to be called before a key is made, because what the key itself is made
    /// from is drawn inside of aws-lc.
    pub(crate) fn generator_is_healthy(&self) -> Result<(), Denial> {
        let mut sample = [0; entropy::SAMPLE];
        entropy::draw(&mut sample)?;
        self.watch(&sample)
    }

    /// Tests random bytes before they are used.
    pub(crate) fn watch(&self, drawn: &[u8]) -> Result<(), Denial> {
        match locked(&self.entropy).feed(drawn) {
            Ok(()) => Ok(()),
            Err(entropy::Unhealthy) => Err(Denial::self_test_failed(ENTROPY)),
        }
    }
}

/// What tells no secret, needs no login and uses no key.
fn is_answered_in_the_error_state(action: Action) -> bool {
    matches!(action, Action::Hello | Action::Ping | Action::ClusterInfo | Action::SelfTest)
}

/// The outcomes at the first start in this process, if all was well.
static PASSED: OnceLock<Vec<SelfTestOutcome>> = OnceLock::new();

/// Runs the tests at start; once in a process, because it is the process that holds the cryptography. A failure is on record
/// before anybody can ask.
pub(crate) fn at_start(engine: &Engine, now: Now) {
    match PASSED.get() {
        // Unit tests break some of them in between.
        Some(outcomes) if !cfg!(test) => engine.self_tests.note(now, outcomes.clone()),
        _ => engine.self_tests.run(now),
    }
    if let (None, Some(run)) = (engine.self_tests.failed(), &*locked(&engine.self_tests.last)) {
        PASSED.get_or_init(|| run.outcomes.clone());
    }
    if engine.self_tests.failed().is_some() {
        let caller = Caller { connection: 0, peer: None, session: None };
        record(engine, &caller, now);
    }
}

/// Runs the tests because somebody asks, unless they just ran. Returns how they ended.
pub(crate) fn on_demand(
    engine: &Engine,
    _permission: &Permission,
    caller: &Caller,
    now: Now,
) -> SelfTestReport {
    if engine.self_tests.is_due(now) {
        engine.self_tests.run(now);
        record(engine, caller, now);
    }
    engine.self_tests.report()
}

/// A record of each run that was asked for, and of a failure at start. The pipeline writes none, because a report that is
/// read again changes nothing, and anybody may read it.
fn record(engine: &Engine, caller: &Caller, now: Now) {
    let denial = engine.self_tests.failed().map(Denial::self_test_failed);
    let detail = denial.as_ref().map_or("", |denial| &denial.refusal.detail);
    let entry =
        journal::entry("SelfTest", caller, now, denial.as_ref().map(|denial| &denial.refusal), detail);
    // If it can't be written, the engine does nothing that would have to be, and says why.
    let _recorded = engine.journal.append(&entry);
}

#[cfg(test)]
mod tests;
