//! kill -9, at random, of engines and their supervisor under write load: nothing that was acknowledged is lost.
//!
//! `KEYCORE_KILLS=500` kills as often as the documentation reports; without it there are fewer.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use hsm_e2e::{Site, SiteOptions, run, wait};
use keycore_client::blocking::Client;
use keycore_client::{Endpoint, Error, Identity};
use keycore_wire::{
    ActivateCluster, Attributes, DeleteKey, GenerateKey, IdempotencyKey, InitializeCluster, KeyAlgorithm,
    KeyId, KeyTemplate, ListKeys, MAX_PAGE, Role, Secret, Sign, SignatureScheme, UserCreate, UserDelete,
    UserList,
};
use rustix::process::Signal;

const KILLS: usize = 20;
const WRITERS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(30);
const PASSWORD: &str = "correct horse battery";

#[test]
fn killed_engines_lose_nothing_that_was_acknowledged() {
    let kills = std::env::var("KEYCORE_KILLS").map_or(KILLS, |text| text.parse().unwrap());
    let unseal = Some("an unseal secret of a test");
    let mut site = Site::start(SiteOptions { unseal, ..SiteOptions::default() });
    provision(&site);
    let stop = AtomicBool::new(false);
    let histories = std::thread::scope(|scope| {
        let (site_endpoints, stop) = (site.endpoints(), &stop);
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                let endpoints = site_endpoints.clone();
                scope.spawn(move || Writer::new(number, &endpoints).write_until(stop))
            })
            .collect();
        let mut chance = Chance::new();
        for _ in 0..kills {
            // When it happens is up to chance; nothing is waited for.
            std::thread::sleep(Duration::from_millis(chance.below(60)));
            kill_one(&mut site, chance.below(10));
        }
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
    });
    let acknowledged: usize = histories.iter().map(History::acknowledged).sum();
    assert!(acknowledged > kills, "{acknowledged} changes in {kills} kills are no load");
    check_records(&site, &histories);
    site.stop_engines(Signal::TERM);
    check_audit(&site, &histories);
    println!("{kills} kills, {acknowledged} acknowledged changes, all there and recorded");
}

fn provision(site: &Site) {
    let mut client = Client::connect(&site.endpoints(), PATIENCE).unwrap();
    client.call(&InitializeCluster).unwrap();
    client.call(&ActivateCluster { admin: "root".parse().unwrap(), password: password() }).unwrap();
    let mut root = connect("root", &site.endpoints());
    for number in 0..WRITERS {
        create(&mut root, &writer_name(number)).unwrap();
    }
}

/// The supervisor with a chance of two in ten, or one of the replicas; waits until there is another in its place.
fn kill_one(site: &mut Site, lot: u64) {
    let before = [0, 1].map(|number| site.pid(number));
    match lot {
        0 | 1 => {
            site.stop_engines(Signal::KILL);
            wait::until("the replicas follow their supervisor", PATIENCE, || {
                before.iter().all(|&pid| !wait::is_running(pid)).then_some(())
            });
            site.start_engines();
        }
        _ => {
            let number = u16::from(lot % 2 == 1);
            site.await_another(number, site.kill(number));
        }
    }
}

/// What was made is there and signs, what was deleted is not.
fn check_records(site: &Site, histories: &[History]) {
    let mut users = Vec::new();
    let mut root = connect("root", &site.endpoints());
    loop {
        let page = root.call(&UserList { after: users.last().map(|(id, _)| *id), limit: MAX_PAGE }).unwrap();
        users.extend(page.users.into_iter().map(|user| (user.id, user.name.as_str().to_owned())));
        if !page.more {
            break;
        }
    }
    for (number, history) in histories.iter().enumerate() {
        history.users.check("user", |name| users.iter().any(|(_, there)| there == name));
        let mut client = connect(&writer_name(number), &site.endpoints());
        let mut keys: Vec<KeyId> = Vec::new();
        loop {
            let page = client.call(&ListKeys { after: keys.last().copied(), limit: MAX_PAGE }).unwrap();
            keys.extend(page.keys.iter().map(|key| key.id));
            if !page.more {
                break;
            }
        }
        history.keys.check("key", |id| keys.contains(id));
        for key in keys {
            client.call(&Sign { key, scheme: SignatureScheme::Ed25519, message: b"both halves" }).unwrap();
        }
    }
}

/// Every acknowledged change is in the log of one of the replicas, and the logs verify.
fn check_audit(site: &Site, histories: &[History]) {
    let audit = |arguments: &[&str]| {
        let arguments = [&["audit"], arguments, &["--dir", "state/audit"]].concat();
        run(&mut site.hsm_at(&[], &arguments))
    };
    audit(&["verify"]).success();
    let log = audit(&["tail", "--count", "100000", "--output", "json"]).json();
    let mut recorded = BTreeSet::new();
    for record in log["data"]["records"].as_array().unwrap() {
        let subject = &record["subject"];
        if let Some(subject) = subject["key"].as_str().or(subject["user"].as_str())
            && record["outcome"] == "done"
        {
            let operation = record["operation"].as_str().unwrap().to_owned();
            recorded.insert((operation, subject.to_owned()));
        }
    }
    for history in histories {
        for (operation, subject) in &history.told {
            let found = recorded.contains(&((*operation).to_owned(), subject.clone()));
            assert!(found, "{operation} of {subject} was acknowledged and is not in the audit log");
        }
    }
}

/// What became of things, as a client was told; `None` where the answer was lost.
struct Fates<T>(BTreeMap<T, Option<bool>>);

