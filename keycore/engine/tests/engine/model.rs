//! Any sequence of requests to two replicas of one store ends as a few maps say: who may do what, and what is then there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use keycore_wire::{
    Attributes, DeleteKey, FindKey, KeyAlgorithm, KeyId, KeySelector, ListKeys, Logout, MAX_PAGE, Operation,
    Refusal, RefusalCode, Role, Sign, SignatureScheme, UserChangePassword, UserCreate, UserDelete, UserList,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::harness::{Client, Replica, World, generate, name, random_key, secret};

/// Wrong passwords in a row that lock an account.
const LOCKS: u8 = 6;

/// Connections: the even ones are to the first replica, the odd ones to the second.
const SEATS: usize = 4;

/// Longer than the engine makes a peer wait that guesses passwords, shorter than any session.
const STEP: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy)]
enum Step {
    Login {
        user: u8,
        password: u8,
    },
    Logout,
    CreateUser {
        user: u8,
        role: Role,
    },
    DeleteUser {
        user: u8,
    },
    SetPassword {
        user: u8,
        new: u8,
    },
    ChangeOwnPassword {
        current: u8,
        new: u8,
    },
    MakeKey {
        label: u8,
    },
    DeleteKey {
        of: u8,
        label: u8,
    },
    Sign {
        of: u8,
        label: u8,
    },
    FindKey {
        label: u8,
    },
    ListKeys,
    ListUsers,
    /// The replica ends and starts again; its connections are gone.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let (user, label) = (0..4u8, 0..3u8);
    // The usual password is mostly right, so that most seats are taken.
    let password = prop_oneof![6 => Just(0), 1 => Just(1u8)];
    let role = prop_oneof![2 => Just(Role::CryptoUser), 1 => Just(Role::Admin)];
    prop_oneof![
        8 => (user.clone(), password.clone()).prop_map(|(user, password)| Step::Login { user, password }),
        1 => Just(Step::Logout),
        4 => (user.clone(), role).prop_map(|(user, role)| Step::CreateUser { user, role }),
        2 => user.clone().prop_map(|user| Step::DeleteUser { user }),
        1 => (user.clone(), password.clone()).prop_map(|(user, new)| Step::SetPassword { user, new }),
        1 => (password.clone(), password).prop_map(|(current, new)| Step::ChangeOwnPassword { current, new }),
        5 => label.clone().prop_map(|label| Step::MakeKey { label }),
        2 => (user.clone(), label.clone()).prop_map(|(of, label)| Step::DeleteKey { of, label }),
        3 => (user, label.clone()).prop_map(|(of, label)| Step::Sign { of, label }),
        2 => label.prop_map(|label| Step::FindKey { label }),
        2 => Just(Step::ListKeys),
        1 => Just(Step::ListUsers),
        1 => Just(Step::Restart),
    ]
}

/// What a request comes to, as far as the model tells.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Done,
    Key(KeyId),
    Keys(BTreeSet<KeyId>),
    Users(BTreeSet<String>),
    Refused(RefusalCode),
}

struct Account {
    role: Role,
    password: u8,
    /// Sessions of an earlier password, or of an earlier user of that name, have ended.
    credential: u32,
    wrong: u8,
    keys: BTreeMap<u8, KeyId>,
}

/// Who there is, what is whose, and who sits where.
struct Model {
    users: BTreeMap<u8, Account>,
    seats: [Option<(u8, u32)>; SEATS],
    credentials: u32,
}

impl Model {
    /// With the admin 0 and the crypto user 1.
    fn new() -> Self {
        let mut model = Self { users: BTreeMap::new(), seats: [None; SEATS], credentials: 0 };
        model.add(0, Role::Admin);
        model.add(1, Role::CryptoUser);
        model
    }

    fn add(&mut self, user: u8, role: Role) {
        self.credentials += 1;
        let account =
            Account { role, password: 0, credential: self.credentials, wrong: 0, keys: BTreeMap::new() };
        self.users.insert(user, account);
    }

    /// The user of a seat, if the session is good and of one of the roles.
    fn actor(&self, seat: usize, roles: &[Role]) -> Result<u8, RefusalCode> {
        let (user, credential) = self.seats[seat].ok_or(RefusalCode::NotLoggedIn)?;
        let account = self.users.get(&user).filter(|account| account.credential == credential);
        let account = account.ok_or(RefusalCode::SessionEnded)?;
        if roles.contains(&account.role) { Ok(user) } else { Err(RefusalCode::PermissionDenied) }
    }

    fn check_password(&mut self, user: u8, password: u8) -> Result<&mut Account, RefusalCode> {
        let account = self.users.get_mut(&user).ok_or(RefusalCode::BadCredentials)?;
        if account.wrong >= LOCKS {
            return Err(RefusalCode::AccountLocked);
        }
        if account.password != password {
            account.wrong += 1;
            return Err(RefusalCode::BadCredentials);
        }
        account.wrong = 0;
        Ok(account)
    }

