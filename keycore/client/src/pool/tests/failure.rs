//! Engines that die, freeze, or come back.

use super::*;

#[test]
fn what_is_in_flight_on_a_killed_engine_is_answered_by_the_other() {
    run(async {
        let mut setup = Setup::new(2).await;
        setup.engines[0].script(|request| match request {
            Request::TlsSign(_) => Action::Never,
            _ => Action::Normally,
        });
        let pool = setup.pool.clone();
        let calls = spawn_local(async move { sign_many(&pool, 64).await });
        until("some are in flight", || setup.engines[0].behaviour.count("TlsSign") >= 10).await;
        let before = Instant::now();
        setup.engines[0].kill();
        let (_, errors) = calls.await.unwrap();
        assert!(errors.is_empty(), "{errors:?}");
        assert!(before.elapsed() < Duration::from_millis(2), "{:?}", before.elapsed());
        assert!(setup.pool.counters().failovers >= 10);
        let status = &setup.pool.status()[0];
        assert!(matches!(status.state, EngineState::Down { .. }), "{status:?}");
        assert_eq!(status.counters.losses, 1);
    });
}

#[test]
fn a_frozen_engine_costs_milliseconds_and_is_used_again_when_it_thaws() {
    run(async {
        let setup = Setup::new(2).await;
        for _ in 0..10 {
            assert!(sign_many(&setup.pool, 64).await.1.is_empty());
        }
        assert_eq!(setup.pool.counters().hedge_delay, Hedging::default().floor);
        setup.engines[0].freeze(true);
        let (slowest, errors) = sign_many(&setup.pool, 40).await;
        assert!(errors.is_empty(), "{errors:?}");
        assert!(slowest < Duration::from_millis(6), "{slowest:?}");
        let hedges = setup.pool.counters().hedges;
        assert!(hedges >= 15, "{hedges}");
        assert_eq!(setup.pool.counters().hedge_wins, hedges);

        sleep(Duration::from_millis(50)).await;
        assert!(matches!(setup.state(0), EngineState::Suspect { in_flight: 1.. }), "{:?}", setup.state(0));
        let requests = setup.pool.status()[0].counters.requests;
        let (slowest, errors) = sign_many(&setup.pool, 40).await;
        assert!(errors.is_empty() && slowest < Duration::from_millis(2), "{slowest:?} {errors:?}");
        assert_eq!(setup.pool.status()[0].counters.requests, requests, "a suspect is not asked");

        setup.engines[0].freeze(false);
        until("it is used again", || setup.state(0) == EngineState::Connected { in_flight: 0 }).await;
        assert!(sign_many(&setup.pool, 40).await.1.is_empty());
        let status = &setup.pool.status()[0];
        assert!(status.counters.requests > requests);
        assert_eq!(
            (status.counters.losses, status.counters.suspicions),
            (0, 1),
            "late answers are dropped quietly"
        );
    });
}

#[test]
fn suspicion_moves_what_the_budget_does_not_allow_to_hedge() {
    run(async {
        let hedging = Hedging { percent: 0, burst: 2, ..Hedging::default() };
        let setup = Setup::with(2, |options| options.hedging = Some(hedging)).await;
        setup.engines[0].freeze(true);
        let (slowest, errors) = sign_many(&setup.pool, 40).await;
        assert!(errors.is_empty(), "{errors:?}");
        assert!(
            slowest < Duration::from_millis(110),
            "five times the delay of an unknown engine: {slowest:?}"
        );
        let counters = setup.pool.counters();
        assert_eq!((counters.hedges, counters.failovers), (2, 18));
    });
}

#[test]
fn slow_engines_are_not_asked_twice_beyond_the_budget() {
    run(async {
        let hedging =
            Hedging { percent: 10, burst: 5, ceiling: Duration::from_millis(10), ..Hedging::default() };
        let setup = Setup::with(2, |options| options.hedging = Some(hedging)).await;
        for engine in &setup.engines {
            engine.behaviour.max_in_flight.set(1000);
            engine.script(|request| match request {
                Request::TlsSign(_) => Action::After(Duration::from_millis(15)),
                _ => Action::Normally,
            });
        }
        for _ in 0..50 {
            let (_, errors) = sign_many(&setup.pool, 4).await;
            assert!(errors.is_empty(), "{errors:?}");
        }
        let hedges = setup.pool.counters().hedges;
        assert!((20..=25).contains(&hedges), "five at once, then one in ten of 200: {hedges}");
    });
}

