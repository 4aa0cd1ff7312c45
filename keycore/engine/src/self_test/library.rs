//! aws-lc's own tests.

use super::known_answer::{ACCEPTED, KnownAnswer, REFUSED, verdicts};

pub(super) const LIBRARY: &[KnownAnswer] = &[
    KnownAnswer {
        name: "FIPS mode is as built",
        source: "AWS-LC, FIPS_mode",
        expected: if cfg!(feature = "fips") { &[ACCEPTED] } else { &[REFUSED] },
        compute: || Ok(verdicts([aws_lc_rs::try_fips_mode()])),
    },
    KnownAnswer {
        name: "AWS-LC's self-test",
        source: "AWS-LC, BORINGSSL_self_test",
        expected: &[ACCEPTED],
        compute: || Ok(verdicts([aws_lc_rs::try_fips_self_test()])),
    },
];

/// The library, with its version.
pub(super) fn name() -> String {
    format!("AWS-LC {}", aws_lc_rs::awslc_version())
}
