//! One identity, many connections.

use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn a_process_has_its_password_hashed_once() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let cluster = Cluster::new();
        cluster.hash_takes.set(Duration::from_millis(80));
        let engines: Vec<_> =
            (0..3).map(|n| FakeEngine::start(dir.path(), &format!("{n}.sock"), &cluster)).collect();
        let shared = identity(PASSWORD);
        let pools: Vec<_> = (0..4)
            .map(|_| Pool::start(options(&engines, |options| options.identity = Some(Arc::clone(&shared)))))
            .collect();
        let usable = |pool: &Pool| pool.status().iter().filter(|engine| engine.state.is_usable()).count();
        until("all are ready", || pools.iter().all(|pool| usable(pool) == 3)).await;
        assert_eq!((cluster.passwords_tried.get(), cluster.resumes.get()), (1, 11));
    });
}

#[test]
fn an_ended_session_is_renewed_without_a_lost_call() {
    run(async {
        let setup = Setup::new(2).await;
        sleep(Duration::from_secs(1)).await;
        setup.cluster.end_all_sessions();
        let (_, errors) = sign_many(&setup.pool, 50).await;
        assert!(errors.is_empty(), "{errors:?}");
        until("both are back", || setup.usable() == 2).await;
        assert_eq!(setup.cluster.passwords_tried.get(), 2);
    });
}

#[test]
fn a_session_is_renewed_before_it_expires() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let cluster = Cluster::new();
        cluster.token_lifetime.set(600);
        let engines: Vec<_> =
            (0..2).map(|n| FakeEngine::start(dir.path(), &format!("{n}.sock"), &cluster)).collect();
        let pool = Pool::start(options(&engines, |_| {}));
        assert!(pool.ready(Instant::now() + Duration::from_secs(1)).await);
        sleep(Duration::from_secs(530)).await;
        assert_eq!(cluster.passwords_tried.get(), 1);
        sleep(Duration::from_secs(60)).await;
        assert_eq!(cluster.passwords_tried.get(), 2);
        assert_eq!(pool.status().iter().map(|engine| engine.counters.connects).sum::<u64>(), 2);
    });
}

#[test]
fn a_session_that_never_holds_costs_few_hashes() {
    run(async {
        let setup = Setup::new(1).await;
        setup.engines[0].script(|request| match request {
            Request::TlsSign(_) => Action::Refuse(RefusalCode::SessionEnded),
            _ => Action::Normally,
        });
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            let error = sign(&setup.pool, b"never", Duration::from_secs(1)).await.unwrap_err();
            assert!(
                matches!(error, Error::Refused(_) | Error::DeadlineExceeded | Error::NoEngine { .. }),
                "{error}"
            );
        }
        assert!(setup.cluster.passwords_tried.get() <= 42, "{}", setup.cluster.passwords_tried.get());
    });
}

#[test]
fn a_wrong_password_locks_no_account_and_a_new_file_is_read() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        std::fs::write(&file, "a wrong password\n").unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        let cluster = Cluster::new();
        let engines: Vec<_> =
            (0..2).map(|n| FakeEngine::start(dir.path(), &format!("{n}.sock"), &cluster)).collect();
        let identity = Identity::from_file("web".parse().unwrap(), &file).unwrap();
        let pool = Pool::start(options(&engines, |options| options.identity = Some(identity)));
        let error = sign(&pool, b"nobody", Duration::from_secs(5)).await.unwrap_err();
        assert!(
            matches!(&error, Error::Login(refusal) if refusal.code == RefusalCode::BadCredentials),
            "{error}"
        );
        sleep(Duration::from_secs(600)).await;
        assert!((2..=4).contains(&cluster.passwords_tried.get()), "{}", cluster.passwords_tried.get());
        assert!(!pool.ready(Instant::now()).await);

        std::fs::write(&file, PASSWORD).unwrap();
        assert!(pool.ready(Instant::now() + Duration::from_secs(3)).await);
        sign(&pool, b"somebody", Duration::from_secs(1)).await.unwrap();
    });
}

#[test]
fn without_an_identity_a_refused_login_is_the_callers_business() {
    run(async {
        let setup = Setup::with(1, |options| options.identity = None).await;
        let error = sign(&setup.pool, b"nobody", Duration::from_secs(5)).await.unwrap_err();
        assert!(
            matches!(&error, Error::Refused(refusal) if refusal.code == RefusalCode::NotLoggedIn),
            "{error}"
        );
        drop(setup.dir);
    });
}