    fn set_password(&mut self, user: u8, new: u8) -> Result<u32, RefusalCode> {
        self.credentials += 1;
        let account = self.users.get_mut(&user).ok_or(RefusalCode::NotFound)?;
        (account.password, account.wrong, account.credential) = (new, 0, self.credentials);
        Ok(self.credentials)
    }

    /// What the step should come to. `made` is the id of the key, if the engine made one.
    fn take(&mut self, seat: usize, step: Step, made: Option<KeyId>) -> Result<Told, RefusalCode> {
        const ADMIN: &[Role] = &[Role::Admin];
        const CRYPTO_USER: &[Role] = &[Role::CryptoUser];
        const BOTH: &[Role] = &[Role::Admin, Role::CryptoUser];
        match step {
            Step::Login { user, password } => {
                let credential = self.check_password(user, password)?.credential;
                self.seats[seat] = Some((user, credential));
            }
            Step::Logout => {
                self.actor(seat, BOTH)?;
                self.seats[seat] = None;
            }
            Step::CreateUser { user, role } => {
                self.actor(seat, ADMIN)?;
                if self.users.contains_key(&user) {
                    return Err(RefusalCode::AlreadyExists);
                }
                self.add(user, role);
            }
            Step::DeleteUser { user } => {
                self.actor(seat, ADMIN)?;
                let account = self.users.get(&user).ok_or(RefusalCode::NotFound)?;
                if !account.keys.is_empty() {
                    return Err(RefusalCode::OwnsKeys);
                }
                let admins = self.users.values().filter(|account| account.role == Role::Admin).count();
                if account.role == Role::Admin && admins == 1 {
                    return Err(RefusalCode::LastAdmin);
                }
                self.users.remove(&user);
            }
            Step::SetPassword { user, new } => {
                // By its own name, too, one's own password takes the current one, which is not given here.
                match self.actor(seat, BOTH)? {
                    actor if actor == user => return Err(RefusalCode::BadCredentials),
                    _ => self.actor(seat, ADMIN)?,
                };
                self.set_password(user, new)?;
            }
            Step::ChangeOwnPassword { current, new } => {
                let actor = self.actor(seat, BOTH)?;
                self.check_password(actor, current)?;
                let credential = self.set_password(actor, new)?;
                self.seats[seat] = Some((actor, credential));
            }
            Step::MakeKey { label } => {
                let actor = self.actor(seat, CRYPTO_USER)?;
                let keys = &mut self.users.get_mut(&actor).unwrap().keys;
                if keys.contains_key(&label) {
                    return Err(RefusalCode::AlreadyExists);
                }
                keys.insert(label, made.ok_or(RefusalCode::Internal)?);
            }
            Step::DeleteKey { of, label } => {
                let actor = self.actor(seat, CRYPTO_USER)?;
                self.own_key(actor, of, label)?;
                self.users.get_mut(&actor).unwrap().keys.remove(&label);
            }
            Step::Sign { of, label } => {
                let actor = self.actor(seat, CRYPTO_USER)?;
                self.own_key(actor, of, label)?;
            }
            Step::FindKey { label } => {
                let actor = self.actor(seat, CRYPTO_USER)?;
                return self.own_key(actor, actor, label).map(Told::Key);
            }
            Step::ListKeys => {
                let actor = self.actor(seat, CRYPTO_USER)?;
                return Ok(Told::Keys(self.users[&actor].keys.values().copied().collect()));
            }
            Step::ListUsers => {
                // Open to everybody, but who thinks that he is logged in is told that he is not.
                if self.actor(seat, BOTH) == Err(RefusalCode::SessionEnded) {
                    return Err(RefusalCode::SessionEnded);
                }
                return Ok(Told::Users(self.users.keys().map(|user| user_name(*user)).collect()));
            }
            Step::Restart => {
                (0..SEATS).filter(|other| other % 2 == seat % 2).for_each(|other| self.seats[other] = None);
            }
        }
        Ok(Told::Done)
    }

    /// A key of `of`, if that is `actor`; others' are as if they were not.
    fn own_key(&self, actor: u8, of: u8, label: u8) -> Result<KeyId, RefusalCode> {
        let key = self.users[&actor].keys.get(&label).filter(|_| actor == of);
        key.copied().ok_or(RefusalCode::NotFound)
    }

    fn key(&self, of: u8, label: u8) -> KeyId {
        let account = self.users.get(&of);
        account.and_then(|account| account.keys.get(&label)).copied().unwrap_or(KeyId([9; 16]))
    }
}

/// Both replicas, and a client for each seat.
struct Replicas {
    world: World,
    replicas: [Replica; 2],
    clients: [Client; SEATS],
}

impl Replicas {
    fn new() -> Self {
        let (world, first) = World::active();
        let mut root = first.client_of("root");
        root.call(&create(0, Role::Admin)).unwrap();
        let mut admin = first.client();
        admin.login(&user_name(0), &password(0)).unwrap();
        admin.call(&create(1, Role::CryptoUser)).unwrap();
        for name in ["root", "web"] {
            admin.call(&UserDelete { name: crate::harness::name(name) }).unwrap();
        }
        let replicas = [first, world.replica(1)];
        let clients = core::array::from_fn(|seat| replicas[seat % 2].client());
        Self { world, replicas, clients }
    }

