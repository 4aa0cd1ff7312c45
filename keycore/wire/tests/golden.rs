//! The frames printed in `docs/wire-protocol.md` are what this crate writes and reads.
//!
//! When the protocol grows, add a sample here: the failing test prints the block for the document.

#![allow(clippy::unwrap_used)]

use data_encoding::HEXLOWER;
use keycore_wire::*;

#[path = "malformed/documented.rs"]
mod documented;

use documented::{DOCUMENT, Frames, documented};

/// The request id of every frame in the document.
const ID: u32 = 7;

fn framed(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    frame::append::<()>(&mut out, ID, |out| {
        write(out);
        Ok(())
    })
    .unwrap();
    out
}

/// The body of the one frame in `bytes`.
fn body(bytes: &[u8]) -> &[u8] {
    let (frame, took) = frame::split(bytes, frame::MAX_FRAME).unwrap().unwrap();
    assert_eq!((frame.id, took), (ID, bytes.len()));
    frame.body
}

macro_rules! operations {
    ($($name:ident ($request:expr) => $reply:ident ($answer:expr);)*) => {
        /// What the document should print.
        fn samples() -> Frames {
            let mut frames = Frames::new();
            $(
                let request = framed(|out| encode_request(&$request, out).unwrap());
                frames.insert(concat!(stringify!($name), " request").into(), request);
                let reply = framed(|out| Reply::encode(&Ok(Reply::$reply($answer)), out));
                frames.insert(concat!(stringify!($name), " reply").into(), reply);
            )*
            frames.insert("DeleteKey refusal".into(), framed(|out| Reply::encode(&Err(refusal()), out)));
            frames
        }

        /// Decodes a request and encodes it again.
        fn request_again(bytes: &[u8]) -> (&'static str, Vec<u8>) {
            let request = Request::decode(body(bytes)).unwrap();
            let again = framed(|out| match &request {
                $(Request::$name(operation) => encode_request(operation, out).unwrap(),)*
            });
            (request.name(), again)
        }

        /// Decodes a reply to the operation and encodes it again.
        fn reply_again(operation: &str, bytes: &[u8]) -> Vec<u8> {
            let result = match operation {
                $(stringify!($name) => decode_reply::<$name>(body(bytes)).map(|reply| Reply::$reply(reply.into())),)*
                other => panic!("no operation {other}"),
            };
            framed(|out| Reply::encode(&Ok(result.unwrap()), out))
        }
    };
}

