//! M of N, and the second factor: what needs approvals, whose count, and for how long.

use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use keycore_wire::{
    Attributes, BackupCreate, BackupList, ChangeUnseal, ClusterCsr, ClusterId, ClusterInfo,
    ConfirmCustodians, IdempotencyKey, KeyAlgorithm, KeyPurpose, LoginChallenge, Logout, Operation,
    PeerLogin, PrepareCustodians, QuorumApprove, QuorumDelete, QuorumList, QuorumPolicy, QuorumPropose,
    QuorumService, QuorumSetPolicy, QuorumSetValue, QuorumToken, Refusal, RefusalCode, Role,
    RotateClusterKey, Secret, SetClusterCertificate, SignedLogin, SpkiSha256, UnsealMethod,
    UserChangePassword, UserCreate, UserDelete, UserList, UserLogout, UserRegisterKey, UserRemoveKey,
    UserSetPeerUid, ZeroizeCluster, ZeroizeKeys, encode_request,
};

use crate::harness::{Client, PASSWORD, Replica, World, name, random_key, secret};

/// A user's own key, outside of the HSM.
pub(crate) enum OwnKey {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl OwnKey {
    pub(crate) fn p256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap())
    }

    fn spki(&self) -> Vec<u8> {
        let der = |der: PublicKeyX509Der<'_>| der.as_ref().to_vec();
        match self {
            Self::P256(key) => der(key.public_key().as_der().unwrap()),
            Self::Ed25519(key) => der(key.public_key().as_der().unwrap()),
            Self::Rsa(key) => der(key.public_key().as_der().unwrap()),
        }
    }

    pub(crate) fn sign(&self, text: &str) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::P256(key) => key.sign(&random, text.as_bytes()).unwrap().as_ref().to_vec(),
            Self::Ed25519(key) => key.sign(text.as_bytes()).as_ref().to_vec(),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut signature).unwrap();
                signature
            }
        }
    }
}

/// Registers `key` of the client's user.
pub(crate) fn register(
    client: &mut Client,
    user: &str,
    purpose: KeyPurpose,
    key: &OwnKey,
) -> Result<(), Refusal> {
    let cluster = client.call(&ClusterInfo).unwrap().cluster.unwrap();
    let spki = key.spki();
    let hash = SpkiSha256(<sha2::Sha256 as sha2::Digest>::digest(&spki).into());
    let proof = key.sign(&purpose.registration(cluster, &name(user), hash));
    client.call(&UserRegisterKey { purpose, spki, proof, current: Some(secret(PASSWORD)) }).map(|_| ())
}

/// An active cluster with the admins root, alice and bob, of whom the last two have keys.
struct Committee {
    world: World,
    replica: Replica,
    alice: OwnKey,
    bob: OwnKey,
}

impl Committee {
    fn new() -> Self {
        let (world, replica) = World::active();
        let (alice, bob) = (OwnKey::p256(), OwnKey::Ed25519(Ed25519KeyPair::generate().unwrap()));
        let mut root = replica.client_of("root");
        for (user, key) in [("alice", &alice), ("bob", &bob)] {
            root.create_user(user, Role::Admin).unwrap();
            register(&mut replica.client_of(user), user, KeyPurpose::Approval, key).unwrap();
        }
        Self { world, replica, alice, bob }
    }

    /// The same, and the service needs `value` approvals.
    fn needing(service: QuorumService, value: u8) -> Self {
        let committee = Self::new();
        committee.replica.client_of("root").call(&QuorumSetValue { service, value }).unwrap();
        committee
    }

    fn approve(
        &self,
        client: &mut Client,
        approver: &str,
        token: &QuorumToken,
    ) -> Result<QuorumToken, Refusal> {
        let key = if approver == "alice" { &self.alice } else { &self.bob };
        let signature = key.sign(&token.text);
        client.call(&QuorumApprove { token: token.id, approver: name(approver), signature })
    }
}

pub(crate) fn propose<T: Operation>(client: &mut Client, operation: &T) -> Result<QuorumToken, Refusal> {
    let mut body = Vec::new();
    encode_request(operation, &mut body).unwrap();
    client.call(&QuorumPropose { operation: Secret::new(body) })
}