#[test]
fn slow_operations_are_never_hedged() {
    run(async {
        let setup = Setup::new(2).await;
        for engine in &setup.engines {
            engine.script(|request| match request {
                Request::DeleteKey(_) => Action::After(Duration::from_secs(3)),
                _ => Action::Normally,
            });
        }
        let delete = DeleteKey { key: KeyId([1; 16]) };
        setup.pool.call(&delete, Instant::now() + Duration::from_secs(5)).await.unwrap();
        let sent: usize = setup.engines.iter().map(|engine| engine.behaviour.count("DeleteKey")).sum();
        assert_eq!((sent, setup.pool.counters().hedges), (1, 0));
        assert_eq!(setup.usable(), 2, "an engine that works on something slow is not frozen");
    });
}

#[test]
fn what_may_not_be_repeated_is_not() {
    run(async {
        let mut setup = Setup::new(2).await;
        for engine in &setup.engines {
            engine.script(|request| match request {
                Request::DeleteKey(_) => Action::Never,
                _ => Action::Normally,
            });
        }
        let pool = setup.pool.clone();
        let call = spawn_local(async move {
            pool.call(&DeleteKey { key: KeyId([1; 16]) }, Instant::now() + Duration::from_secs(5)).await
        });
        let count = |setup: &Setup, at: usize| setup.engines[at].behaviour.count("DeleteKey");
        until("it is in flight", || count(&setup, 0) + count(&setup, 1) == 1).await;
        let asked = usize::from(count(&setup, 1) == 1);
        setup.engines[asked].kill();
        let result = call.await.unwrap();
        assert!(matches!(result, Err(Error::OutcomeUnknown { operation: "DeleteKey" })), "{result:?}");
        assert_eq!(count(&setup, 1 - asked), 0);
    });
}