operations! {
    Hello (Hello::new("hsm 0.1.0")) => Hello (hello_reply());
    Ping (Ping) => Done (Done);
    ClusterInfo (ClusterInfo) => ClusterStatus (status(ClusterState::Active));
    InitializeCluster (InitializeCluster) => ClusterStatus (status(ClusterState::Initialized));
    ActivateCluster (ActivateCluster { admin: "admin".parse().unwrap(), password: secret() }) => ClusterStatus (status(ClusterState::Active));
    InitializeBy (InitializeBy { method: UnsealMethod::Custodians { needed: 2, of: 3 } }) => NewUnseal (NewUnseal { status: Box::new(status(ClusterState::Initialized)), shares: vec![secret()] });
    ChangeUnseal (ChangeUnseal { method: UnsealMethod::Passphrase, secret: Some(secret()) }) => NewUnseal (NewUnseal { status: Box::new(status(ClusterState::Active)), shares: Vec::new() });
    PrepareCustodians (PrepareCustodians { needed: 2, of: 3 }) => PreparedCustodians (PreparedCustodians { shares: vec![secret()], expires_at: UnixMillis(1_700_000_000_000) });
    ConfirmCustodians (ConfirmCustodians { shares: vec![secret()] }) => ClusterStatus (status(ClusterState::Active));
    RotateClusterKey (RotateClusterKey) => ClusterStatus (status(ClusterState::Active));
    UnsealCluster (UnsealCluster { part: secret() }) => ClusterStatus (status(ClusterState::Sealed));
    ClusterCsr (ClusterCsr { names: vec![ClusterName::Dns("hsm.example".into()), ClusterName::Ip([192, 0, 2, 1].into())] }) => CertificationRequest (CertificationRequest { der: vec![0x30, 0x00] });
    SetClusterCertificate (SetClusterCertificate { chain: vec![vec![0x30, 0x00]], trust_anchor: vec![0x30, 0x00] }) => ClusterStatus (status(ClusterState::Active));
    Login (Login { user: "web".parse().unwrap(), password: secret() }) => SessionGrant (grant());
    Resume (Resume { token: token() }) => SessionGrant (grant());
    Logout (Logout) => Done (Done);
    SessionList (SessionList { of: SessionsOf::User("web".parse().unwrap()), after: Some(SessionHandle([0xaa; 16])), limit: 64 }) => SessionPage (SessionPage { sessions: vec![session()], more: false });
    SessionEnd (SessionEnd { session: SessionHandle([0xaa; 16]) }) => Done (Done);
    UserCreate (UserCreate { idempotency_key: IdempotencyKey([0xdd; 16]), name: "web".parse().unwrap(), role: Role::CryptoUser, password: Some(secret()), peer_uid: Some(990) }) => UserInfo (user());
    PeerLogin (PeerLogin { user: "web".parse().unwrap() }) => SessionGrant (grant());
    LoginChallenge (LoginChallenge { user: "root".parse().unwrap(), password: secret() }) => Challenge (Challenge { text: "hsm login challenge v1\n".into() });
    SignedLogin (SignedLogin { challenge: "hsm login challenge v1\n".into(), signature: vec![0x30, 0x00] }) => SessionGrant (grant());
    UserRegisterKey (UserRegisterKey { purpose: KeyPurpose::Approval, spki: vec![0x30, 0x00], proof: vec![0x30, 0x00], current: Some(secret()) }) => UserInfo (user());
    UserRemoveKey (UserRemoveKey { name: "web".parse().unwrap(), purpose: KeyPurpose::SecondFactor }) => UserInfo (user());
    QuorumPropose (QuorumPropose { operation: Secret::new(vec![0x22, 3, b'w', b'e', b'b']) }) => QuorumToken (token_of_quorum());
    QuorumApprove (QuorumApprove { token: QuorumTokenId([0xab; 16]), approver: "alice".parse().unwrap(), signature: vec![0x30, 0x00] }) => QuorumToken (token_of_quorum());
    QuorumDelete (QuorumDelete { token: QuorumTokenId([0xab; 16]) }) => Done (Done);
    QuorumList (QuorumList) => QuorumTokens (QuorumTokens { tokens: vec![token_of_quorum()] });
    QuorumPolicy (QuorumPolicy) => QuorumRules (quorum_rules());
    QuorumSetValue (QuorumSetValue { service: QuorumService::User, value: 2 }) => QuorumRules (quorum_rules());
    QuorumSetPolicy (QuorumSetPolicy { timeout_secs: Some(900), self_approval: None }) => QuorumRules (quorum_rules());
    UserSetPeerUid (UserSetPeerUid { name: "web".parse().unwrap(), peer_uid: None }) => UserInfo (user());
    UserLogout (UserLogout { name: "web".parse().unwrap() }) => Done (Done);
    UserList (UserList { after: None, limit: 256 }) => UserPage (UserPage { users: vec![user()], more: false });
    UserDelete (UserDelete { name: "web".parse().unwrap() }) => Done (Done);
    UserChangePassword (UserChangePassword { name: None, current: Some(secret()), new: Secret::new(b"new password".to_vec()) }) => Done (Done);
    GenerateKey (GenerateKey { idempotency_key: IdempotencyKey([0xdd; 16]), algorithm: KeyAlgorithm::P256, template: template() }) => KeyInfo (key().into());
    ImportKey (ImportKey { idempotency_key: IdempotencyKey([0xdd; 16]), template: template(), key: PlainKey::Pkcs8(Secret::new(vec![0x30, 0x00])) }) => KeyInfo (key().into());
    ListKeys (ListKeys { after: Some(KeyId([0xaa; 16])), limit: 10 }) => KeyPage (KeyPage { keys: vec![key()], more: true });
    FindKey (FindKey { key: KeySelector::Label("tls/www".parse().unwrap()) }) => KeyInfo (key().into());
    PublicKey (PublicKey { key: KeySelector::SpkiSha256(SpkiSha256([0xee; 32])) }) => PublicKey (PublicKeyReply { info: key(), spki: vec![0x30, 0x00] }.into());
    DeleteKey (DeleteKey { key: KeyId([0xaa; 16]) }) => Done (Done);
    SetAttribute (SetAttribute { key: KeyId([0xaa; 16]), change: AttributeChange::Set(Attribute::Extractable, false) }) => KeyInfo (key().into());
    ShareKey (ShareKey { key: KeyId([0xaa; 16]), with: "app".parse().unwrap() }) => Done (Done);
    UnshareKey (UnshareKey { key: KeyId([0xaa; 16]), with: "app".parse().unwrap() }) => Done (Done);
    ListShares (ListShares { key: KeyId([0xaa; 16]) }) => KeyShares (KeyShares { with: vec!["app".parse().unwrap()] });
    ListSharedKeys (ListSharedKeys { after: None, limit: 10 }) => KeyPage (KeyPage { keys: vec![key()], more: false });
    RotateKey (RotateKey { idempotency_key: IdempotencyKey([0xdd; 16]), key: KeyId([0xaa; 16]), grace_secs: 86_400 }) => KeyInfo (key().into());
    ListSessionKeys (ListSessionKeys) => SessionKeyList (SessionKeyList { keys: vec![key()] });
    ZeroizeKeys (ZeroizeKeys { user: "web".parse().unwrap() }) => Zeroized (Zeroized { keys: 3 });
    ZeroizeCluster (ZeroizeCluster { cluster: ClusterId([0xcc; 16]) }) => Done (Done);
    TlsSign (TlsSign { key: SpkiSha256([0xee; 32]), scheme: SignatureScheme::EcdsaP256Sha256, site: "www.example.org", message: &certificate_verify() }) => Signature (Signature { bytes: vec![0x30, 0x00] });
    TlsSignTimed (TlsSignTimed(TlsSign { key: SpkiSha256([0xee; 32]), scheme: SignatureScheme::EcdsaP256Sha256, site: "www.example.com", message: b"message" })) => TimedSignature (TimedSignature { bytes: vec![0x30, 0x00], queued_us: 3, computing_us: 200 });
    Sign (Sign { key: KeyId([0xaa; 16]), scheme: SignatureScheme::Ed25519, message: b"message" }) => Signature (Signature { bytes: vec![0x30, 0x00] });
    BackupCreate (BackupCreate) => BackupInfo (backup());
    BackupList (BackupList { after: Some("backup.age".into()), limit: 64 }) => BackupPage (BackupPage { backups: vec![backup()], damaged: vec![("other.age".into(), "truncated".into())], more: false });
    BackupVerify (BackupVerify { identity: secret() }) => Done (Done);
    BackupRestore (BackupRestore { identity: secret(), rehearse: true }) => Done (Done);
    BackupChunk (BackupChunk { offset: 65_536, bytes: &[1, 2, 3] }) => Done (Done);
    BackupEnd (BackupEnd) => BackupContent (*backup().content);
    BackupEndBy (BackupEndBy { method: UnsealMethod::Custodians { needed: 2, of: 3 } }) => NewUnseal (NewUnseal { status: Box::new(status(ClusterState::Sealed)), shares: vec![secret()] });
    Random (Random { length: 4 }) => RandomBytes (RandomBytes { bytes: vec![1, 2, 3, 4] });
    SignData (SignData { key: KeyId([0xaa; 16]), mechanism: SignMechanism::Ecdsa(Hash::Sha256, EcdsaEncoding::Fixed), prehashed: true, data: &[0x55; 32] }) => Signature (Signature { bytes: vec![1, 2, 3, 4] });
    VerifyData (VerifyData { signer: Signer::PublicKey(&[0x30, 0x00]), mechanism: SignMechanism::RsaPss(Hash::Sha384), prehashed: false, data: b"message", signature: &[1, 2, 3, 4] }) => Done (Done);
    Encrypt (Encrypt { key: KeyId([0xaa; 16]), mechanism: CipherMechanism::AesGcm { aad: b"header" }, iv: &[], data: b"message" }) => Ciphertext (Ciphertext { iv: vec![9; 12], bytes: vec![1, 2, 3, 4] });
    Decrypt (Decrypt { key: KeyId([0xaa; 16]), mechanism: CipherMechanism::RsaOaep { hash: Hash::Sha256, label: b"" }, iv: &[], data: &[1, 2, 3, 4] }) => Plaintext (Plaintext { bytes: secret() });
    Digest (Digest { hash: Hash::Sha512, data: b"abc" }) => Digest (DigestValue { bytes: vec![1, 2, 3, 4] });
    DeriveKey (DeriveKey { idempotency_key: IdempotencyKey([0xdd; 16]), key: KeyId([0xaa; 16]), mechanism: DeriveMechanism::Hkdf { hash: Hash::Sha256, salt: b"salt", info: b"info" }, algorithm: KeyAlgorithm::Aes256, template: KeyTemplate::new("derived".parse().unwrap(), Attributes::ENCRYPT) }) => KeyInfo (Box::new(key()));
    WrapKey (WrapKey { wrapping: KeyId([0xaa; 16]), key: KeyId([0xab; 16]), mechanism: WrapMechanism::RsaAes(Hash::Sha256) }) => WrappedKey (WrappedKey { bytes: vec![1, 2, 3, 4] });
    UnwrapKey (UnwrapKey { idempotency_key: IdempotencyKey([0xdd; 16]), unwrapping: KeyId([0xaa; 16]), mechanism: WrapMechanism::AesKwp, form: KeyForm::Pkcs8, wrapped: &[1, 2, 3, 4], template: KeyTemplate::new("unwrapped".parse().unwrap(), Attributes::SIGN) }) => KeyInfo (Box::new(key()));
    SelfTest (SelfTest) => SelfTestReport (self_test_report());
    AuditAnchors (AuditAnchors) => AuditAnchorList (anchors());
}

