use super::*;

const KEY: bool = true;
const NONE: bool = false;

#[test]
fn a_value_can_be_reached_if_some_admin_finds_enough_others() {
    // admins with and without a key, self-approval, most approvals that can be had
    for (admins, self_approval, most) in [
        (&[KEY][..], false, 0),
        (&[KEY], true, 1),
        (&[KEY, NONE], false, 1),
        (&[KEY, KEY], false, 1),
        (&[KEY, KEY], true, 2),
        (&[KEY, KEY, NONE], false, 2),
        (&[KEY, KEY, KEY], false, 2),
        (&[KEY, KEY, KEY], true, 3),
        (&[NONE, NONE], true, 0),
    ] {
        for value in 2..=MAX_QUORUM {
            let settings = QuorumSettings { user: value, self_approval, ..QuorumSettings::default() };
            let reachable = check_reachable(admins, &settings).is_ok();
            assert_eq!(reachable, usize::from(value) <= most, "{value} of {admins:?}, self {self_approval}");
        }
        assert!(
            check_reachable(admins, &QuorumSettings { self_approval, ..QuorumSettings::default() }).is_ok()
        );
    }
}
