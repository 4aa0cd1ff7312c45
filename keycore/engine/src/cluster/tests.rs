use super::*;

const COST: PasswordCost = PasswordCost::insecure_for_tests();

fn secret(fill: u8) -> UnsealSecret {
    UnsealSecret::new(SecretBytes::copy_from(&mut [fill; 32]).unwrap()).unwrap()
}

fn record(method: &NewMethod, version: u64) -> (Record, ClusterId) {
    let ring = new_ring().unwrap();
    let cluster = ring.cluster();
    let sealed = method.wrap(&ring, Revision(version)).unwrap();
    (Record { id: ONLY, version: Revision(version), sealed }, cluster)
}

fn open(secret: &[u8], record: &Record) -> Result<SealingKeys, UnsealError> {
    WrappedRing::read(record)?.open(secret)
}

#[test]
fn opens_with_the_same_secret_only_and_where_it_was_written() {
    for method in [NewMethod::secret(&secret(1)), NewMethod::passphrase(&secret(1), COST)] {
        let (record, cluster) = record(&method.unwrap(), 1);
        assert_eq!(open(&[1; 32], &record).ok().unwrap().cluster(), cluster);
        assert!(matches!(open(&[2; 32], &record), Err(UnsealError::WrongSecret)));
        let moved = Record { version: Revision(2), ..record };
        assert!(matches!(open(&[1; 32], &moved), Err(UnsealError::WrongSecret)));
    }
}

#[test]
fn what_the_record_says_of_its_method_is_authenticated() {
    let shares = NewMethod::custodians(2, 3).unwrap();
    let (record, _) = record(&shares, 1);
    let wrapped = WrappedRing::read(&record).unwrap();
    let parsed: Vec<_> =
        shares.shares.iter().map(|text| Share::parse(SharePurpose::Unseal, text.expose()).unwrap()).collect();
    assert!(parsed.iter().all(|share| Some(share.of()) == wrapped.split()));
    let secret = Share::combine(&parsed[1..]).unwrap();
    assert!(wrapped.open(&*secret).is_ok());
    let Method::Custodians { salt, split, .. } = wrapped.method else { panic!("another method") };
    let weaker = WrappedRing { method: Method::Custodians { salt, split, needed: 1, of: 3 }, ..wrapped };
    assert!(matches!(weaker.open(&*secret), Err(UnsealError::WrongSecret)));
}

#[test]
fn a_record_that_asks_for_too_much_memory_is_none() {
    let method = Method::Passphrase { salt: [1; 16], memory_kib: MAX_MEMORY_KIB + 1, passes: 1 };
    assert!(matches!(method.wrapping_key(b"secret"), Err(UnsealError::Unreadable)));
}

#[test]
fn a_cluster_of_the_first_format_opens() {
    let (cluster, key, salt) = (ClusterId([3; 16]), [9; 32], [4; 32]);
    let method = Method::HighEntropySecret { salt };
    let wrapping = method.wrapping_key(&[1; 32]).unwrap();
    let mut wrapped = WrappedRing { format: ONE_KEY, cluster, method, key: Vec::new(), version: Revision(5) };
    let authenticated = wrapped.authenticated().unwrap();
    encrypt(key_of(&wrapping).unwrap(), &authenticated, &key, &mut wrapped.key).unwrap();
    let sealed = postcard::to_allocvec(&wrapped).unwrap();
    let keys = open(&[1; 32], &Record { id: ONLY, version: Revision(5), sealed }).ok().unwrap();
    let same = SealingKeys::new(Keyring::first(cluster, &key).unwrap());
    let place = Place { kind: CLUSTER, id: ONLY, version: Revision(1) };
    assert!(same.open(place, &keys.seal(place, b"content").unwrap()).is_ok());
}

#[test]
fn an_engine_takes_back_no_older_record_and_no_dropped_generation() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = keycore_store::SqliteStore::open(&directory.path().join("store.db")).unwrap();
    let method = NewMethod::secret(&secret(1)).unwrap();
    let first = new_ring().unwrap();
    let both = first.with_next(&new_key().unwrap()).unwrap();
    let second = both.newest_only();
    let at = |ring: &Keyring, version| {
        let version = Revision(version);
        Record { id: ONLY, version, sealed: method.wrap(ring, version).unwrap() }
    };
    let keys = open(&[1; 32], &at(&first, 3)).ok().unwrap();
    let generations = |keys: &SealingKeys| (keys.ring().oldest().number, keys.ring().newest().number);
    let mut follow = |record: &Record| catch_up(&mut store, &keys, record);
    follow(&at(&both, 5)).unwrap();
    follow(&at(&second, 7)).unwrap();
    // An older record; and newer ones with what was dropped, which only who has the wrapping key can make.
    for put_back in [at(&first, 3), at(&both, 5), at(&both, 9), at(&first, 9)] {
        let refused = follow(&put_back);
        assert!(matches!(refused, Err(FollowError::ClusterKeyPutBack { known: 2 })), "{refused:?}");
        assert_eq!(generations(&keys), (2, 2));
    }
    follow(&at(&second, 9)).unwrap();
}
