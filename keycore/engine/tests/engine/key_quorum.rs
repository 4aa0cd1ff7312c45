//! M of N for a single key: what of it needs approvals, whose count, and that they can be had.

use keycore_wire::{
    Attribute, AttributeChange, Attributes, CipherMechanism, Decrypt, DeleteKey, DeriveKey, DeriveMechanism,
    Encrypt, GenerateKey, Hash, IdempotencyKey, KeyAlgorithm, KeyForm, KeyId, KeyInfo, KeyPurpose,
    KeyTemplate, ListShares, Logout, Operation, QuorumApprove, QuorumDelete, QuorumList, QuorumService,
    QuorumSetPolicy, QuorumSetValue, QuorumToken, Refusal, RefusalCode, Role, RotateKey, SetAttribute,
    ShareKey, Sign, SignData, SignMechanism, SignatureScheme, Signer, TlsSign, TlsSignTimed, UnshareKey,
    UnwrapKey, UserDelete, UserRemoveKey, VerifyData, WrapKey, WrapMechanism, encode_request,
};

use crate::harness::{Client, Replica, World, generate, handshake, name, random_key};
use crate::quorum::{OwnKey, propose, register};

const RULES: &str = include_str!("../../../../docs/quorum.md");
const REQUIRED: RefusalCode = RefusalCode::QuorumRequired;

/// A cluster whose crypto users web, ann and ben share keys; ann and ben have registered keys.
struct Partners {
    world: World,
    replica: Replica,
    ann: OwnKey,
    ben: OwnKey,
}

impl Partners {
    fn new() -> Self {
        let (world, replica) = World::active();
        let (ann, ben) = (OwnKey::p256(), OwnKey::p256());
        let mut root = replica.client_of("root");
        for (user, key) in [("ann", &ann), ("ben", &ben)] {
            root.create_user(user, Role::CryptoUser).unwrap();
            register(&mut replica.client_of(user), user, KeyPurpose::Approval, key).unwrap();
        }
        Self { world, replica, ann, ben }
    }

    fn key_of(&self, approver: &str) -> &OwnKey {
        if approver == "ann" { &self.ann } else { &self.ben }
    }

    fn approve(
        &self,
        client: &mut Client,
        approver: &str,
        token: &QuorumToken,
    ) -> Result<QuorumToken, Refusal> {
        let signature = self.key_of(approver).sign(&token.text);
        client.call(&QuorumApprove { token: token.id, approver: name(approver), signature })
    }

    /// Proposes an operation and has ann and ben approve it.
    fn agree<T: Operation>(&self, client: &mut Client, operation: &T) -> QuorumToken {
        let token = propose(client, operation).unwrap();
        self.approve(&mut self.replica.client_of("ann"), "ann", &token).unwrap();
        self.approve(&mut self.replica.client_of("ben"), "ben", &token).unwrap()
    }
}

fn shared(algorithm: KeyAlgorithm, usage: Attributes, label: &str, management: u8, using: u8) -> GenerateKey {
    let mut asked = generate(algorithm, usage, label);
    asked.template.share_with = vec![name("ann"), name("ben")];
    (asked.template.quorum_management, asked.template.quorum_usage) = (management, using);
    asked
}

fn sign(key: KeyId, data: &[u8]) -> SignData<'_> {
    let mechanism = SignMechanism::Hmac(Hash::Sha256);
    SignData { key, mechanism, prehashed: false, data }
}

fn body<T: Operation>(operation: &T) -> Vec<u8> {
    let mut body = Vec::new();
    encode_request(operation, &mut body).unwrap();
    body
}

