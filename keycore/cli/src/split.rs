use std::str::FromStr;

use keycore_backup::Share;

/// M of N custodians.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Split {
    pub(crate) threshold: u8,
    pub(crate) count: u8,
}

impl FromStr for Split {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected M/N, such as 2/3, with 2 ≤ M ≤ N ≤ {}", Share::MAX);
        let (threshold, count) = text.split_once('/').ok_or_else(wrong)?;
        let split = Self {
            threshold: threshold.parse().map_err(|_| wrong())?,
            count: count.parse().map_err(|_| wrong())?,
        };
        if Share::fits(split.threshold, split.count) { Ok(split) } else { Err(wrong()) }
    }
}
