//! What two replicas are asked, step by step, and what a client knows after each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::Path;

use keycore_engine::Resealed;
use keycore_wire::{
    ActivateCluster, Attributes, DeleteKey, FindKey, InitializeCluster, KeyAlgorithm, KeySelector, Logout,
    Operation, Role, UserChangePassword, UserCreate, UserDelete,
};

use super::recording::{ACKNOWLEDGEMENTS, DIRECTORY};
use crate::harness::{Client, Replica, World, generate, name, random_key, secret};

/// One request of the history, and the replica that it goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Initialize,
    Activate,
    CreateUser {
        user: &'static str,
    },
    DeleteUser {
        user: &'static str,
    },
    /// An admin sets it; the number makes it another one.
    SetPassword {
        user: &'static str,
        number: usize,
    },
    /// Logs in and out again: a counter, and a revocation that outlives the session.
    Visit {
        user: &'static str,
    },
    /// A wrong password, which is counted.
    Guess {
        user: &'static str,
    },
    MakeKey {
        user: &'static str,
        number: usize,
    },
    DeleteKey {
        user: &'static str,
        number: usize,
    },
    /// A new generation of the cluster key, all records sealed anew with it, and the old one dropped.
    RotateClusterKey,
    /// Both replicas end and start again: SQLite moves its WAL into the database.
    Restart,
}

pub(super) const ADMIN: &str = "root";

/// The whole history.
pub(super) fn script() -> Vec<Step> {
    use Step::{
        Activate, CreateUser, DeleteKey, DeleteUser, Guess, Initialize, MakeKey, Restart, RotateClusterKey,
        SetPassword, Visit,
    };
    let mut steps = vec![Initialize, Activate, CreateUser { user: "web" }, Restart];
    for round in 0..8 {
        let (user, other) = if round % 2 == 0 { ("mail", "web") } else { ("web", "mail") };
        if round % 4 == 0 {
            steps.push(CreateUser { user: "mail" });
        }
        steps.extend([
            MakeKey { user, number: round * 4 },
            MakeKey { user, number: round * 4 + 1 },
            Guess { user },
            MakeKey { user: other, number: round * 4 + 2 },
            SetPassword { user, number: round },
            Visit { user },
            DeleteKey { user, number: round * 4 },
        ]);
        match round % 4 {
            0 if round > 0 => steps.push(RotateClusterKey),
            1 => steps.push(Restart),
            3 => {
                let made_for_mail = [(round - 3, 1), (round - 2, 2), (round - 1, 1), (round, 2)];
                steps.extend(
                    made_for_mail.map(|(round, at)| DeleteKey { user: "mail", number: round * 4 + at }),
                );
                steps.push(DeleteUser { user: "mail" });
            }
            _ => {}
        }
    }
    steps
}

/// What the clients were told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) initialized: bool,
    /// Passwords and keys; empty before the activation.
    pub(super) users: BTreeMap<&'static str, Account>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) password: String,
    pub(super) keys: BTreeSet<usize>,
}

impl Known {
    /// After a step was done.
    pub(super) fn after(&self, step: Step) -> Self {
        let mut known = self.clone();
        let account = |password| Account { password, keys: BTreeSet::new() };
        match step {
            Step::Initialize => known.initialized = true,
            Step::Activate => drop(known.users.insert(ADMIN, account(first_password(ADMIN)))),
            Step::CreateUser { user } => drop(known.users.insert(user, account(first_password(user)))),
            Step::DeleteUser { user } => drop(known.users.remove(user)),
            Step::SetPassword { user, number } => {
                known.users.get_mut(user).unwrap().password = later_password(user, number);
            }
            Step::MakeKey { user, number } => drop(known.users.get_mut(user).unwrap().keys.insert(number)),
            Step::DeleteKey { user, number } => {
                assert!(known.users.get_mut(user).unwrap().keys.remove(&number));
            }
            Step::Visit { .. } | Step::Guess { .. } | Step::RotateClusterKey | Step::Restart => {}
        }
        known
    }
}

