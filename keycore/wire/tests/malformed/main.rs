//! A million malformed frames: never a panic, and no memory that the frame itself does not account for.
//!
//! The bytes come from a generator with a fixed seed, so a failure comes again.

#![allow(unsafe_code, reason = "an allocator that watches; it exists in this test only")]
#![allow(clippy::unwrap_used)]

mod checks;
mod documented;
mod mutation;

use core::cell::Cell;
use std::alloc::{GlobalAlloc, Layout, System};

use keycore_wire::{
    AttributeChange, AttributeTemplate, Attributes, CipherMechanism, DeriveKey, DeriveMechanism, Encrypt,
    GenerateKey, Hash, Hello, IdempotencyKey, ImportKey, KeyAlgorithm, KeyId, KeySelector, KeyTemplate,
    Login, PlainKey, PublicKey, Request, Role, Secret, SetAttribute, ShareKey, Sign, SignatureScheme,
    SpkiSha256, TlsSign, UserChangePassword, UserCreate, encode_request, frame,
};
use keycore_wire::{BackupChunk, BackupList, BackupRestore, MAX_SHARES, UserName};

use mutation::{Random, mutate};

/// The system's allocator; remembers the largest request of each thread.
struct Watching;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; the bookkeeping allocates nothing.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(layout.size())));
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

/// Room for the text of a refusal, or for the names that a new key is shared with.
const ROOM: usize = MAX_SHARES * size_of::<UserName>();

/// Decodes `body` as a request and sees what it allocates.
fn watched_request(body: &[u8]) -> bool {
    LARGEST.set(0);
    let accepted = checks::request(body);
    let largest = LARGEST.get();
    assert!(largest <= body.len() + ROOM, "{largest} bytes allocated for a body of {}", body.len());
    accepted
}

/// Most that a reply's lists may get ahead of their entries, as serde's caution has it.
const AHEAD: usize = 1 << 20;

/// Decodes `body` as a reply and sees what it allocates.
fn watched_reply(opcode: u8, body: &[u8]) -> bool {
    LARGEST.set(0);
    let accepted = checks::reply(opcode, body);
    let largest = LARGEST.get();
    assert!(largest <= AHEAD, "{largest} bytes allocated for a reply of {} to {opcode:#04x}", body.len());
    accepted
}

/// Bodies that the document prints for every operation, as its `request` or its `reply`, with the operation's opcode.
fn documented_bodies(which: &str) -> Vec<(u8, Vec<u8>)> {
    let frames = documented::documented();
    let printed = |&(opcode, name): &(u8, &str)| {
        let bytes = frames.get(&format!("{name} {which}")).unwrap_or_else(|| panic!("no {name} {which}"));
        let (frame, _) = frame::split(bytes, frame::MAX_FRAME).unwrap().unwrap();
        (opcode, frame.body.to_vec())
    };
    Request::TABLE.iter().map(printed).collect()
}

/// Bodies of well-formed requests: one of every operation, and more with every sort of field.
fn well_formed() -> Vec<Vec<u8>> {
    let mut bodies: Vec<_> = documented_bodies("request").into_iter().map(|(_, body)| body).collect();
    bodies.extend(with_every_field());
    bodies
}

fn with_every_field() -> Vec<Vec<u8>> {
    let secret = || Secret::new(b"correct horse".to_vec());
    let idempotency_key = IdempotencyKey([1; 16]);
    let body = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        out
    };
    vec![
        body(&|out| {
            encode_request(&Hello::new("test"), out).unwrap();
        }),
        body(&|out| {
            encode_request(&Login { user: "web".parse().unwrap(), password: secret() }, out).unwrap();
        }),
        body(&|out| {
            let algorithm = KeyAlgorithm::GenericSecret(20);
            let mut template = KeyTemplate::new("tls/www".parse().unwrap(), Attributes::WRAP);
            let (on, off) = (Attributes::SIGN, Attributes::WRAP);
            template.wrap_template = Some(AttributeTemplate { on, off });
            encode_request(&GenerateKey { idempotency_key, algorithm, template }, out).unwrap();
        }),
        body(&|out| {
            let template = KeyTemplate::new("old".parse().unwrap(), Attributes::SIGN);
            let key = PlainKey::Pkcs8(secret());
            encode_request(&ImportKey { idempotency_key, template, key }, out).unwrap();
        }),
        body(&|out| {
            let (name, role) = ("web".parse().unwrap(), Role::CryptoUser);
            let password = Some(secret());
            encode_request(&UserCreate { idempotency_key, name, role, password, peer_uid: Some(990) }, out)
                .unwrap();
        }),
        body(&|out| {
            let name = Some("web".parse().unwrap());
            let change = UserChangePassword { name, current: Some(secret()), new: secret() };
            encode_request(&change, out).unwrap();
        }),
        body(&|out| {
            let key = KeySelector::Label("tls/www".parse().unwrap());
            encode_request(&PublicKey { key }, out).unwrap();
        }),
        body(&|out| {
            let change = AttributeChange::Label("new".parse().unwrap());
            encode_request(&SetAttribute { key: KeyId([3; 16]), change }, out).unwrap();
        }),
        body(&|out| {
            let share = ShareKey { key: KeyId([3; 16]), with: "app".parse().unwrap() };
            encode_request(&share, out).unwrap();
        }),
        body(&|out| {
            let (key, scheme) = (SpkiSha256([2; 32]), SignatureScheme::EcdsaP256Sha256);
            encode_request(&TlsSign { key, scheme, site: "example.org", message: &[b' '; 130] }, out)
                .unwrap();
        }),
        body(&|out| {
            let (key, mechanism) = (KeyId([3; 16]), CipherMechanism::AesGcm { aad: b"header" });
            encode_request(&Encrypt { key, mechanism, iv: &[], data: b"message" }, out).unwrap();
        }),
        body(&|out| {
            let mechanism = DeriveMechanism::EcdhX963 { peer: &[4; 65], hash: Hash::Sha256, info: b"info" };
            let template = KeyTemplate::new("derived".parse().unwrap(), Attributes::ENCRYPT);
            let (key, algorithm) = (KeyId([3; 16]), KeyAlgorithm::GenericSecret(32));
            encode_request(&DeriveKey { idempotency_key, key, mechanism, algorithm, template }, out).unwrap();
        }),
        body(&|out| {
            let key = KeyId([3; 16]);
            let sign = Sign { key, scheme: SignatureScheme::Ed25519, message: b"message" };
            encode_request(&sign, out).unwrap();
        }),
        body(&|out| {
            encode_request(&BackupChunk { offset: 65_536, bytes: &[7; 100] }, out).unwrap();
        }),
        body(&|out| {
            encode_request(&BackupList { after: Some("backup.age".into()), limit: 9 }, out).unwrap();
        }),
        body(&|out| {
            encode_request(&BackupRestore { identity: secret(), rehearse: true }, out).unwrap();
        }),
    ]
}

