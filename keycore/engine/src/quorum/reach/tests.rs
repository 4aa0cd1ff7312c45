use keycore_wire::{Attributes, KeyAlgorithm, MAX_QUORUM, UnixMillis};

use super::*;

const KEY: bool = true;
const NONE: bool = false;

#[test]
fn a_keys_values_can_be_reached_if_its_members_can_gather_them() {
    // owner and sharees with and without a registered key; most approvals that can be had to change and to use it
    for (owner, sharees, change, use_) in [
        (KEY, &[][..], 0, 0),
        (NONE, &[KEY], 1, 1),
        (KEY, &[KEY], 1, 1),
        (KEY, &[NONE], 0, 1),
        (NONE, &[NONE, NONE], 0, 0),
        (NONE, &[KEY, KEY], 2, 2),
        (KEY, &[KEY, KEY], 2, 2),
        (KEY, &[KEY, NONE], 1, 2),
        (KEY, &[KEY, KEY, NONE], 2, 3),
        (KEY, &[KEY; 8], 8, 8),
    ] {
        for value in 0..=MAX_QUORUM {
            let members = format!("{value} of owner {owner}, sharees {sharees:?}");
            let fits = |most: u8| value <= 1 || value <= most;
            assert_eq!(check(&key(value, 0), owner, sharees).is_ok(), fits(change), "change: {members}");
            assert_eq!(check(&key(0, value), owner, sharees).is_ok(), fits(use_), "use: {members}");
        }
    }
}

fn key(quorum_management: u8, quorum_usage: u8) -> KeyInfo {
    KeyInfo {
        id: KeyId([1; 16]),
        owner: UserId([2; 16]),
        label: "k".parse().unwrap(),
        algorithm: KeyAlgorithm::P256,
        attributes: Attributes::DEFAULT,
        spki_sha256: None,
        check_value: [0; 3],
        quorum_management,
        quorum_usage,
        wrap_template: None,
        unwrap_template: None,
        predecessor: None,
        retired_until: None,
        created_at: UnixMillis(0),
    }
}