fn create(user: &str, idempotency_key: IdempotencyKey) -> UserCreate {
    let password = Some(secret(PASSWORD));
    UserCreate { idempotency_key, name: name(user), role: Role::CryptoUser, password, peer_uid: None }
}

fn delete(user: &str) -> UserDelete {
    UserDelete { name: name(user) }
}

const REQUIRED: RefusalCode = RefusalCode::QuorumRequired;

/// Each operation of an admin, and the service whose value it needs.
#[test]
fn what_needs_approvals_is_what_the_table_says() {
    type Send = fn(&mut Client) -> Result<(), Refusal>;
    const USER: Option<QuorumService> = Some(QuorumService::User);
    const QUORUM: Option<QuorumService> = Some(QuorumService::Quorum);
    let table: [(&str, Option<QuorumService>, Send); 21] = [
        ("UserCreate", USER, |c| c.call(&create("carol", random_key())).map(|_| ())),
        ("UserDelete", USER, |c| c.call(&delete("nobody")).map(|_| ())),
        ("UserChangePassword, another's", USER, |c| {
            let (name, new) = (Some(name("nobody")), secret("another password"));
            c.call(&UserChangePassword { name, current: None, new }).map(|_| ())
        }),
        ("UserChangePassword, own", None, |c| {
            let (current, new) = (Some(secret("wrong one")), secret("another password"));
            c.call(&UserChangePassword { name: None, current, new }).map(|_| ())
        }),
        ("UserSetPeerUid", USER, |c| {
            c.call(&UserSetPeerUid { name: name("nobody"), peer_uid: Some(1) }).map(|_| ())
        }),
        ("UserRemoveKey", USER, |c| {
            c.call(&UserRemoveKey { name: name("nobody"), purpose: KeyPurpose::SecondFactor }).map(|_| ())
        }),
        ("ZeroizeKeys", USER, |c| c.call(&ZeroizeKeys { user: name("nobody") }).map(|_| ())),
        ("UserLogout", None, |c| c.call(&UserLogout { name: name("nobody") }).map(|_| ())),
        // Of another cluster, so that none is destroyed where nobody is asked.
        ("ZeroizeCluster", Some(QuorumService::Cluster), |c| {
            c.call(&ZeroizeCluster { cluster: ClusterId([0; 16]) }).map(|_| ())
        }),
        ("SetClusterCertificate", Some(QuorumService::Cluster), |c| {
            c.call(&SetClusterCertificate { chain: Vec::new(), trust_anchor: Vec::new() }).map(|_| ())
        }),
        ("ClusterCsr", None, |c| c.call(&ClusterCsr { names: Vec::new() }).map(|_| ())),
        // Before the value of its service is set.
        ("BackupCreate", Some(QuorumService::Cluster), |c| c.call(&BackupCreate).map(|_| ())),
        ("ChangeUnseal", Some(QuorumService::Cluster), |c| {
            c.call(&ChangeUnseal { method: UnsealMethod::Passphrase, secret: None }).map(|_| ())
        }),
        ("PrepareCustodians", Some(QuorumService::Cluster), |c| {
            c.call(&PrepareCustodians { needed: 0, of: 0 }).map(|_| ())
        }),
        ("ConfirmCustodians", None, |c| c.call(&ConfirmCustodians { shares: Vec::new() }).map(|_| ())),
        ("RotateClusterKey", Some(QuorumService::Cluster), |c| c.call(&RotateClusterKey).map(|_| ())),
        ("QuorumSetValue", QUORUM, |c| {
            c.call(&QuorumSetValue { service: QuorumService::Cluster, value: 2 }).map(|_| ())
        }),
        ("QuorumSetPolicy", QUORUM, |c| {
            c.call(&QuorumSetPolicy { timeout_secs: Some(60), self_approval: None }).map(|_| ())
        }),
        ("BackupList", None, |c| c.call(&BackupList { after: None, limit: 1 }).map(|_| ())),
        ("QuorumList", None, |c| c.call(&QuorumList).map(|_| ())),
        ("UserList", None, |c| c.call(&UserList { after: None, limit: 1 }).map(|_| ())),
    ];
    for on in [QuorumService::User, QuorumService::Cluster, QuorumService::Quorum] {
        let committee = Committee::needing(on, 2);
        let mut root = committee.replica.client_of("root");
        for (operation, service, send) in &table {
            let refused = send(&mut root).err().map(|refusal| refusal.code) == Some(REQUIRED);
            assert_eq!(refused, *service == Some(on), "{operation} with a value for {on}");
        }
    }
}