    /// Every replica knows what its siblings did: within 25 ms in service.
    fn follow(&self) {
        self.world.pass(STEP);
        self.replicas.iter().for_each(|replica| {
            replica.follow();
        });
    }

    fn take(&mut self, model: &Model, seat: usize, step: Step) -> Told {
        if let Step::Restart = step {
            let number = u16::try_from(seat % 2).unwrap();
            self.replicas[seat % 2] = self.world.replica(number);
            for other in (0..SEATS).filter(|other| other % 2 == seat % 2) {
                self.clients[other] = self.replicas[seat % 2].client();
            }
            return Told::Done;
        }
        let client = &mut self.clients[seat];
        match step {
            Step::Login { user, password } => told(client.login(&user_name(user), &self::password(password))),
            Step::Logout => told(client.call(&Logout)),
            Step::CreateUser { user, role } => told(client.call(&create(user, role))),
            Step::DeleteUser { user } => told(client.call(&UserDelete { name: name(&user_name(user)) })),
            Step::SetPassword { user, new } => {
                let name = Some(name(&user_name(user)));
                told(client.call(&UserChangePassword { name, current: None, new: secret(&password(new)) }))
            }
            Step::ChangeOwnPassword { current, new } => {
                let (current, new) = (Some(secret(&password(current))), secret(&password(new)));
                told(client.call(&UserChangePassword { name: None, current, new }))
            }
            Step::MakeKey { label } => {
                let request = generate(KeyAlgorithm::Ed25519, Attributes::SIGN, &label_name(label));
                told_of(client.call(&request), |made| Told::Key(made.id))
            }
            Step::DeleteKey { of, label } => told(client.call(&DeleteKey { key: model.key(of, label) })),
            Step::Sign { of, label } => told(sign(client, model.key(of, label))),
            Step::FindKey { label } => {
                let key = KeySelector::Label(label_name(label).parse().unwrap());
                told_of(client.call(&FindKey { key }), |found| Told::Key(found.id))
            }
            Step::ListKeys => told_of(keys(client), Told::Keys),
            Step::ListUsers => {
                let page = client.call(&UserList { after: None, limit: MAX_PAGE });
                told_of(page, |page| {
                    Told::Users(page.users.iter().map(|user| user.name.to_string()).collect())
                })
            }
            Step::Restart => unreachable!("above"),
        }
    }

    /// At the end every replica gives every user what is his.
    fn agree_with(&self, model: &Model) {
        for (user, account) in model.users.iter().filter(|(_, account)| account.wrong < LOCKS) {
            for replica in &self.replicas {
                let mut client = replica.client();
                client.login(&user_name(*user), &password(account.password)).unwrap();
                self.follow();
                if account.role == Role::CryptoUser {
                    assert_eq!(keys(&mut client).unwrap(), account.keys.values().copied().collect());
                    account.keys.values().for_each(|key| drop(sign(&mut client, *key).unwrap()));
                }
            }
        }
    }
}

fn told<T>(result: Result<T, Refusal>) -> Told {
    told_of(result, |_| Told::Done)
}

fn told_of<T>(result: Result<T, Refusal>, what: impl FnOnce(T) -> Told) -> Told {
    result.map_or_else(|refusal| Told::Refused(refusal.code), what)
}

fn keys(client: &mut Client) -> Result<BTreeSet<KeyId>, Refusal> {
    let page = client.call(&ListKeys { after: None, limit: MAX_PAGE })?;
    Ok(page.keys.iter().map(|key| key.id).collect())
}

fn sign(client: &mut Client, key: KeyId) -> Result<<Sign<'static> as Operation>::Reply, Refusal> {
    client.call(&Sign { key, scheme: SignatureScheme::Ed25519, message: b"anything" })
}

fn create(user: u8, role: Role) -> UserCreate {
    let (name, password) = (name(&user_name(user)), Some(secret(&password(0))));
    UserCreate { idempotency_key: random_key(), name, role, password, peer_uid: None }
}

fn user_name(user: u8) -> String {
    format!("user-{user}")
}

fn label_name(label: u8) -> String {
    format!("label-{label}")
}

fn password(number: u8) -> String {
    format!("password number {number}")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn two_replicas_do_what_the_model_says(steps in vec((0..SEATS, step()), 1..80)) {
        let (mut model, mut replicas) = (Model::new(), Replicas::new());
        for (at, (seat, step)) in steps.into_iter().enumerate() {
            replicas.follow();
            let told = replicas.take(&model, seat, step);
            let (made, told) = match (step, told) {
                (Step::MakeKey { .. }, Told::Key(id)) => (Some(id), Told::Done),
                (_, told) => (None, told),
            };
            let expected = model.take(seat, step, made).unwrap_or_else(Told::Refused);
            prop_assert_eq!(told, expected, "step {}: {:?} at seat {}", at, step, seat);
        }
        replicas.follow();
        replicas.agree_with(&model);
    }
}
