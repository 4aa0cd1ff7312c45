//! The table of `docs/permissions.md`, cell by cell: what it says of an operation and a role, a live engine answers.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use keycore_wire::{
    ActivateCluster, Attribute, AttributeChange, DeleteKey, Hello, InitializeCluster, KeyId, KeyPurpose,
    QuorumPropose, RefusalCode, Request, Role, Secret, SessionList, SessionsOf, SetAttribute,
    UserChangePassword, UserRegisterKey, encode_request, frame,
};

use crate::harness::{Client, PASSWORD, World, name, secret};

const TABLE: &str = include_str!("../../../../docs/permissions.md");
const PROTOCOL: &str = include_str!("../../../../docs/wire-protocol.md");

/// The table's columns.
const COLUMNS: [&str; 5] = ["nobody", "pre-officer", "admin", "crypto user", "appliance user"];

/// Rows that are not named after their operation alone.
const OWN_PASSWORD: &str = "UserChangePassword, own";
const OTHERS_PASSWORD: &str = "UserChangePassword, another's";

/// The documented cells: row, then column, to yes or no.
fn documented() -> BTreeMap<String, [bool; 5]> {
    let mut lines = TABLE.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let head: Vec<_> = lines.next().unwrap().split(" | ").collect();
    assert_eq!(head[1..], COLUMNS);
    lines
        .map(|line| {
            let (row, cells) = line.split_once(" | ").unwrap();
            let cells: Vec<_> = cells
                .split(" | ")
                .map(|cell| match cell {
                    "yes" => true,
                    "no" => false,
                    other => panic!("{row}: {other:?} is neither yes nor no"),
                })
                .collect();
            (row.to_owned(), cells.try_into().unwrap())
        })
        .collect()
}

/// The body of the well-formed request that the protocol's document prints of an operation.
fn sample(operation: &str) -> Vec<u8> {
    let head = format!("```hex {operation} request\n");
    let (_, rest) = PROTOCOL.split_once(&head).unwrap_or_else(|| panic!("no sample of {operation}"));
    let (hex, _) = rest.split_once("```").unwrap();
    let bytes = HEXLOWER.decode(hex.replace([' ', '\n'], "").as_bytes()).unwrap();
    frame::split(&bytes, frame::MAX_FRAME).unwrap().unwrap().0.body.to_vec()
}

/// Every row that there has to be, with its request.
fn requests() -> BTreeMap<String, Vec<u8>> {
    let mut requests: BTreeMap<_, _> =
        Request::TABLE.iter().map(|(_, name)| ((*name).to_owned(), sample(name))).collect();
    let own = requests.remove("UserChangePassword").unwrap();
    requests.insert(OWN_PASSWORD.to_owned(), own);
    let mut body = Vec::new();
    let others =
        UserChangePassword { name: Some(name("nobody")), current: None, new: secret("another password") };
    encode_request(&others, &mut body).unwrap();
    requests.insert(OTHERS_PASSWORD.to_owned(), body);
    let others = requests.remove("SessionList").unwrap();
    requests.insert("SessionList, another's".to_owned(), others);
    let mut body = Vec::new();
    encode_request(&SessionList { of: SessionsOf::Own, after: None, limit: 64 }, &mut body).unwrap();
    requests.insert("SessionList, own".to_owned(), body);
    let another = requests.remove("SetAttribute").unwrap();
    requests.insert("SetAttribute, another".to_owned(), another);
    let mut body = Vec::new();
    let change = AttributeChange::Set(Attribute::Trusted, true);
    encode_request(&SetAttribute { key: KeyId([1; 16]), change }, &mut body).unwrap();
    requests.insert("SetAttribute, trusted".to_owned(), body);
    let service = requests.remove("QuorumPropose").unwrap();
    requests.insert("QuorumPropose, a service's".to_owned(), service);
    let (mut inner, mut body) = (Vec::new(), Vec::new());
    encode_request(&DeleteKey { key: KeyId([1; 16]) }, &mut inner).unwrap();
    encode_request(&QuorumPropose { operation: Secret::new(inner) }, &mut body).unwrap();
    requests.insert("QuorumPropose, a key's".to_owned(), body);
    let approval = requests.remove("UserRegisterKey").unwrap();
    requests.insert("UserRegisterKey, for approvals".to_owned(), approval);
    let (purpose, proof, current) = (KeyPurpose::SecondFactor, Vec::new(), Some(secret(PASSWORD)));
    let mut body = Vec::new();
    encode_request(&UserRegisterKey { purpose, spki: vec![0x30, 0x00], proof, current }, &mut body).unwrap();
    requests.insert("UserRegisterKey, second factor".to_owned(), body);
    requests
}

/// What a live engine answers to each role: whether it may.
fn answers(operation: &str, body: &[u8]) -> [bool; 5] {
    let (_world, active) = World::active();
    let mut root = active.client_of("root");
    root.create_user("crypto", Role::CryptoUser).unwrap();
    root.create_user("appliance", Role::ApplianceUser).unwrap();
    let fresh = World::new();
    let initialized = fresh.replica(0);
    let (_sealed_world, sealed) = crate::unseal::sealed();
    let mut nobody = match operation {
        "InitializeCluster" | "InitializeBy" | "BackupRestore" => initialized.client(),
        "UnsealCluster" => sealed.client(),
        "Hello" => active.stranger(),
        _ => active.client(),
    };
    let nobody_may = may(&mut nobody, body);
    if !operation.starts_with("Initialize") {
        initialized.client().call(&InitializeCluster).unwrap();
    }
    [
        nobody_may,
        may(&mut initialized.client(), body),
        may(&mut active.client_of("root"), body),
        may(&mut active.client_of("crypto"), body),
        may(&mut active.client_of("appliance"), body),
    ]
}

fn may(client: &mut Client, body: &[u8]) -> bool {
    const NO: [u8; 3] = [
        RefusalCode::NotLoggedIn.code(),
        RefusalCode::PermissionDenied.code(),
        RefusalCode::WrongClusterState.code(),
    ];
    match client.send(body).body[..] {
        [0, ..] => true,
        [1, code, ..] => !NO.contains(&code),
        ref other => panic!("{other:?} is no reply"),
    }
}

#[test]
fn every_cell_is_what_a_live_engine_answers() {
    let (documented, requests) = (documented(), requests());
    let missing: Vec<_> = requests.keys().filter(|row| !documented.contains_key(*row)).collect();
    assert!(missing.is_empty(), "docs/permissions.md has no row for {missing:?}");
    let mut wrong = Vec::new();
    for (row, cells) in &documented {
        let body = requests.get(row).unwrap_or_else(|| panic!("{row} is no operation"));
        let answers = answers(row, body);
        for ((column, said), answered) in COLUMNS.iter().zip(cells).zip(answers) {
            if *said != answered {
                wrong.push(format!("{row} by {column}: documented {said}, answered {answered}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{} operations × {} roles agree", documented.len(), COLUMNS.len());
}

#[test]
fn the_pre_officer_is_gone_once_there_is_an_admin() {
    let world = World::new();
    let replica = world.replica(0);
    let mut client = replica.stranger();
    client.call(&Hello::new("test")).unwrap();
    client.call(&InitializeCluster).unwrap();
    let activate = |admin| ActivateCluster { admin: name(admin), password: secret(PASSWORD) };
    client.call(&activate("root")).unwrap();
    assert_eq!(client.refused(&activate("mallory")), RefusalCode::WrongClusterState);
    assert_eq!(replica.client_of("root").refused(&activate("mallory")), RefusalCode::PermissionDenied);
}