#[test]
fn approvers_read_what_will_unseal_the_cluster_and_not_the_secret() {
    let committee = Committee::needing(QuorumService::Cluster, 2);
    let mut root = committee.replica.client_of("root");
    let change = |words: &str| ChangeUnseal { method: UnsealMethod::Passphrase, secret: Some(secret(words)) };
    let token = propose(&mut root, &change("correct horse battery staple")).unwrap();
    assert!(
        token.text.ends_with("operation: ChangeUnseal\nunseal: passphrase\nsecret: set by the proposer\n")
    );
    for approver in ["alice", "bob"] {
        committee.approve(&mut root, approver, &token).unwrap();
    }
    let custodians = PrepareCustodians { needed: 2, of: 3 };
    assert_eq!(root.refused(&custodians), REQUIRED);
    let other = propose(&mut root, &custodians).unwrap();
    assert!(other.text.ends_with("operation: PrepareCustodians\nunseal: 2 of 3 custodians\n"));
    root.call(&change("correct horse battery staple")).unwrap();
    committee.world.pass(Duration::from_secs(11));
    committee.replica.engine.tidy(committee.replica.now()).unwrap();
    assert_eq!(root.refused(&change("correct horse battery staple")), REQUIRED, "it is used up");

    assert_eq!(root.refused(&RotateClusterKey), REQUIRED);
    let token = propose(&mut root, &RotateClusterKey).unwrap();
    for approver in ["alice", "bob"] {
        committee.approve(&mut root, approver, &token).unwrap();
    }
    root.call(&RotateClusterKey).unwrap();
    assert_eq!(root.refused(&RotateClusterKey), REQUIRED);
}

#[test]
fn an_approved_operation_is_done_once_with_its_own_arguments() {
    let committee = Committee::needing(QuorumService::User, 2);
    let other = committee.world.replica(1);
    let mut root = committee.replica.client_of("root");
    let refusal = root.call(&create("carol", random_key())).unwrap_err();
    assert_eq!(refusal.detail, "Quorum approval is required for this operation");

    let token = propose(&mut root, &create("carol", random_key())).unwrap();
    assert_eq!((token.needed, token.approvers.len(), token.proposer.as_str()), (2, 0, "root"));
    assert!(token.text.ends_with("operation: UserCreate\nname: carol\nrole: crypto-user\npassword: set by the proposer\npeer-uid: none\n"));
    // Asked again it is the same one, whatever the idempotency key.
    assert_eq!(propose(&mut root, &create("carol", random_key())).unwrap().id, token.id);

    // One is too few, and one who signs twice is one. Another replica takes signatures, too, whoever hands them in.
    let mut alice = other.client_of("alice");
    committee.approve(&mut alice, "alice", &token).unwrap();
    assert_eq!(committee.approve(&mut alice, "alice", &token).unwrap().approvers, [name("alice")]);
    assert_eq!(root.refused(&create("carol", random_key())), REQUIRED);
    assert_eq!(committee.approve(&mut alice, "bob", &token).unwrap().approvers.len(), 2);

    // Other arguments are another operation, another session is another proposer.
    assert_eq!(root.refused(&create("dave", random_key())), REQUIRED);
    assert_eq!(root.refused(&UserCreate { role: Role::Admin, ..create("carol", random_key()) }), REQUIRED);
    assert_eq!(committee.replica.client_of("root").refused(&create("carol", random_key())), REQUIRED);
    root.call(&create("carol", random_key())).unwrap();
    assert_eq!(root.refused(&create("carol", random_key())), REQUIRED);
    assert!(root.call(&QuorumList).unwrap().tokens.is_empty());

    let notes = committee
        .replica
        .audit
        .map(&committee.replica.engine, |entry| (entry.operation.to_owned(), entry.detail.to_owned()));
    let id = token.id;
    let done = ("UserCreate".to_owned(), format!("approved by alice, bob (token {id})"));
    assert!(notes.contains(&done), "{notes:?}");
    let approvals = other.audit.map(&other.engine, |entry| entry.detail.to_owned());
    assert!(
        approvals.iter().any(|note| note.starts_with("bob approves UserCreate,name: carol")),
        "{approvals:?}"
    );
}