#[test]
fn with_all_engines_down_calls_fail_fast_and_say_why() {
    run(async {
        let mut setup = Setup::new(2).await;
        for engine in &mut setup.engines {
            engine.kill();
        }
        until("it shows", || setup.usable() == 0).await;
        let start = Instant::now();
        let error = sign(&setup.pool, b"nobody", Duration::from_secs(5)).await.unwrap_err();
        assert!((495..=520).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
        let Error::NoEngine { engines } = &error else { panic!("{error}") };
        assert_eq!(engines.len(), 2);
        assert!(error.to_string().contains("1.sock: can't connect: "), "{error}");
        assert_eq!(setup.pool.counters().failures, 1);
    });
}

#[test]
fn a_restart_of_the_only_engine_fails_no_call() {
    run(async {
        let mut setup = Setup::new(1).await;
        setup.engines[0].script(|request| match request {
            Request::TlsSign(_) => Action::Never,
            _ => Action::Normally,
        });
        let pool = setup.pool.clone();
        let calls = spawn_local(async move { sign_many(&pool, 20).await });
        until("they are in flight", || setup.engines[0].behaviour.count("TlsSign") == 20).await;
        setup.engines[0].kill();
        setup.engines[0].script(|_| Action::Normally);
        sleep(Duration::from_millis(250)).await;
        setup.engines[0].restart();
        let (_, errors) = calls.await.unwrap();
        assert!(errors.is_empty(), "{errors:?}");
    });
}

#[test]
fn an_engine_that_comes_back_is_used_within_200_ms() {
    run(async {
        let mut setup = Setup::new(2).await;
        setup.engines[0].kill();
        sleep(Duration::from_secs(15)).await;
        setup.engines[0].restart();
        let back = Instant::now();
        until("it is used again", || setup.usable() == 2).await;
        assert!(back.elapsed() <= Duration::from_millis(205), "{:?}", back.elapsed());
        assert_eq!(setup.cluster.passwords_tried.get(), 1, "the token served");
    });
}

#[test]
fn with_all_engines_frozen_the_deadline_is_kept() {
    run(async {
        let setup = Setup::new(2).await;
        for engine in &setup.engines {
            engine.freeze(true);
        }
        let start = Instant::now();
        let error = sign(&setup.pool, b"nobody", Duration::from_secs(3)).await.unwrap_err();
        assert!(matches!(error, Error::DeadlineExceeded), "{error}");
        assert!((3_000..=3_005).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
        for engine in &setup.engines {
            engine.freeze(false);
        }
        sign(&setup.pool, b"somebody", Duration::from_secs(1)).await.unwrap();
    });
}

#[test]
fn pings_find_a_frozen_engine_without_traffic_and_it_is_dropped_at_last() {
    run(async {
        let setup = Setup::new(2).await;
        setup.engines[1].freeze(true);
        let start = Instant::now();
        until("it is suspect", || matches!(setup.state(1), EngineState::Suspect { .. })).await;
        assert!(start.elapsed() < Duration::from_millis(1_500), "{:?}", start.elapsed());
        until("it is dropped", || setup.pool.status()[1].counters.losses == 1).await;
        assert!((10..12).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
        setup.engines[1].freeze(false);
        until("it is used again", || setup.usable() == 2).await;
    });
}

#[test]
fn refusals_that_another_engine_may_not_share_go_there() {
    run(async {
        let setup = Setup::new(2).await;
        setup.engines[0].script(|request| match request {
            Request::TlsSign(_) => Action::Refuse(RefusalCode::Overloaded),
            _ => Action::Normally,
        });
        let (slowest, errors) = sign_many(&setup.pool, 50).await;
        assert!(errors.is_empty() && slowest < Duration::from_millis(2), "{slowest:?} {errors:?}");
        assert!(setup.pool.status()[0].counters.refusals_retried >= 20);

        setup.engines[1].script(|request| match request {
            Request::TlsSign(_) => Action::Refuse(RefusalCode::Overloaded),
            _ => Action::Normally,
        });
        let before: usize = setup.engines.iter().map(|engine| engine.behaviour.count("TlsSign")).sum();
        let error = sign(&setup.pool, b"nobody", Duration::from_secs(5)).await.unwrap_err();
        assert!(
            matches!(&error, Error::Refused(refusal) if refusal.code == RefusalCode::Overloaded),
            "{error}"
        );
        let after: usize = setup.engines.iter().map(|engine| engine.behaviour.count("TlsSign")).sum();
        assert_eq!(after - before, 8, "a bounded number of tries");
    });
}

#[test]
fn an_engine_that_does_nothing_attracts_no_calls() {
    for code in [RefusalCode::SelfTestFailed, RefusalCode::Sealed] {
        attracts_no_calls(code);
    }
}

fn attracts_no_calls(code: RefusalCode) {
    run(async move {
        let setup = Setup::new(2).await;
        assert!(sign_many(&setup.pool, 50).await.1.is_empty());
        setup.engines[0].script(move |request| match request {
            Request::Hello(_) => Action::Normally,
            _ => Action::Refuse(code),
        });
        let asked = || setup.engines[0].behaviour.count("TlsSign");
        let before = asked();
        // One after the other, so that the one that refuses at once always has the least outstanding.
        for _ in 0..50 {
            sign(&setup.pool, b"message", Duration::from_secs(5)).await.unwrap();
        }
        assert_eq!(asked() - before, 1, "the first refusal is enough");
        assert!(!setup.state(0).is_usable(), "{:?}", setup.state(0));

        setup.engines[0].script(|_| Action::Normally);
        until("it is used again after it was started anew", || setup.state(0).is_usable()).await;
        assert!(sign_many(&setup.pool, 50).await.1.is_empty());
    });
}

#[test]
fn refusals_for_good_are_not_retried() {
    run(async {
        let setup = Setup::new(2).await;
        let find = FindKey { key: KeySelector::Id(KeyId([1; 16])) };
        let error = setup.pool.call(&find, Instant::now() + Duration::from_secs(1)).await.unwrap_err();
        assert!(
            matches!(&error, Error::Refused(refusal) if refusal.code == RefusalCode::NotFound),
            "{error}"
        );
        let asked: usize = setup.engines.iter().map(|engine| engine.behaviour.count("FindKey")).sum();
        assert_eq!(asked, 1);
    });
}

#[test]
fn a_stall_of_this_thread_is_not_blamed_on_the_engines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let (done, until_done) = tokio::sync::oneshot::channel::<()>();
    let (started, until_started) = std::sync::mpsc::channel();
    // The engines live on a thread of their own, in real time.
    let engines = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let cluster = Cluster::new();
            let engines: Vec<_> =
                (0..2).map(|n| FakeEngine::start(&path, &format!("{n}.sock"), &cluster)).collect();
            started.send(engines.iter().map(|engine| engine.endpoint.clone()).collect()).unwrap();
            let _ = until_done.await;
        });
    });
    let endpoints = until_started.recv().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let mut options = PoolOptions::new(endpoints);
        options.identity = Some(identity(PASSWORD));
        let pool = Pool::start(options);
        assert!(pool.ready(Instant::now() + Duration::from_secs(10)).await);
        until("both are ready", || pool.status().iter().all(|engine| engine.state.is_usable())).await;
        for round in 1..=3 {
            let calls = spawn_local({
                let pool = pool.clone();
                async move { sign_many(&pool, 8).await.1.len() }
            });
            while pool.status().iter().map(|engine| engine.counters.requests).sum::<u64>() < 8 * round {
                tokio::task::yield_now().await;
            }
            tokio::task::yield_now().await;
            std::thread::sleep(Duration::from_millis(250));
            assert_eq!(calls.await.unwrap(), 0);
        }
        let suspicions: u64 = pool.status().iter().map(|engine| engine.counters.suspicions).sum();
        assert_eq!((suspicions, pool.counters().hedges), (0, 0));
    });
    let _ = done.send(());
    engines.join().unwrap();
}