#[test]
fn random_bodies_under_every_opcode() {
    let mut random = Random(1);
    let mut body = Vec::with_capacity(256);
    for n in 0..400_000 {
        body.clear();
        if n % 8 != 0 {
            body.push(Request::TABLE[random.below(Request::TABLE.len())].0);
        }
        body.extend((0..random.below(120)).map(|_| random.byte()));
        watched_request(&body);
        let (opcode, _) = Request::TABLE[random.below(Request::TABLE.len())];
        // The status byte of a reply; at random, two in 256 would be one.
        if let Some(status) = body.first_mut() {
            *status = random.byte() % 4;
        }
        checks::reply(opcode, &body);
    }
}

#[test]
fn well_formed_replies_that_were_changed() {
    let mut random = Random(4);
    let samples = documented_bodies("reply");
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..200_000 {
        let (opcode, body) = &samples[random.below(samples.len())];
        let mut body = body.clone();
        mutate(&mut random, &mut body);
        *(if watched_reply(*opcode, &body) { &mut accepted } else { &mut refused }) += 1;
    }
    assert!(accepted > 10_000 && refused > 10_000, "{accepted} accepted, {refused} refused");
}

#[test]
fn well_formed_bodies_that_were_changed() {
    let mut random = Random(2);
    let samples = well_formed();
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..400_000 {
        let mut body = samples[random.below(samples.len())].clone();
        mutate(&mut random, &mut body);
        *(if watched_request(&body) { &mut accepted } else { &mut refused }) += 1;
    }
    assert!(accepted > 10_000 && refused > 10_000, "{accepted} accepted, {refused} refused");
}

#[test]
fn random_and_changed_streams_of_frames() {
    let mut random = Random(3);
    let samples = well_formed();
    let mut seen = 0;
    for n in 0..200_000 {
        let mut stream = Vec::new();
        for _ in 0..=random.below(2) {
            let body = &samples[random.below(samples.len())];
            frame::append::<()>(&mut stream, n, |out| {
                out.extend_from_slice(body);
                Ok(())
            })
            .unwrap();
        }
        mutate(&mut random, &mut stream);
        if n % 4 == 0 {
            stream = (0..random.below(64)).map(|_| random.byte()).collect();
        }
        let limit = if n % 2 == 0 { frame::MAX_HELLO_FRAME } else { frame::MAX_FRAME };
        checks::frames(&stream, limit, |body| {
            watched_request(body);
            seen += 1;
        });
    }
    assert!(seen > 50_000, "only {seen} frames were whole");
}

#[test]
fn the_unchanged_samples_are_accepted() {
    for body in well_formed() {
        assert!(watched_request(&body), "{body:02x?}");
    }
    for (opcode, body) in documented_bodies("reply") {
        assert!(watched_reply(opcode, &body), "{opcode:#04x}: {body:02x?}");
    }
}

#[test]
fn a_reply_that_claims_a_million_entries_gets_no_memory_for_them() {
    // Success, then a list of 2^32 - 1 entries; where the list comes later, after what precedes it.
    for (opcode, body) in documented_bodies("reply") {
        for at in 1..=body.len() {
            let claims = [&body[..at], &[0xff, 0xff, 0xff, 0xff, 0x0f]].concat();
            watched_reply(opcode, &claims);
        }
    }
}
