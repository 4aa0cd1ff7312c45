use keycore_audit::{Chain, Log, Sink};
use keycore_store::SqliteStore;
use keycore_wire::UnixMillis;

use super::*;
use crate::{Options, PasswordCost};

struct Nowhere;

impl Sink for Nowhere {
    fn write(&mut self, _bytes: &[u8]) -> std::io::Result<()> {
        Ok(())
    }

    fn sync(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// While the shares are made, the connection may begin something else: it must not be ended in the restore's place.
#[test]
fn a_rehearsal_that_took_the_place_of_a_restore_is_not_ended_as_one() {
    const CONNECTION: u64 = 1;
    let directory = tempfile::tempdir().unwrap();
    let store = || Box::new(SqliteStore::open(&directory.path().join("store.db")).unwrap());
    let now = Now { wall: UnixMillis(1), mono: core::time::Duration::ZERO };
    let cost = PasswordCost::insecure_for_tests();
    let options = Options { password_cost: cost, unseal_cost: cost, ..Options::new(0, 1) };
    let log = Log::new(Chain::new(0), Box::new(Nowhere));
    let engine = Engine::open(store(), store(), log, None, options, now).unwrap();
    let identity = Secret::new(Identity::from_bytes(&mut [1; 32]).to_text().as_bytes().to_vec());
    begin(&engine, CONNECTION, &identity, Some(Restore::new(true))).unwrap();
    let method = NewMethod::custodians(2, 2).unwrap();
    let refused = finish(&engine, CONNECTION, Some(&method), now).unwrap_err();
    assert_eq!(refused.refusal.code, RefusalCode::BadBackup);
    assert!(engine.backups.feeds.has(CONNECTION), "it goes on");
}
