use std::fs;
use std::str::FromStr;

use keycore_audit::{Command, Entry, Head, Log, Outcome, Peer, Subject, User, file};
use keycore_wire::{KeyId, RefusalCode, SessionHandle, SignatureScheme, UserId};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::audit::filter::FilterArguments;
use crate::audit::syslog::Host;

fn entry<'a>(time_micros: u64, operation: &'a str, subject: Subject<'a>, detail: &'a str) -> Entry<'a> {
    Entry {
        time_micros,
        connection: 7,
        peer: Some(Peer::Local { uid: 990, gid: 991, pid: 42 }),
        session: Some(SessionHandle([4; 16])),
        user: Some(User { id: Some(UserId([7; 16])), name: "web" }),
        command: Command::Management,
        opcode: 0x22,
        operation,
        subject,
        outcome: Outcome::Done,
        detail,
    }
}

fn record(entry: Entry<'_>) -> Record<'_> {
    Record { replica: 1, sequence: 12, boot: 3, head: Head([0xab; 32]), entry }
}

fn append(dir: &Path, replica: u16, entries: &[Entry<'_>]) {
    let (chain, sink, _) = file::open(dir, replica).unwrap();
    let mut log = Log::new(chain, Box::new(sink));
    entries.iter().for_each(|entry| log.append(entry).unwrap());
    log.sync().unwrap();
}

/// The lines that are written, and what stopped it.
fn exported(dir: &Path, format: ExportFormat) -> (Vec<String>, Option<String>) {
    let arguments = FilterArguments::default();
    let host: Host = "-".parse().unwrap();
    let mut out = Vec::new();
    let outcome = write(dir, format, &Syslog { host: &host }, &Filter::new(&arguments, None), &mut out);
    let stopped = match outcome {
        Ok(_) => None,
        Err(Stop::Log(failure)) => Some(failure.to_string()),
        Err(Stop::Out(error)) => Some(error.to_string()),
    };
    (String::from_utf8(out).unwrap().lines().map(str::to_owned).collect(), stopped)
}

#[test]
fn replicas_are_merged_by_time() {
    let dir = tempfile::tempdir().unwrap();
    let at = |time, detail| entry(time, "Login", Subject::None, detail);
    append(dir.path(), 0, &[at(10, "a"), at(30, "c"), at(20, "d")]);
    append(dir.path(), 3, &[at(15, "b"), at(40, "e")]);
    let (lines, stopped) = exported(dir.path(), ExportFormat::Jsonl);
    let detail = |line: &String| serde_json::from_str::<Value>(line).unwrap()["detail"].clone();
    let details: Vec<_> = lines.iter().map(detail).collect();
    assert_eq!((details, stopped), (vec!["a".into(), "b".into(), "c".into(), "d".into(), "e".into()], None));
}

#[test]
fn a_broken_record_ends_it_behind_what_is_good() {
    let dir = tempfile::tempdir().unwrap();
    let text = "x".repeat(400);
    let entries: Vec<_> = (0..1000).map(|n| entry(n, "Login", Subject::None, &text)).collect();
    append(dir.path(), 0, &entries);
    let segment = dir.path().join("engine-0/00000000000000000001.log");
    let mut bytes = fs::read(&segment).unwrap();
    let length = (bytes.len() - 56) / 1000;
    // In the text of the 701st record or its neighbours, whose lengths differ by a byte or two.
    bytes[56 + 700 * length + length / 2] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let (lines, stopped) = exported(dir.path(), ExportFormat::Cloudtrail);
    let stopped = stopped.unwrap();
    assert!((690..=710).contains(&lines.len()), "{}", lines.len());
    assert!(stopped.contains(&format!("record {}: changed", lines.len() + 1)), "{stopped}");
}

#[test]
fn an_event_of_cloudtrail_has_its_fields() {
    let subject = Subject::Key { id: Some(KeyId([1; 16])), label: "www" };
    let refused = Entry {
        outcome: Outcome::Refused(RefusalCode::NotFound),
        ..entry(1_795_000_000_123_456, "DeleteKey", subject, "no such key")
    };
    let event = cloudtrail::event(&record(refused));
    for (field, value) in [
        ("eventTime", json!("2026-11-18T11:06:40Z")),
        ("eventSource", json!("hsm-engine")),
        ("eventName", json!("DeleteKey")),
        ("eventID", json!("abababab-abab-8bab-abab-abababababab")),
        ("eventCategory", json!("Management")),
        ("requestID", json!("1.3.7.1795000000123456")),
        ("errorCode", json!("NotFound")),
        ("errorMessage", json!("no such key")),
        ("responseElements", Value::Null),
    ] {
        assert_eq!(event[field], value, "{field}");
    }
    assert_eq!(event["userIdentity"]["userName"], "web");
    assert_eq!(event["requestParameters"]["label"], "www");
    assert_eq!(event["additionalEventData"]["sequence"], 12);
    let done = cloudtrail::event(&record(entry(1, "Login", Subject::None, "by peer uid")));
    assert_eq!(done["responseElements"], json!({ "detail": "by peer uid" }));
    assert!(done.get("errorCode").is_none());
}

#[test]
fn a_line_of_syslog_is_as_rfc_5424_wants_it() {
    let host: Host = "hsm1.example.org".parse().unwrap();
    let entry = entry(1_795_000_000_123_456, "UserCreate", Subject::User("a\"b]c\\d\ne"), "é");
    let line = Syslog { host: &host }.line(&record(entry));
    let (header, rest) = line.split_once(" [").unwrap();
    assert_eq!(header, "<110>1 2026-11-18T11:06:40.123456Z hsm1.example.org hsm-engine 1.3 UserCreate");
    assert!(rest.contains(r#" subjectUser="a\"b\]c\\d�e" "#), "{rest}");
    assert!(rest.ends_with("] \u{feff}web: UserCreate, user a\"b]c\\d\u{fffd}e, done, é"), "{rest}");
    assert!(Host::from_str("two words").is_err());
}

/// What a reader of RFC 5424 makes of a line: the header's fields and the parameters.
type Parsed<'a> = (Vec<&'a str>, Vec<(String, String)>);

/// Reads a line by the grammar of section 6.
fn parsed(line: &str) -> Option<Parsed<'_>> {
    let mut header: Vec<_> = line.splitn(7, ' ').collect();
    let mut rest = header.pop()?.strip_prefix("[hsmAudit@32473")?;
    let mut parameters = Vec::new();
    while let Some(parameter) = rest.strip_prefix(' ') {
        let (name, value) = parameter.split_once("=\"")?;
        let (mut text, mut chars) = (String::new(), value.char_indices());
        let end = loop {
            match chars.next()? {
                (at, '"') => break at + 1,
                (_, '\\') => text.push(chars.next()?.1),
                (_, ']') => return None,
                (_, c) => text.push(c),
            }
        };
        parameters.push((name.to_owned(), text));
        rest = &value[end..];
    }
    rest.starts_with("] ").then_some((header, parameters))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_one_line_and_is_read_back(
        operation in any::<String>(),
        user in any::<String>(),
        site in r#"[\]\["\\\x00-\x20a\u{80}-\u{9f}é]*"#,
        detail in any::<String>(),
        time in any::<u64>(),
    ) {
        let subject = Subject::Signature {
            key: None,
            spki: None,
            site: &site,
            scheme: Some(SignatureScheme::EcdsaP256Sha256),
            message_sha256: [3; 32],
        };
        let record = record(Entry {
            user: Some(User { id: None, name: &user }),
            ..entry(time, &operation, subject, &detail)
        });
        let host: Host = "-".parse().unwrap();
        let syslog = Syslog { host: &host };
        for format in [ExportFormat::Jsonl, ExportFormat::Cloudtrail] {
            let text = format.text(&record, &syslog);
            prop_assert!(!text.contains('\n'));
            let read: Value = serde_json::from_str(&text).unwrap();
            let (told, subject, name) = match format {
                ExportFormat::Jsonl => (&read["detail"], &read["subject"], &read["operation"]),
                _ => (&read["responseElements"]["detail"], &read["requestParameters"], &read["eventName"]),
            };
            prop_assert_eq!(told.as_str().unwrap_or(""), &detail);
            prop_assert_eq!(subject["site"].as_str().unwrap(), &site);
            prop_assert_eq!(name.as_str().unwrap(), &operation);
        }
        let line = syslog.line(&record);
        prop_assert!(!line.chars().any(char::is_control), "{}", line);
        let (header, parameters) = parsed(&line).unwrap();
        prop_assert_eq!(header.len(), 6);
        prop_assert!(header.iter().all(|field| !field.is_empty() && field.is_ascii()));
        let value = |name: &str| {
            let found = parameters.iter().find(|(known, _)| known == name);
            found.map_or(String::new(), |(_, value)| value.clone())
        };
        let clean = super::super::record::printable;
        prop_assert_eq!(value("operation"), clean(&operation));
        prop_assert_eq!(value("user"), clean(&user));
        prop_assert_eq!(value("site"), clean(&site));
        prop_assert_eq!(value("detail"), clean(&detail));
    }
}