fn anchors() -> AuditAnchorList {
    let anchor = AuditAnchor {
        replica: 1,
        boot: 2,
        at_micros: 1_700_000_000_000_000,
        sequence: 300,
        head: [0xaa; 32],
        signature: vec![0xab; 64],
    };
    AuditAnchorList { cluster: ClusterId([0xcc; 16]), public_key: [0xee; 32], anchors: vec![anchor] }
}

fn backup() -> BackupInfo {
    BackupInfo {
        name: "backup.age".into(),
        size: 4096,
        content: Box::new(BackupContent {
            cluster: ClusterId([0xcc; 16]),
            revision: 12,
            made_at: UnixMillis(1_700_000_000_000),
            engine: "0.1.0".into(),
            records: 605,
            users: 2,
            keys: 300,
        }),
        recipients: vec!["0011223344556677".into()],
        payload_sha256: "ee".repeat(32),
    }
}

fn secret() -> Secret {
    Secret::new(b"correct horse".to_vec())
}

fn token() -> SessionToken {
    SessionToken(Secret::new(vec![0xab; 4]))
}

fn refusal() -> Refusal {
    Refusal::new(RefusalCode::NotFound, "no such key")
}

fn certificate_verify() -> Vec<u8> {
    [&[b' '; 64][..], b"TLS 1.3, server CertificateVerify\0", &[0x55; 32]].concat()
}

