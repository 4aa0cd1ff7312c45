use keycore_wire::{AttributeTemplate, KeyId, UnixMillis, UserId};

use super::*;

fn set(names: &str) -> Attributes {
    let each: Vec<Attribute> = names.split_whitespace().map(|name| name.parse().unwrap()).collect();
    Attributes::of(&each)
}

fn key(names: &str) -> KeyInfo {
    KeyInfo {
        id: KeyId([1; 16]),
        owner: UserId([2; 16]),
        label: "k".parse().unwrap(),
        algorithm: KeyAlgorithm::Aes256,
        attributes: set(names),
        spki_sha256: None,
        check_value: [0; 3],
        quorum_management: 0,
        quorum_usage: 0,
        wrap_template: None,
        unwrap_template: None,
        predecessor: None,
        retired_until: None,
        created_at: UnixMillis(0),
    }
}

fn asked(names: &str) -> KeyTemplate {
    KeyTemplate { attributes: set(names), ..KeyTemplate::new("new".parse().unwrap(), Attributes::NONE) }
}

#[test]
fn who_wraps_what() {
    for (wrapping, target, may) in [
        ("wrap local", "extractable sensitive", true),
        ("wrap local", "extractable", true),
        ("wrap local", "sensitive", false),
        ("unwrap local", "extractable", false),
        ("encrypt local", "extractable", false),
        ("wrap", "extractable sensitive", false),
        ("wrap", "extractable", true),
        ("wrap trusted", "extractable sensitive", true),
        ("wrap local", "extractable wrap-with-trusted", false),
        ("wrap local trusted", "extractable wrap-with-trusted", true),
    ] {
        assert_eq!(check_wrap(&key(wrapping), &key(target)).is_ok(), may, "{wrapping} | {target}");
    }
    let template = AttributeTemplate { on: Attributes::SIGN, off: set("decrypt") };
    let choosy = KeyInfo { wrap_template: Some(template), ..key("wrap local") };
    assert!(check_wrap(&choosy, &key("extractable sign verify")).is_ok());
    assert!(check_wrap(&choosy, &key("extractable sign")).is_err());
}

#[test]
fn what_an_unwrapped_key_may_be() {
    for (unwrapping, wanted, got) in [
        ("unwrap", "sign verify", Some("sign verify sensitive private")),
        ("unwrap", "decrypt extractable", Some("decrypt extractable sensitive private")),
        (
            "unwrap trusted",
            "decrypt extractable",
            Some("decrypt extractable wrap-with-trusted sensitive private"),
        ),
        ("unwrap", "wrap", None),
        ("unwrap", "unwrap", None),
        ("unwrap", "derive", None),
        ("unwrap", "decrypt local", None),
        ("unwrap", "decrypt trusted", None),
        ("unwrap", "decrypt always-sensitive", None),
        ("wrap", "decrypt", None),
        ("decrypt", "decrypt", None),
    ] {
        let got_now = attributes_of_unwrapped(&key(unwrapping), KeyAlgorithm::Aes256, &asked(wanted)).ok();
        assert_eq!(got_now, got.map(set), "{unwrapping} | {wanted}");
    }
    let template = AttributeTemplate { on: set("wrap-with-trusted"), off: set("extractable token") };
    let strict = KeyInfo { unwrap_template: Some(template), ..key("unwrap") };
    let got = attributes_of_unwrapped(&strict, KeyAlgorithm::Aes256, &asked("decrypt token extractable"));
    assert_eq!(got.ok(), Some(set("decrypt wrap-with-trusted sensitive private")));
}

#[test]
fn what_a_derived_key_may_be() {
    for (base, wanted, got) in [
        ("derive", "sign", Some("sign sensitive private")),
        ("derive", "sign extractable", Some("sign extractable sensitive private")),
        ("derive", "wrap", None),
        ("derive", "unwrap", None),
        ("derive", "derive", None),
        ("derive", "sign local", None),
        ("sign", "sign", None),
    ] {
        let got_now = attributes_of_derived(&key(base), KeyAlgorithm::Aes256, &asked(wanted)).ok();
        assert_eq!(got_now, got.map(set), "{base} | {wanted}");
    }
}
