//! Opens what a power cut left, with the ordinary code, and compares it with what the clients had been told.

use std::collections::BTreeSet;
use std::path::Path;

use keycore_audit::Outcome;
use keycore_engine::Resealed;
use keycore_store::{Kind, SqliteStore, Store};
use keycore_wire::{ClusterInfo, ClusterState, ListKeys, MAX_PAGE, Sign, SignatureScheme, UserList};

use super::history::{ADMIN, Known, Step, client_of, label, recorded_as, replica_of, script};
use crate::harness::{Replica, World};

/// What must be there.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    steps: Vec<Step>,
    acknowledged: usize,
    known: Known,
}

impl Default for Expected {
    fn default() -> Self {
        Self { steps: script(), acknowledged: 0, known: Known::default() }
    }
}

impl Expected {
    /// The client of a step was answered.
    pub(super) fn acknowledge(&mut self, line: &str) {
        assert_eq!(line, self.acknowledged.to_string());
        self.known = self.known.after(self.steps[self.acknowledged]);
        self.acknowledged += 1;
    }

    /// How many steps were.
    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged
    }

    /// Everything that was acknowledged is there; of the step under way, everything or nothing; and nothing else.
    pub(super) fn check(&self, directory: &Path) {
        check_store(directory);
        let replica = World::on_disk(directory, 0);
        let found = found(&replica, self);
        let under_way = self.steps.get(self.acknowledged).map(|&step| self.known.after(step));
        assert!(
            found == self.known || Some(&found) == under_way.as_ref(),
            "found {found:?}\nacknowledged {:?}\nunder way {under_way:?}",
            self.known
        );
        sign_with_every_key(&replica, &found);
        // A rotation that was cut goes on, and ends.
        let mut was_cut = false;
        while replica.engine.reseal(replica.now()).unwrap() == Resealed::Batch {
            was_cut = true;
        }
        if was_cut {
            assert_eq!(found, self::found(&replica, self));
            sign_with_every_key(&replica, &found);
        }
        drop(replica);
        self.check_audit(directory);
    }

    /// Every acknowledged management record is in its replica's log, in order, and the log verifies.
    fn check_audit(&self, directory: &Path) {
        // What a replica does when it starts: cuts off and keeps what is torn.
        drop(World::on_disk(directory, 1));
        let directory = directory.join("audit");
        let mut done = [Vec::new(), Vec::new()];
        let mut collect = |record: &keycore_audit::Record<'_>| {
            let managed = self.steps.iter().filter_map(|&step| recorded_as(step));
            if record.entry.outcome == Outcome::Done
                && let Some(name) = managed.into_iter().find(|name| *name == record.entry.operation)
            {
                done[usize::from(record.replica)].push(name);
            }
        };
        keycore_audit::read(&directory, None, 0, &mut collect).unwrap();
        keycore_audit::verify(&directory, keycore_audit::Trust::default()).unwrap();
        for replica in [0, 1] {
            let steps = self.steps[..self.acknowledged].iter().enumerate();
            let told: Vec<_> = steps
                .filter(|(at, _)| replica_of(*at) == replica)
                .filter_map(|(_, &step)| recorded_as(step))
                .collect();
            let recorded = &done[usize::from(replica)];
            assert!(recorded.starts_with(&told), "replica {replica} recorded {recorded:?}, told {told:?}");
        }
    }
}

/// Counts, revision and records of every kind agree with one another.
fn check_store(directory: &Path) {
    let mut store = SqliteStore::open(&directory.join("store.db")).unwrap();
    let revision = store.revision().unwrap();
    for kind in (0..64).map(Kind) {
        let records = store.scan(kind, None, None, usize::from(u16::MAX)).unwrap();
        assert_eq!(store.count(kind, None).unwrap(), records.len() as u64, "{kind:?}");
        assert!(records.iter().all(|record| record.version <= revision), "{kind:?} from the future");
    }
}

/// What the clients find, as far as it can be asked.
fn found(replica: &Replica, expected: &Expected) -> Known {
    let state = replica.client().call(&ClusterInfo).unwrap().state;
    let mut found = Known { initialized: state != ClusterState::Uninitialized, ..Known::default() };
    if state != ClusterState::Active {
        return found;
    }
    let next = expected.steps.get(expected.acknowledged).map(|&step| expected.known.after(step));
    let candidates = [Some(&expected.known), next.as_ref()];
    let admin = candidates.into_iter().flatten().find(|known| known.users.contains_key(ADMIN)).unwrap();
    let page = client_of(replica, admin, ADMIN).call(&UserList { after: None, limit: MAX_PAGE }).unwrap();
    for info in page.users {
        // The account as one of the candidates has it, if its password is right.
        let accounts = candidates
            .into_iter()
            .flatten()
            .filter_map(|known| known.users.get_key_value(info.name.as_str()));
        for (&user, account) in accounts {
            let mut client = replica.client();
            if client.login(user, &account.password).is_err() {
                continue;
            }
            let mut account = account.clone();
            if user != ADMIN {
                let page = client.call(&ListKeys { after: None, limit: MAX_PAGE }).unwrap();
                let number = |label: &str| label.strip_prefix("key-").unwrap().parse().unwrap();
                account.keys =
                    page.keys.iter().map(|key| number(key.label.as_str())).collect::<BTreeSet<_>>();
            }
            found.users.insert(user, account);
            break;
        }
        assert!(found.users.contains_key(info.name.as_str()), "nobody's password opens {}", info.name);
    }
    found
}

/// Both halves of every key are there and fit together.
fn sign_with_every_key(replica: &Replica, found: &Known) {
    for (user, _) in found.users.iter().filter(|(_, account)| !account.keys.is_empty()) {
        let mut client = client_of(replica, found, user);
        let keys = client.call(&ListKeys { after: None, limit: MAX_PAGE }).unwrap().keys;
        for key in keys {
            let message = label(0);
            let scheme = SignatureScheme::EcdsaP256Sha256;
            client.call(&Sign { key: key.id, scheme, message: message.as_bytes() }).unwrap();
        }
    }
}