fn hello_reply() -> HelloReply {
    HelloReply {
        version: 1,
        cluster: Some(ClusterId([0xcc; 16])),
        state: ClusterState::Active,
        replica: 1,
        limits: Limits { max_frame: 131_072, max_in_flight: 256 },
    }
}

fn status(state: ClusterState) -> ClusterStatus {
    ClusterStatus {
        cluster: Some(ClusterId([0xcc; 16])),
        state,
        replica: 1,
        pid: 4242,
        version: "0.1.0".into(),
        started_at: UnixMillis(1_700_000_000_000),
        revision: 12,
        users: 2,
        keys: 300,
        failed_self_test: None,
        restored: Some(Box::new(RestoredFrom {
            revision: 9,
            made_at: UnixMillis(1_690_000_000_000),
            restored_at: UnixMillis(1_700_000_000_000),
        })),
        backups: Some(Box::new(BackupHealth {
            made_at: Some(UnixMillis(1_690_000_000_000)),
            name: "backup.age".into(),
            failures: 1,
            failure: "no space".into(),
        })),
        unseal: Some(Box::new(UnsealStatus {
            method: UnsealMethod::Custodians { needed: 2, of: 3 },
            shares_given: 1,
            generation: Some(2),
            resealing: Some(Resealing { done: 100, total: 300 }),
        })),
        zone: Some("zone-a".parse().unwrap()),
        connections: 3,
        sessions: 2,
        certificate: Some(Box::new(ClusterCertificateStatus {
            subject: "CN=hsm".into(),
            not_after: UnixMillis(1_800_000_000_000),
            sha256: [0xc1; 32],
            trust_anchor_sha256: [0xc2; 32],
        })),
    }
}

fn self_test_report() -> SelfTestReport {
    SelfTestReport {
        ran_at: UnixMillis(1_700_000_000_000),
        library: "AWS-LC 5.1.0".into(),
        fips: false,
        failed: None,
        tests: vec![SelfTestOutcome { name: "SHA-256".into(), source: "FIPS 180-4".into(), passed: true }],
    }
}