/// What docs/quorum.md says of a key's operations: operation, then the value that it asks for.
fn documented() -> Vec<(String, Option<QuorumService>)> {
    let (_, table) = RULES.split_once("| operation | value of the key |\n|---|---|\n").unwrap();
    table
        .lines()
        .map_while(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "))
        .map(|(operation, value)| {
            let value = match value {
                "management" => Some(QuorumService::KeyManagement),
                "usage" => Some(QuorumService::KeyUsage),
                "–" => None,
                other => panic!("{operation}: {other:?} is no value"),
            };
            (operation.to_owned(), value)
        })
        .collect()
}

/// Keys of web for each kind of operation, all with the same values.
struct Keys {
    secret: KeyInfo,
    pair: KeyInfo,
    tls: KeyInfo,
    cipher: KeyInfo,
    base: KeyInfo,
    wrapping: KeyInfo,
    free: KeyInfo,
}

impl Keys {
    fn new(web: &mut Client, management: u8, using: u8) -> Self {
        let mut make = |algorithm, usage: Attributes, label| {
            web.call(&shared(algorithm, usage, label, management, using)).unwrap()
        };
        let extractable = Attributes::SIGN.with(Attributes::of(&[Attribute::Extractable]));
        Self {
            secret: make(KeyAlgorithm::GenericSecret(32), extractable, "secret"),
            pair: make(KeyAlgorithm::P256, Attributes::SIGN, "pair"),
            tls: make(KeyAlgorithm::P256, Attributes::TLS_SERVER, "tls"),
            cipher: make(KeyAlgorithm::Aes256, Attributes::ENCRYPT, "cipher"),
            base: make(KeyAlgorithm::GenericSecret(32), Attributes::DERIVE, "base"),
            wrapping: make(KeyAlgorithm::Aes256, Attributes::WRAP, "wrapping"),
            free: web.generate(KeyAlgorithm::Aes256, Attributes::WRAP, "free"),
        }
    }

    /// A request for each row of the table.
    fn request(&self, row: &str) -> Vec<u8> {
        let scheme = SignatureScheme::EcdsaP256Sha256;
        let gcm = CipherMechanism::AesGcm { aad: b"" };
        let template = |label: &str| KeyTemplate::new(label.parse().unwrap(), Attributes::SIGN);
        let message = handshake();
        match row {
            "SetAttribute" => {
                let change = AttributeChange::Label("other".parse().unwrap());
                body(&SetAttribute { key: self.secret.id, change })
            }
            "ShareKey" => body(&ShareKey { key: self.secret.id, with: name("eve") }),
            "UnshareKey" => body(&UnshareKey { key: self.secret.id, with: name("ann") }),
            "RotateKey" => {
                body(&RotateKey { idempotency_key: random_key(), key: self.pair.id, grace_secs: 60 })
            }
            "DeleteKey" => body(&DeleteKey { key: self.pair.id }),
            "WrapKey, of the key that is wrapped" => body(&WrapKey {
                wrapping: self.free.id,
                key: self.secret.id,
                mechanism: WrapMechanism::AesKwp,
            }),
            "WrapKey, of the key that wraps" => body(&WrapKey {
                wrapping: self.wrapping.id,
                key: self.secret.id,
                mechanism: WrapMechanism::AesKwp,
            }),
            "UnwrapKey" => body(&UnwrapKey {
                idempotency_key: random_key(),
                unwrapping: self.wrapping.id,
                mechanism: WrapMechanism::AesKwp,
                form: KeyForm::GenericSecret,
                wrapped: &[7; 24],
                template: template("unwrapped"),
            }),
            "Sign" => body(&Sign { key: self.pair.id, scheme, message: b"message" }),
            "SignData" => body(&sign(self.secret.id, b"message")),
            "TlsSignTimed" => {
                let (key, site) = (self.tls.spki_sha256.unwrap(), "");
                body(&TlsSignTimed(TlsSign { key, scheme, site, message: &message }))
            }
            "TlsSign" => {
                let key = self.tls.spki_sha256.unwrap();
                body(&TlsSign { key, scheme, site: "example.org", message: &message })
            }
            "Encrypt" => body(&Encrypt { key: self.cipher.id, mechanism: gcm, iv: b"", data: b"data" }),
            "Decrypt" => body(&Decrypt { key: self.cipher.id, mechanism: gcm, iv: &[0; 12], data: &[0; 32] }),
            "DeriveKey" => body(&DeriveKey {
                idempotency_key: random_key(),
                key: self.base.id,
                mechanism: DeriveMechanism::CounterKdf { hash: Hash::Sha256, fixed_input: b"context" },
                algorithm: KeyAlgorithm::GenericSecret(32),
                template: template("derived"),
            }),
            "VerifyData" => body(&VerifyData {
                signer: Signer::Key(self.secret.id),
                mechanism: SignMechanism::Hmac(Hash::Sha256),
                prehashed: false,
                data: b"message",
                signature: &[0; 32],
            }),
            "ListShares" => body(&ListShares { key: self.secret.id }),
            other => panic!("{other} is no operation of keys"),
        }
    }
}

fn is_required(client: &mut Client, request: &[u8]) -> bool {
    matches!(client.send(request).body[..], [1, code, ..] if code == REQUIRED.code())
}

#[test]
fn what_needs_a_keys_approvals_is_what_the_table_says() {
    let documented = documented();
    for (management, using, on) in
        [(2, 0, Some(QuorumService::KeyManagement)), (0, 2, Some(QuorumService::KeyUsage)), (1, 1, None)]
    {
        let partners = Partners::new();
        partners.replica.client_of("root").create_user("eve", Role::CryptoUser).unwrap();
        let mut web = partners.replica.client_of("web");
        let keys = Keys::new(&mut web, management, using);
        // What needs no approval may well delete a key: what needs some comes first.
        let (guarded, free): (Vec<_>, Vec<_>) =
            documented.iter().partition(|(_, service)| service.is_some() && *service == on);
        for (row, service) in guarded.into_iter().chain(free) {
            let required = is_required(&mut web, &keys.request(row));
            assert_eq!(required, service.is_some() && *service == on, "{row} with {management} and {using}");
        }
    }
    assert_eq!(documented.len(), 17);
}

#[test]
fn a_signature_is_made_once_of_what_was_approved() {
    let partners = Partners::new();
    let (mut web, other) = (partners.replica.client_of("web"), partners.world.replica(1));
    let key = web.call(&shared(KeyAlgorithm::GenericSecret(32), Attributes::SIGN, "k", 0, 2)).unwrap();
    let token = propose(&mut web, &sign(key.id, b"pay 5")).unwrap();
    let hash = data_encoding::HEXLOWER.encode(&<sha2::Sha256 as sha2::Digest>::digest(b"pay 5"));
    let said = format!(
        "needs: 2 approvals for key-usage of key {} k\noperation: SignData\nkey: {}\nmechanism: hmac-sha256\n\
         data-is: the message\ndata-sha256: {hash}\n",
        key.id, key.id
    );
    assert!(token.text.ends_with(&said), "{}", token.text);
    assert_eq!((token.needed, token.service), (2, QuorumService::KeyUsage));
    assert_eq!(propose(&mut web, &sign(key.id, b"pay 5")).unwrap().id, token.id);

    partners.approve(&mut other.client_of("ann"), "ann", &token).unwrap();
    assert_eq!(web.refused(&sign(key.id, b"pay 5")), REQUIRED);
    // Offline: the signature of one is handed in by another.
    assert_eq!(partners.approve(&mut web, "ben", &token).unwrap().approvers, [name("ann"), name("ben")]);
    // Other data, another session, another replica without that session.
    assert_eq!(web.refused(&sign(key.id, b"pay 9")), REQUIRED);
    assert_eq!(partners.replica.client_of("web").refused(&sign(key.id, b"pay 5")), REQUIRED);
    let code = web.call(&sign(key.id, b"pay 5")).unwrap();
    assert_eq!(code.bytes.len(), 32);
    assert_eq!(web.refused(&sign(key.id, b"pay 5")), REQUIRED);
    assert!(web.call(&QuorumList).unwrap().tokens.is_empty());

    let notes = partners
        .replica
        .audit
        .map(&partners.replica.engine, |entry| (entry.operation.to_owned(), entry.detail.to_owned()));
    let note = format!("hmac-sha256; approved by ann, ben (token {})", token.id);
    assert!(notes.contains(&("SignData".to_owned(), note)), "{notes:?}");
    // A sharee proposes as well, and then does not count.
    let mut ann = partners.replica.client_of("ann");
    let token = propose(&mut ann, &sign(key.id, b"pay 5")).unwrap();
    assert_eq!(partners.approve(&mut ann, "ann", &token).unwrap_err().code, RefusalCode::PermissionDenied);
}

#[test]
fn approvals_reach_over_replicas_and_are_used_on_one_of_them() {
    let partners = Partners::new();
    let mut web = partners.replica.client();
    let grant = web.login("web", crate::harness::PASSWORD).unwrap();
    let key = web.call(&shared(KeyAlgorithm::GenericSecret(32), Attributes::SIGN, "k", 0, 2)).unwrap();
    partners.agree(&mut web, &sign(key.id, b"data"));
    let second = partners.world.replica(1);
    let mut same = second.client();
    same.call(&keycore_wire::Resume { token: grant.token }).unwrap();
    let results = std::thread::scope(|scope| {
        let send = |client: &mut Client| client.call(&sign(key.id, b"data")).is_ok();
        let threads = [&mut web, &mut same].map(|client| scope.spawn(move || send(client)));
        threads.map(|thread| thread.join().unwrap())
    });
    assert_eq!(results.into_iter().filter(|done| *done).count(), 1, "{results:?}");
}

#[test]
fn a_change_is_made_with_its_arguments_and_a_refused_one_leaves_its_token() {
    let partners = Partners::new();
    partners.replica.client_of("root").create_user("eve", Role::CryptoUser).unwrap();
    let mut web = partners.replica.client_of("web");
    let key = web.call(&shared(KeyAlgorithm::P256, Attributes::SIGN, "k", 2, 0)).unwrap();
    // Using it needs none, being what it is already needs none.
    let scheme = SignatureScheme::EcdsaP256Sha256;
    web.call(&Sign { key: key.id, scheme, message: b"m" }).unwrap();
    web.call(&ShareKey { key: key.id, with: name("ann") }).unwrap();

    partners.agree(&mut web, &ShareKey { key: key.id, with: name("eve") });
    assert_eq!(web.refused(&ShareKey { key: key.id, with: name("mallory") }), RefusalCode::NotFound);
    web.call(&ShareKey { key: key.id, with: name("eve") }).unwrap();
    let label =
        |text: &str| SetAttribute { key: key.id, change: AttributeChange::Label(text.parse().unwrap()) };
    web.generate(KeyAlgorithm::P256, Attributes::SIGN, "taken");
    partners.agree(&mut web, &label("taken"));
    for _ in 0..2 {
        assert_eq!(web.refused(&label("taken")), RefusalCode::AlreadyExists);
    }
    partners.agree(&mut web, &label("new"));
    web.call(&label("new")).unwrap();
    assert_eq!(web.refused(&label("newer")), REQUIRED);
    // The new key of a rotation asks for as many, from the same users.
    let rotate = RotateKey { idempotency_key: random_key(), key: key.id, grace_secs: 60 };
    assert_eq!(web.refused(&rotate), REQUIRED);
    partners.agree(&mut web, &rotate);
    let successor = web.call(&rotate).unwrap();
    assert_eq!(web.call(&rotate).unwrap().id, successor.id);
    assert_eq!(web.refused(&DeleteKey { key: successor.id }), REQUIRED);
    partners.agree(&mut web, &DeleteKey { key: successor.id });
    web.call(&DeleteKey { key: successor.id }).unwrap();
}

#[test]
fn wrapping_takes_the_approvals_of_both_keys_by_one_token() {
    let partners = Partners::new();
    let mut web = partners.replica.client_of("web");
    let extractable = Attributes::SIGN.with(Attributes::of(&[Attribute::Extractable]));
    let key = web.call(&shared(KeyAlgorithm::GenericSecret(32), extractable, "k", 2, 0)).unwrap();
    let kek = web.call(&shared(KeyAlgorithm::Aes256, Attributes::WRAP, "kek", 2, 0)).unwrap();
    let wrap = WrapKey { wrapping: kek.id, key: key.id, mechanism: WrapMechanism::AesKwp };
    let token = partners.agree(&mut web, &wrap);
    assert_eq!(token.text.matches("needs: 2 approvals").count(), 2, "{}", token.text);
    let wrapped = web.call(&wrap).unwrap().bytes;
    assert_eq!(web.refused(&wrap), REQUIRED);
    let unwrap = |idempotency_key: IdempotencyKey, label: &str| UnwrapKey {
        idempotency_key,
        unwrapping: kek.id,
        mechanism: WrapMechanism::AesKwp,
        form: KeyForm::GenericSecret,
        wrapped: &wrapped,
        template: KeyTemplate::new(label.parse().unwrap(), Attributes::SIGN),
    };
    let request = random_key();
    partners.agree(&mut web, &unwrap(request, "again"));
    let made = web.call(&unwrap(request, "again")).unwrap();
    // The answer was lost, the approvals are used up: asked again, it is the same key.
    assert_eq!(web.call(&unwrap(request, "again")).unwrap().id, made.id);
    assert_eq!(web.refused(&unwrap(random_key(), "again")), REQUIRED);
    assert_eq!(web.refused(&unwrap(request, "another")), REQUIRED);
}

#[test]
fn whose_approvals_count_for_a_key() {
    let partners = Partners::new();
    let mut root = partners.replica.client_of("root");
    let eve_key = OwnKey::p256();
    for user in ["eve", "dan"] {
        root.create_user(user, Role::CryptoUser).unwrap();
    }
    register(&mut partners.replica.client_of("eve"), "eve", KeyPurpose::Approval, &eve_key).unwrap();
    register(&mut root, "root", KeyPurpose::Approval, &OwnKey::p256()).unwrap();
    let mut web = partners.replica.client_of("web");
    let mut asked = shared(KeyAlgorithm::GenericSecret(32), Attributes::SIGN, "k", 0, 2);
    asked.template.share_with.push(name("dan"));
    let key = web.call(&asked).unwrap();
    let token = propose(&mut web, &sign(key.id, b"data")).unwrap();
    let handed =
        |approver: &str, signature| QuorumApprove { token: token.id, approver: name(approver), signature };
    for (approver, signature, code) in [
        // Who may not use the key; who has no registered key; a signature of something else or by another.
        ("eve", eve_key.sign(&token.text), RefusalCode::PermissionDenied),
        ("root", partners.ann.sign(&token.text), RefusalCode::PermissionDenied),
        ("dan", partners.ann.sign(&token.text), RefusalCode::BadSignature),
        ("ann", partners.ben.sign(&token.text), RefusalCode::BadSignature),
        ("ann", partners.ann.sign(&token.text.replace("data", "date")), RefusalCode::BadSignature),
    ] {
        assert_eq!(web.refused(&handed(approver, signature)), code, "{approver}");
    }
    // To others the token does not exist, whether they list it, hand in a signature or delete it.
    for user in ["eve", "root"] {
        let mut client = partners.replica.client_of(user);
        assert!(client.call(&QuorumList).unwrap().tokens.is_empty(), "{user}");
        let good = handed("ann", partners.ann.sign(&token.text));
        assert_eq!(client.refused(&good), RefusalCode::NotFound, "{user}");
        assert_eq!(client.refused(&QuorumDelete { token: token.id }), RefusalCode::NotFound, "{user}");
        assert_eq!(
            propose(&mut client, &sign(key.id, b"data")).unwrap_err().code,
            if user == "eve" { RefusalCode::NotFound } else { RefusalCode::PermissionDenied }
        );
    }
    assert!(partners.replica.client().call(&QuorumList).unwrap().tokens.is_empty());
    let listed = partners.replica.client_of("dan").call(&QuorumList).unwrap().tokens;
    assert_eq!(listed, std::slice::from_ref(&token));
    // Approvals end with the share.
    for approver in ["ann", "ben"] {
        partners.approve(&mut web, approver, &token).unwrap();
    }
    register(&mut partners.replica.client_of("dan"), "dan", KeyPurpose::Approval, &OwnKey::p256()).unwrap();
    web.call(&UnshareKey { key: key.id, with: name("ann") }).unwrap();
    assert_eq!(web.refused(&sign(key.id, b"data")), REQUIRED);
}

#[test]
fn proposals_of_the_cluster_are_no_crypto_users() {
    let partners = Partners::new();
    let mut root = partners.replica.client_of("root");
    for user in ["alice", "bob"] {
        root.create_user(user, Role::Admin).unwrap();
        register(&mut partners.replica.client_of(user), user, KeyPurpose::Approval, &OwnKey::p256()).unwrap();
    }
    root.call(&QuorumSetValue { service: QuorumService::User, value: 2 }).unwrap();
    let token = propose(&mut root, &UserDelete { name: name("web") }).unwrap();
    let mut web = partners.replica.client_of("web");
    let approve =
        QuorumApprove { token: token.id, approver: name("ann"), signature: partners.ann.sign(&token.text) };
    assert_eq!(web.refused(&approve), RefusalCode::PermissionDenied);
    // Nor does a crypto user's signature count that an admin hands in.
    assert_eq!(root.refused(&approve), RefusalCode::BadSignature);
    assert_eq!(web.refused(&QuorumDelete { token: token.id }), RefusalCode::PermissionDenied);
    let proposed = propose(&mut web, &UserDelete { name: name("ann") });
    assert_eq!(proposed.unwrap_err().code, RefusalCode::PermissionDenied);
}

#[test]
fn a_keys_values_stay_within_reach() {
    let partners = Partners::new();
    let mut web = partners.replica.client_of("web");
    for (management, using, code) in [
        (9, 0, RefusalCode::InvalidAttributes),
        (3, 0, RefusalCode::QuorumUnreachable),
        (0, 3, RefusalCode::QuorumUnreachable),
    ] {
        let asked = shared(KeyAlgorithm::P256, Attributes::SIGN, "k", management, using);
        assert_eq!(web.refused(&asked), code, "{management} {using}");
    }
    let mut unshared = shared(KeyAlgorithm::P256, Attributes::SIGN, "k", 2, 0);
    unshared.template.share_with.clear();
    assert_eq!(web.refused(&unshared), RefusalCode::QuorumUnreachable);
    // A session key is nobody else's.
    let mut of_session = shared(KeyAlgorithm::P256, Attributes::SIGN, "k", 0, 0);
    of_session.template.attributes = of_session.template.attributes.set(Attribute::Token, false);
    assert_eq!(web.refused(&of_session), RefusalCode::KeyNotSuitable);

    let key = web.call(&shared(KeyAlgorithm::P256, Attributes::SIGN, "k", 0, 2)).unwrap();
    let mut root = partners.replica.client_of("root");
    let remove = UserRemoveKey { name: name("ann"), purpose: KeyPurpose::Approval };
    let unshare = UnshareKey { key: key.id, with: name("ann") };
    assert_eq!(web.refused(&unshare), RefusalCode::QuorumUnreachable);
    assert_eq!(root.refused(&remove), RefusalCode::QuorumUnreachable);
    assert_eq!(root.refused(&UserDelete { name: name("ann") }), RefusalCode::QuorumUnreachable);
    // Self-approval makes no value reachable that would not be without it.
    root.call(&QuorumSetPolicy { timeout_secs: None, self_approval: Some(true) }).unwrap();
    assert_eq!(
        web.refused(&shared(KeyAlgorithm::P256, Attributes::SIGN, "k2", 3, 0)),
        RefusalCode::QuorumUnreachable
    );
    // With a third one any of them may go.
    root.create_user("dan", Role::CryptoUser).unwrap();
    register(&mut partners.replica.client_of("dan"), "dan", KeyPurpose::Approval, &OwnKey::p256()).unwrap();
    web.call(&ShareKey { key: key.id, with: name("dan") }).unwrap();
    root.call(&remove).unwrap();
    root.call(&UserDelete { name: name("ann") }).unwrap();
    assert_eq!(root.refused(&UserDelete { name: name("ben") }), RefusalCode::QuorumUnreachable);
    web.call(&DeleteKey { key: key.id }).unwrap();
    root.call(&UserDelete { name: name("ben") }).unwrap();
}

#[test]
fn a_keys_proposals_end_with_their_session_and_are_limited_for_each_user() {
    let partners = Partners::new();
    let mut web = partners.replica.client_of("web");
    let key = web.call(&shared(KeyAlgorithm::GenericSecret(32), Attributes::SIGN, "k", 0, 2)).unwrap();
    for n in 0..16_u8 {
        propose(&mut web, &sign(key.id, &[n])).unwrap();
    }
    let refused = propose(&mut web, &sign(key.id, &[16])).unwrap_err();
    assert_eq!(refused.code, RefusalCode::LimitReached);
    propose(&mut partners.replica.client_of("ann"), &sign(key.id, b"another user's")).unwrap();
    web.call(&Logout).unwrap();
    let mut web = partners.replica.client_of("web");
    propose(&mut web, &sign(key.id, &[16])).unwrap();
    let needless = propose(&mut web, &DeleteKey { key: key.id }).unwrap_err();
    assert_eq!(needless.code, RefusalCode::QuorumNotNeeded);
}