#[test]
fn keys_and_clusters_are_destroyed_once_when_it_is_approved() {
    let committee = Committee::needing(QuorumService::User, 2);
    let mut root = committee.replica.client_of("root");
    root.call(&QuorumSetValue { service: QuorumService::Cluster, value: 2 }).unwrap();
    let mut web = committee.replica.client_of("web");
    web.generate(KeyAlgorithm::P256, Attributes::SIGN, "k");
    let zeroize = ZeroizeKeys { user: name("web") };
    assert_eq!(root.refused(&zeroize), REQUIRED);
    let token = propose(&mut root, &zeroize).unwrap();
    committee.approve(&mut root, "alice", &token).unwrap();
    assert_eq!(root.refused(&zeroize), REQUIRED);
    committee.approve(&mut root, "bob", &token).unwrap();
    assert_eq!(root.refused(&ZeroizeKeys { user: name("alice") }), REQUIRED);
    assert_eq!(root.call(&zeroize).unwrap().keys, 1);
    assert_eq!(root.refused(&zeroize), REQUIRED);

    let cluster = root.call(&ClusterInfo).unwrap().cluster.unwrap();
    let zeroize = ZeroizeCluster { cluster };
    assert_eq!(root.refused(&zeroize), REQUIRED);
    let token = propose(&mut root, &zeroize).unwrap();
    assert!(token.text.contains(&cluster.to_string()), "{}", token.text);
    for approver in ["alice", "bob"] {
        assert_eq!(root.refused(&zeroize), REQUIRED, "before {approver}");
        committee.approve(&mut root, approver, &token).unwrap();
    }
    root.call(&zeroize).unwrap();
    assert!(committee.replica.engine.is_zeroized());
}

#[test]
fn a_user_that_was_made_is_answered_again_without_new_approvals() {
    let committee = Committee::needing(QuorumService::User, 2);
    let mut root = committee.replica.client_of("root");
    let key = random_key();
    let token = propose(&mut root, &create("carol", key)).unwrap();
    for approver in ["alice", "bob"] {
        committee.approve(&mut root, approver, &token).unwrap();
    }
    let made = root.call(&create("carol", key)).unwrap();
    assert_eq!(root.call(&create("carol", key)).unwrap(), made);
    // Another user, the same one under another key, somebody else's key: none of them was made.
    assert_eq!(root.refused(&create("dave", key)), RefusalCode::AlreadyExists);
    assert_eq!(root.refused(&create("carol", random_key())), REQUIRED);
    assert_eq!(committee.replica.client_of("alice").refused(&create("carol", key)), REQUIRED);
}

#[test]
fn an_operation_that_fails_leaves_its_token() {
    let committee = Committee::needing(QuorumService::User, 2);
    let mut root = committee.replica.client_of("root");
    let token = propose(&mut root, &delete("nobody")).unwrap();
    for approver in ["alice", "bob"] {
        committee.approve(&mut root, approver, &token).unwrap();
    }
    for _ in 0..2 {
        assert_eq!(root.refused(&delete("nobody")), RefusalCode::NotFound);
    }
    root.call(&QuorumDelete { token: token.id }).unwrap();
    assert_eq!(root.refused(&delete("nobody")), REQUIRED);
}

#[test]
fn a_token_ends_with_its_time_its_session_and_its_approvers_keys() {
    let operation = || delete("web");
    type End = fn(&Committee, &mut Client);
    let ends: [(&str, End); 4] = [
        ("its time", |committee, _| committee.world.pass(Duration::from_mins(10))),
        ("its session", |_, root| {
            root.call(&Logout).unwrap();
            root.login("root", PASSWORD).unwrap();
        }),
        ("an approver's new key", |committee, _| {
            let mut alice = committee.replica.client_of("alice");
            register(&mut alice, "alice", KeyPurpose::Approval, &OwnKey::p256()).unwrap();
        }),
        ("a higher value", |committee, _| {
            let mut bob = committee.replica.client_of("bob");
            bob.create_user("x", Role::Admin).unwrap_err();
            register(
                &mut committee.replica.client_of("root"),
                "root",
                KeyPurpose::Approval,
                &OwnKey::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
            )
            .unwrap();
            bob.call(&QuorumSetPolicy { timeout_secs: None, self_approval: Some(true) }).unwrap();
            bob.call(&QuorumSetValue { service: QuorumService::User, value: 3 }).unwrap();
        }),
    ];
    for (what, end) in ends {
        let committee = Committee::needing(QuorumService::User, 2);
        let mut root = committee.replica.client_of("root");
        let token = propose(&mut root, &operation()).unwrap();
        for approver in ["alice", "bob"] {
            committee.approve(&mut root, approver, &token).unwrap();
        }
        end(&committee, &mut root);
        assert_eq!(root.refused(&operation()), REQUIRED, "{what}");
    }
}