/// The management records that a step leaves in the audit log of its replica.
pub(super) fn recorded_as(step: Step) -> Option<&'static str> {
    match step {
        Step::Initialize => Some(InitializeCluster::NAME),
        Step::Activate => Some(ActivateCluster::NAME),
        Step::CreateUser { .. } => Some(UserCreate::NAME),
        Step::DeleteUser { .. } => Some(UserDelete::NAME),
        Step::SetPassword { .. } => Some(UserChangePassword::NAME),
        Step::Visit { .. } => Some(Logout::NAME),
        Step::MakeKey { .. } => Some(keycore_wire::GenerateKey::NAME),
        Step::DeleteKey { .. } => Some(DeleteKey::NAME),
        Step::RotateClusterKey => Some(keycore_wire::RotateClusterKey::NAME),
        Step::Guess { .. } | Step::Restart => None,
    }
}

/// Whose turn it is.
pub(super) fn replica_of(at: usize) -> u16 {
    u16::from(at % 3 == 1)
}

pub(super) fn label(number: usize) -> String {
    format!("key-{number}")
}

fn first_password(user: &str) -> String {
    format!("the first password of {user}")
}

fn later_password(user: &str, number: usize) -> String {
    format!("password {number} of {user}")
}

/// The recorded process: goes through the history in the directory that the environment names, and says after each step that
/// it is done. Without that variable there is nothing to do.
#[test]
fn recorded() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let directory = Path::new(&directory);
    let mut told = File::create(directory.join(ACKNOWLEDGEMENTS)).unwrap();
    let mut replicas = Some([0, 1].map(|number| World::on_disk(directory, number)));
    let mut known = Known::default();
    for (at, step) in script().into_iter().enumerate() {
        if step == Step::Restart {
            drop(replicas.take());
            replicas = Some([0, 1].map(|number| World::on_disk(directory, number)));
        }
        let replica = &replicas.as_ref().unwrap()[usize::from(replica_of(at))];
        replica.follow();
        take(step, replica, &known);
        known = known.after(step);
        let line = format!("{at}");
        assert_eq!(told.write(line.as_bytes()).unwrap(), line.len());
    }
}

fn take(step: Step, replica: &Replica, known: &Known) {
    match step {
        Step::Restart => {}
        Step::Initialize => drop(replica.client().call(&InitializeCluster).unwrap()),
        Step::Activate => {
            let password = secret(&first_password(ADMIN));
            replica.client().call(&ActivateCluster { admin: name(ADMIN), password }).unwrap();
        }
        Step::CreateUser { user } => {
            let password = secret(&first_password(user));
            let create = UserCreate {
                idempotency_key: random_key(),
                name: name(user),
                role: Role::CryptoUser,
                password: Some(password),
                peer_uid: None,
            };
            client_of(replica, known, ADMIN).call(&create).unwrap();
        }
        Step::DeleteUser { user } => {
            client_of(replica, known, ADMIN).call(&UserDelete { name: name(user) }).unwrap();
        }
        Step::SetPassword { user, number } => {
            let new = secret(&later_password(user, number));
            let change = UserChangePassword { name: Some(name(user)), current: None, new };
            client_of(replica, known, ADMIN).call(&change).unwrap();
        }
        Step::RotateClusterKey => {
            client_of(replica, known, ADMIN).call(&keycore_wire::RotateClusterKey).unwrap();
            while replica.engine.reseal(replica.now()).unwrap() != Resealed::Complete {}
        }
        Step::Visit { user } => drop(client_of(replica, known, user).call(&Logout).unwrap()),
        Step::Guess { user } => drop(replica.client().login(user, "not this one").unwrap_err()),
        Step::MakeKey { user, number } => {
            let request = generate(KeyAlgorithm::P256, Attributes::SIGN, &label(number));
            client_of(replica, known, user).call(&request).unwrap();
        }
        Step::DeleteKey { user, number } => {
            let mut client = client_of(replica, known, user);
            let key = KeySelector::Label(label(number).parse().unwrap());
            let key = client.call(&FindKey { key }).unwrap().id;
            client.call(&DeleteKey { key }).unwrap();
        }
    }
}

/// A connection of a user, with the password that is known.
pub(super) fn client_of(replica: &Replica, known: &Known, user: &str) -> Client {
    let mut client = replica.client();
    client.login(user, &known.users[user].password).unwrap();
    client
}