fn grant() -> SessionGrant {
    SessionGrant {
        user: UserId([0xbb; 16]),
        role: Role::CryptoUser,
        token: token(),
        expires_at: UnixMillis(1_700_000_000_000),
        lifetime_secs: 43_200,
    }
}

fn session() -> SessionInfo {
    SessionInfo {
        handle: SessionHandle([0xab; 16]),
        user: "web".parse().unwrap(),
        role: Role::CryptoUser,
        issued_at: UnixMillis(1_700_000_000_000),
        expires_at: UnixMillis(1_700_043_200_000),
        last_used_at: UnixMillis(1_700_000_600_000),
        current: false,
        connections: 4,
        peers: vec![SessionPeer::Process { uid: 990, gid: 990, pid: 4242 }],
    }
}

fn user() -> UserInfo {
    UserInfo {
        id: UserId([0xbb; 16]),
        name: "web".parse().unwrap(),
        role: Role::CryptoUser,
        locked: false,
        password: true,
        peer_uid: Some(990),
        second_factor: None,
        approval_key: Some(SpkiSha256([0xee; 32])),
        created_at: UnixMillis(1_700_000_000_000),
    }
}

fn template() -> KeyTemplate {
    KeyTemplate::new("tls/www".parse().unwrap(), Attributes::TLS_SERVER)
}

fn token_of_quorum() -> QuorumToken {
    QuorumToken {
        id: QuorumTokenId([0xab; 16]),
        service: QuorumService::User,
        proposer: "root".parse().unwrap(),
        text: "hsm quorum approval v1\n".into(),
        needed: 2,
        approvers: vec!["alice".parse().unwrap()],
        expires_at: UnixMillis(1_700_000_000_000),
    }
}

fn quorum_rules() -> QuorumRules {
    QuorumRules { user: 2, cluster: 1, quorum: 2, timeout_secs: 600, self_approval: false, approvers: 3 }
}

fn key() -> KeyInfo {
    KeyInfo {
        id: KeyId([0xaa; 16]),
        owner: UserId([0xbb; 16]),
        label: "tls/www".parse().unwrap(),
        algorithm: KeyAlgorithm::P256,
        attributes: Attributes::DEFAULT.with(Attributes::TLS_SERVER).set(Attribute::Local, true),
        spki_sha256: Some(SpkiSha256([0xee; 32])),
        check_value: [1, 2, 3],
        quorum_management: 0,
        quorum_usage: 0,
        wrap_template: None,
        unwrap_template: None,
        predecessor: None,
        retired_until: None,
        created_at: UnixMillis(1_700_000_000_000),
    }
}

#[test]
fn the_document_prints_the_samples() {
    let documented = documented();
    let mut wrong = 0;
    for (name, bytes) in samples() {
        if documented.get(&name) != Some(&bytes) {
            println!("GOLDEN {name}: {}", HEXLOWER.encode(&bytes));
            wrong += 1;
        }
    }
    assert_eq!(wrong, 0, "frames are missing or wrong in docs/wire-protocol.md; the right ones are above");
}

#[test]
fn every_documented_frame_decodes_and_encodes_to_the_same_bytes() {
    for (name, bytes) in documented() {
        let (operation, what) = name.split_once(' ').unwrap();
        match what {
            "request" => assert_eq!(request_again(&bytes), (operation, bytes)),
            "reply" => assert_eq!(reply_again(operation, &bytes), bytes, "{name}"),
            "refusal" => {
                let error = decode_reply::<DeleteKey>(body(&bytes)).unwrap_err();
                assert_eq!(error, ReplyError::Refused(refusal()));
            }
            other => panic!("a frame is a request, a reply or a refusal, not a {other}"),
        }
    }
}

#[test]
fn every_operation_and_every_refusal_code_is_documented() {
    for (opcode, name) in Request::TABLE {
        let heading = format!("### {opcode:#04x} {name} (");
        assert!(DOCUMENT.contains(&heading), "no heading {heading}");
    }
    for code in RefusalCode::ALL {
        let blame = match code.blame() {
            Blame::Request => "request",
            Blame::Credentials => "credentials",
            Blame::Content => "content",
            Blame::Engine => "engine",
        };
        let retry = if code.is_worth_retrying() { "yes" } else { "no" };
        let row = format!("| {} | {code:?} | {blame} | {retry} | ", code.code());
        assert!(DOCUMENT.contains(&row), "no row {row}");
    }
}