#[test]
fn whose_signatures_count() {
    let committee = Committee::needing(QuorumService::User, 2);
    let mut alice = committee.replica.client_of("alice");
    let token = propose(&mut alice, &delete("web")).unwrap();
    // Who proposes does not approve, unless the policy lets it.
    let own = committee.approve(&mut alice, "alice", &token).unwrap_err();
    assert_eq!(own.code, RefusalCode::PermissionDenied);
    // A signature of something else, by another key, for one without a key, for nobody.
    let forged =
        |approver: &str, signature| QuorumApprove { token: token.id, approver: name(approver), signature };
    for (approver, signature, code) in [
        ("bob", committee.bob.sign(&token.text.replace("web", "www")), RefusalCode::BadSignature),
        ("bob", committee.alice.sign(&token.text), RefusalCode::BadSignature),
        ("bob", Vec::new(), RefusalCode::BadSignature),
        ("root", committee.bob.sign(&token.text), RefusalCode::BadSignature),
        ("nobody", committee.bob.sign(&token.text), RefusalCode::NotFound),
    ] {
        assert_eq!(alice.refused(&forged(approver, signature)), code, "{approver}");
    }
    committee.approve(&mut alice, "bob", &token).unwrap();
    assert_eq!(alice.refused(&delete("web")), REQUIRED);
    alice.call(&QuorumSetPolicy { timeout_secs: Some(900), self_approval: Some(true) }).unwrap();
    committee.approve(&mut alice, "alice", &token).unwrap();
    alice.call(&delete("web")).unwrap();
}

#[test]
fn an_own_approval_does_not_outlast_the_policy_that_let_it_in() {
    let committee = Committee::needing(QuorumService::User, 2);
    let mut alice = committee.replica.client_of("alice");
    let self_approval = |on| QuorumSetPolicy { timeout_secs: None, self_approval: Some(on) };
    alice.call(&self_approval(true)).unwrap();
    let token = propose(&mut alice, &delete("web")).unwrap();
    for approver in ["alice", "bob"] {
        committee.approve(&mut alice, approver, &token).unwrap();
    }
    alice.call(&self_approval(false)).unwrap();
    assert_eq!(alice.refused(&delete("web")), REQUIRED);
}

#[test]
fn values_stay_within_reach() {
    let committee = Committee::new();
    let mut root = committee.replica.client_of("root");
    let set = |value| QuorumSetValue { service: QuorumService::User, value };
    for (value, code) in
        [(0, RefusalCode::Malformed), (9, RefusalCode::Malformed), (3, RefusalCode::QuorumUnreachable)]
    {
        assert_eq!(root.refused(&set(value)), code, "{value}");
    }
    let rules = root.call(&set(2)).unwrap();
    assert_eq!((rules.user, rules.cluster, rules.quorum, rules.approvers), (2, 1, 1, 2));
    assert_eq!((rules.timeout_secs, rules.self_approval), (600, false));
    assert_eq!(committee.replica.client().call(&QuorumPolicy).unwrap(), rules);

    // An admin without whom it could not be reached stays, and its key.
    for operation in ["delete", "remove"] {
        let approved = |root: &mut Client, token: QuorumToken| {
            for approver in ["alice", "bob"] {
                committee.approve(root, approver, &token).unwrap();
            }
        };
        let refused = if operation == "delete" {
            let token = propose(&mut root, &delete("bob")).unwrap();
            approved(&mut root, token);
            root.refused(&delete("bob"))
        } else {
            let remove = UserRemoveKey { name: name("bob"), purpose: KeyPurpose::Approval };
            let token = propose(&mut root, &remove).unwrap();
            approved(&mut root, token);
            root.refused(&remove)
        };
        assert_eq!(refused, RefusalCode::QuorumUnreachable, "{operation}");
    }
    // What needs no approval is not proposed.
    let needless = propose(&mut root, &QuorumSetValue { service: QuorumService::User, value: 1 });
    assert_eq!(needless.unwrap_err().code, RefusalCode::QuorumNotNeeded);
    assert_eq!(
        propose(&mut root, &UserList { after: None, limit: 1 }).unwrap_err().code,
        RefusalCode::QuorumNotNeeded
    );
    root.call(&set(1)).unwrap();
    root.call(&delete("bob")).unwrap();
}

