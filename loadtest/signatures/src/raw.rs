//! The same signatures without an engine: what any engine that uses aws-lc-rs can't do faster.

use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, RSA_PSS_SHA256};
use rustix::time::{ClockId, clock_gettime};

use crate::{Algorithm, Outcome, pipeline};

/// Signatures between two looks at the clock.
const BATCH: u64 = 16;

pub(crate) enum RawKey {
    P256(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl RawKey {
    pub(crate) fn generate(algorithm: Algorithm) -> Outcome<Self> {
        Ok(match algorithm {
            Algorithm::P256 => Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)?),
            Algorithm::Rsa2048 => Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048)?),
            Algorithm::Rsa4096 => Self::Rsa(RsaKeyPair::generate(KeySize::Rsa4096)?),
        })
    }

    /// One signature of a handshake's message.
    pub(crate) fn sign(&self) -> Outcome<()> {
        let message = black_box(pipeline::handshake());
        match self {
            Self::P256(key) => drop(black_box(key.sign(&SystemRandom::new(), &message)?)),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PSS_SHA256, &SystemRandom::new(), &message, &mut signature)?;
                black_box(signature);
            }
        }
        Ok(())
    }

    /// How many in this time, and the CPU time of it.
    pub(crate) fn run_for(&self, time: Duration) -> Outcome<(u64, Duration)> {
        let (before, end) = (cpu_time()?, Instant::now() + time);
        let mut signatures = 0;
        while Instant::now() < end {
            for _ in 0..BATCH {
                self.sign()?;
            }
            signatures += BATCH;
        }
        Ok((signatures, cpu_time()?.saturating_sub(before)))
    }
}

/// What the scheduler accounts to this thread up to now. `schedstat`, where xtask finds the same of sleeping threads, is as old
/// as the last tick for one that runs.
fn cpu_time() -> Outcome<Duration> {
    Ok(clock_gettime(ClockId::ThreadCPUTime).try_into()?)
}