impl<T: Ord + core::fmt::Debug> Fates<T> {
    fn check(&self, what: &str, is_there: impl Fn(&T) -> bool) {
        for (thing, fate) in &self.0 {
            if let Some(expected) = fate {
                assert_eq!(is_there(thing), *expected, "{what} {thing:?}: acknowledged as {expected}");
            }
        }
    }
}

/// What one writer was told.
struct History {
    keys: Fates<KeyId>,
    users: Fates<String>,
    /// Operation and subject of every acknowledged change.
    told: Vec<(&'static str, String)>,
}

impl History {
    fn acknowledged(&self) -> usize {
        self.told.len()
    }
}

struct Writer {
    name: String,
    admin: Client,
    crypto_user: Client,
    chance: Chance,
    made: usize,
    history: History,
}

impl Writer {
    fn new(number: usize, endpoints: &[Endpoint]) -> Self {
        let name = writer_name(number);
        let (admin, crypto_user) = (connect("root", endpoints), connect(&name, endpoints));
        let (keys, users) = (Fates(BTreeMap::new()), Fates(BTreeMap::new()));
        let history = History { keys, users, told: Vec::new() };
        Self { name, admin, crypto_user, chance: Chance::new(), made: 0, history }
    }

    fn write_until(mut self, stop: &AtomicBool) -> History {
        while !stop.load(Ordering::Relaxed) {
            match self.chance.below(8) {
                0 => self.delete_key(),
                1 => self.create_user(),
                2 => self.delete_user(),
                _ => self.make_key(),
            }
        }
        self.history
    }

    fn make_key(&mut self) {
        self.made += 1;
        let label = format!("key-{}", self.made).parse().unwrap();
        let (algorithm, template) = (KeyAlgorithm::Ed25519, KeyTemplate::new(label, Attributes::SIGN));
        let request = GenerateKey { idempotency_key: fresh(&mut self.chance), algorithm, template };
        // A key whose answer is lost may be there: nobody knows its id.
        if let Some(key) = answered(self.crypto_user.call(&request)) {
            self.history.keys.0.insert(key.id, Some(true));
            self.history.told.push(("GenerateKey", key.id.to_string()));
        }
    }

    fn delete_key(&mut self) {
        let Some(key) = pick(&self.history.keys, &mut self.chance) else { return };
        let gone = answered(self.crypto_user.call(&DeleteKey { key })).map(|_done| false);
        self.history.keys.0.insert(key, gone);
        self.history.told.extend(gone.map(|_| ("DeleteKey", key.to_string())));
    }

    fn create_user(&mut self) {
        self.made += 1;
        let user = format!("{}-{}", self.name, self.made);
        let there = answered(create(&mut self.admin, &user)).map(|()| true);
        self.history.users.0.insert(user.clone(), there);
        self.history.told.extend(there.map(|_| ("UserCreate", user)));
    }

    fn delete_user(&mut self) {
        let Some(user) = pick(&self.history.users, &mut self.chance) else { return };
        let gone = answered(self.admin.call(&UserDelete { name: user.parse().unwrap() })).map(|_done| false);
        self.history.users.0.insert(user.clone(), gone);
        self.history.told.extend(gone.map(|_| ("UserDelete", user)));
    }
}

/// One that is there.
fn pick<T: Ord + Clone>(fates: &Fates<T>, chance: &mut Chance) -> Option<T> {
    let there: Vec<_> = fates.0.iter().filter(|(_, fate)| **fate == Some(true)).collect();
    let at = usize::try_from(chance.below(there.len().max(1) as u64)).unwrap();
    there.get(at).map(|(thing, _)| (*thing).clone())
}

/// The answer, or none if the engines died before it came. A refusal is a failure of the test.
#[track_caller]
fn answered<T>(result: Result<T, Error>) -> Option<T> {
    match result {
        Ok(answer) => Some(answer),
        Err(Error::OutcomeUnknown { .. } | Error::NoEngine { .. } | Error::DeadlineExceeded) => None,
        Err(error) => panic!("{error}"),
    }
}

fn create(admin: &mut Client, user: &str) -> Result<(), Error> {
    let idempotency_key = fresh(&mut Chance::new());
    let (name, role, password) = (user.parse().unwrap(), Role::CryptoUser, Some(password()));
    admin.call(&UserCreate { idempotency_key, name, role, password, peer_uid: None }).map(|_| ())
}

/// A client that is logged in; both engines may be on their way up.
fn connect(user: &str, endpoints: &[Endpoint]) -> Client {
    let identity: Arc<Identity> = Identity::with_password(user.parse().unwrap(), password());
    wait::until("somebody logs us in", PATIENCE, || {
        let mut client = Client::connect(endpoints, PATIENCE).ok()?;
        client.login(&identity).ok()?;
        Some(client)
    })
}

fn writer_name(number: usize) -> String {
    format!("writer-{number}")
}

fn password() -> Secret {
    Secret::new(PASSWORD.as_bytes().to_vec())
}

fn fresh(chance: &mut Chance) -> IdempotencyKey {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&chance.next().to_le_bytes());
    key[8..].copy_from_slice(&chance.next().to_le_bytes());
    IdempotencyKey(key)
}

/// Random numbers from the clock: no two runs are alike.
struct Chance(u64);

impl Chance {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let here = Instant::now();
        Self(u64::try_from(now.as_nanos() % u128::from(u64::MAX)).unwrap() ^ (&raw const here as u64) << 32)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
