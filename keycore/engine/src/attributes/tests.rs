use keycore_wire::{AttributeTemplate, KeyTemplate};

use super::*;

fn set(names: &str) -> Attributes {
    let each: Vec<Attribute> = names.split_whitespace().map(|name| name.parse().unwrap()).collect();
    Attributes::of(&each)
}

fn template(attributes: Attributes) -> KeyTemplate {
    KeyTemplate { attributes, ..KeyTemplate::new("k".parse().unwrap(), Attributes::NONE) }
}

/// The table once more, as the documentation (docs/keys.md) has it: what of it is chosen, and when it may change.
const TABLE: &str = "
    sign              chosen  off
    verify            chosen  off
    encrypt           chosen  off
    decrypt           chosen  off
    wrap              chosen  off
    unwrap            chosen  off
    derive            chosen  off
    tls-server        chosen  never
    tls-client        chosen  never
    pkcs1-decrypt     chosen  off
    sensitive         chosen  on
    always-sensitive  engine  never
    extractable       chosen  off
    never-extractable engine  never
    private           engine  never
    token             chosen  never
    modifiable        chosen  off
    destroyable       chosen  both
    trusted           engine  admin
    wrap-with-trusted chosen  on
    local             engine  never
";

#[test]
fn every_attribute_is_chosen_and_changed_as_the_table_says() {
    let rows: Vec<_> = TABLE.lines().filter(|line| !line.trim().is_empty()).collect();
    assert_eq!((rows.len(), ATTRIBUTE_RULES.len()), (Attribute::ALL.len(), Attribute::ALL.len()));
    for row in rows {
        let [name, chosen, change] = row.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{row}") };
        let attribute: Attribute = name.parse().unwrap();
        let rule = ATTRIBUTE_RULES.iter().find(|rule| rule.attribute == attribute).unwrap();
        let expected = match change {
            "never" => Change::Never,
            "on" => Change::On,
            "off" => Change::Off,
            "both" => Change::Both,
            "admin" => Change::Admin,
            other => panic!("{other}"),
        };
        assert_eq!((rule.chosen, rule.change), (chosen == "chosen", expected), "{name}");
        if chosen == "engine" {
            let asked = template(Attributes::SIGN.set(attribute, true));
            assert!(of_new(Origin::Generated, KeyAlgorithm::P256, &asked).is_err(), "{name}");
        }
    }
}

/// Which usages keys of a type may have, one purpose a column.
const USAGES: &[(KeyAlgorithm, &str)] = &[
    (
        KeyAlgorithm::Rsa2048,
        "tls-server | tls-client | sign verify | encrypt decrypt pkcs1-decrypt | wrap unwrap pkcs1-decrypt",
    ),
    (
        KeyAlgorithm::Rsa3072,
        "tls-server | tls-client | sign verify | encrypt decrypt pkcs1-decrypt | wrap unwrap pkcs1-decrypt",
    ),
    (
        KeyAlgorithm::Rsa4096,
        "tls-server | tls-client | sign verify | encrypt decrypt pkcs1-decrypt | wrap unwrap pkcs1-decrypt",
    ),
    (KeyAlgorithm::P256, "tls-server | tls-client | sign verify | derive"),
    (KeyAlgorithm::P384, "tls-server | tls-client | sign verify | derive"),
    (KeyAlgorithm::P521, "tls-server | tls-client | sign verify | derive"),
    (KeyAlgorithm::Ed25519, "tls-server | tls-client | sign verify"),
    (KeyAlgorithm::Secp256k1, "sign verify"),
    (KeyAlgorithm::MlDsa44, "sign verify"),
    (KeyAlgorithm::MlDsa65, "sign verify"),
    (KeyAlgorithm::MlDsa87, "sign verify"),
    (KeyAlgorithm::Aes128, "sign verify | encrypt decrypt | wrap unwrap | derive"),
    (KeyAlgorithm::Aes192, "sign verify | encrypt decrypt | wrap unwrap | derive"),
    (KeyAlgorithm::Aes256, "sign verify | encrypt decrypt | wrap unwrap | derive"),
    (KeyAlgorithm::GenericSecret(20), "sign verify | derive"),
];

/// Every one of the 1024 sets of usages, against every type.
#[test]
fn a_key_has_usages_of_one_purpose_that_its_type_has() {
    for (algorithm, purposes) in USAGES {
        let purposes: Vec<_> = purposes.split('|').map(set).collect();
        for bits in 0..1024_u32 {
            let usage = Attributes::try_from(bits).unwrap();
            let allowed =
                purposes.iter().any(|purpose| purpose.has_all(usage)) && usage != set("pkcs1-decrypt");
            let asked = usage.with(Attributes::DEFAULT);
            assert_eq!(check_together(*algorithm, asked).is_ok(), allowed, "{algorithm}: {usage}");
        }
    }
}

#[test]
fn keys_that_give_others_away_are_sensitive_and_stay() {
    for (usage, may_leave) in [
        ("sign verify", true),
        ("encrypt decrypt", true),
        ("wrap unwrap", false),
        ("wrap", false),
        ("unwrap", false),
        ("derive", false),
    ] {
        let check = |besides| check_together(KeyAlgorithm::Aes256, set(usage).with(set(besides))).is_ok();
        assert_eq!(check("sensitive extractable"), may_leave, "{usage}");
        assert_eq!(check(""), may_leave, "{usage}");
        assert!(check("sensitive"), "{usage}");
    }
    for bound in ["tls-server sensitive extractable", "tls-client sensitive extractable"] {
        assert!(check_together(KeyAlgorithm::P256, set(bound)).is_err());
    }
}

#[test]
fn the_engine_tells_where_a_key_comes_from() {
    let of = |origin, names| of_new(origin, KeyAlgorithm::Aes256, &template(set(names))).ok();
    for (origin, asked, got) in [
        (
            Origin::Generated,
            "sign sensitive",
            "sign sensitive private local always-sensitive never-extractable",
        ),
        (
            Origin::Generated,
            "sign sensitive extractable",
            "sign sensitive extractable private local always-sensitive",
        ),
        (Origin::Generated, "sign", "sign private local never-extractable"),
        (Origin::Imported, "sign sensitive", "sign sensitive private"),
        (Origin::Imported, "wrap sensitive", "wrap sensitive private"),
    ] {
        assert_eq!(of(origin, asked), Some(set(got)), "{origin:?} {asked}");
    }
}

#[test]
fn templates_are_for_keys_that_wrap() {
    let asked = |usage: Attributes| KeyTemplate {
        wrap_template: Some(AttributeTemplate::default()),
        ..KeyTemplate::new("k".parse().unwrap(), usage)
    };
    assert!(of_new(Origin::Generated, KeyAlgorithm::Aes256, &asked(Attributes::WRAP)).is_ok());
    assert!(of_new(Origin::Generated, KeyAlgorithm::Aes256, &asked(Attributes::ENCRYPT)).is_err());
}

/// Every attribute, in both directions, by the owner and by an admin.
#[test]
fn attributes_change_in_the_direction_of_the_table() {
    for rule in ATTRIBUTE_RULES {
        for on in [false, true] {
            let now = Attributes::NONE.set(rule.attribute, !on);
            let may = |by_admin| check_change(now, rule.attribute, on, by_admin).is_ok();
            let expected = match rule.change {
                Change::Never => (false, false),
                Change::On => (on, false),
                Change::Off => (!on, false),
                Change::Both => (true, false),
                Change::Admin => (false, true),
            };
            assert_eq!((may(false), may(true)), expected, "{} to {on}", rule.attribute);
        }
    }
}