#[test]
fn a_second_factor_is_asked_for_and_taken_once() {
    let (world, first) = World::active();
    let second = world.replica(1);
    for key in [
        OwnKey::p256(),
        OwnKey::Ed25519(Ed25519KeyPair::generate().unwrap()),
        OwnKey::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
    ] {
        let mut root = first.client();
        let logged_in = root.login("root", PASSWORD);
        assert!(logged_in.is_ok());
        register(&mut root, "root", KeyPurpose::SecondFactor, &key).unwrap();
        second.follow();

        let mut client = second.client();
        assert_eq!(client.login("root", PASSWORD).unwrap_err().code, RefusalCode::SecondFactorRequired);
        assert_eq!(client.refused(&PeerLogin { user: name("root") }), RefusalCode::SecondFactorRequired);
        let ask = |password| LoginChallenge { user: name("root"), password: secret(password) };
        assert_eq!(client.refused(&ask("wrong one")), RefusalCode::BadCredentials);
        let challenge = client.call(&ask(PASSWORD)).unwrap().text;
        let signed =
            |text: &str, by: &OwnKey| SignedLogin { challenge: text.to_owned(), signature: by.sign(text) };
        assert_eq!(client.refused(&signed(&challenge, &OwnKey::p256())), RefusalCode::BadSignature);
        let later = challenge.replace("expires: 1", "expires: 9");
        assert_ne!(later, challenge);
        assert_eq!(client.refused(&signed(&later, &key)), RefusalCode::SessionEnded);
        // Any replica takes it, and then none.
        first.client().call(&signed(&challenge, &key)).unwrap();
        assert_eq!(client.refused(&signed(&challenge, &key)), RefusalCode::SessionEnded);
        let old = client.call(&ask(PASSWORD)).unwrap().text;
        world.pass(Duration::from_mins(5));
        assert_eq!(client.refused(&signed(&old, &key)), RefusalCode::SessionEnded);
        let fresh = client.call(&ask(PASSWORD)).unwrap().text;
        client.call(&signed(&fresh, &key)).unwrap();
        let remove = UserRemoveKey { name: name("root"), purpose: KeyPurpose::SecondFactor };
        client.call(&remove).unwrap();
        first.follow();
    }
}

#[test]
fn a_key_is_registered_by_who_has_it() {
    let (_world, replica) = World::active();
    let mut root = replica.client_of("root");
    let key = OwnKey::p256();
    let code = |result: Result<(), Refusal>| result.unwrap_err().code;
    // Of another user, for another purpose: the proof says something else.
    assert_eq!(code(register(&mut root, "web", KeyPurpose::Approval, &key)), RefusalCode::BadSignature);
    let wrong = UserRegisterKey {
        purpose: KeyPurpose::Approval,
        spki: key.spki(),
        proof: key.sign("anything"),
        current: Some(secret(PASSWORD)),
    };
    assert_eq!(root.refused(&wrong), RefusalCode::BadSignature);
    let mut p384 = key.spki();
    p384[10] ^= 1;
    assert_eq!(root.refused(&UserRegisterKey { spki: p384, ..wrong }), RefusalCode::BadSignature);
    let mut web = replica.client_of("web");
    assert_eq!(
        code(register(&mut web, "web", KeyPurpose::SecondFactor, &key)),
        RefusalCode::PermissionDenied
    );
    register(&mut root, "root", KeyPurpose::Approval, &key).unwrap();
    let users = root.call(&UserList { after: None, limit: 9 }).unwrap().users;
    assert_eq!(users.iter().filter(|user| user.approval_key.is_some()).count(), 1);
}
