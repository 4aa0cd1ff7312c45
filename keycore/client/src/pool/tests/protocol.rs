//! Engines that don't keep to the protocol.

use super::*;

async fn with_broken_engine(what: Action) -> Setup {
    let mut what = Some(what);
    let setup = Setup::new(2).await;
    setup.engines[0].script(move |request| match request {
        Request::TlsSign(_) => what.take().unwrap_or(Action::Normally),
        _ => Action::Normally,
    });
    let (_, errors) = sign_many(&setup.pool, 20).await;
    assert!(errors.is_empty(), "{errors:?}");
    setup
}

#[test]
fn a_connection_that_breaks_the_protocol_is_dropped_and_costs_no_call() {
    let unknown_id = [0, 0, 0, 5, 9, 9, 9, 9, 0].to_vec();
    let endless = [0xff; 8].to_vec();
    for (what, breaks) in [
        ("an answer to nothing", Action::Bytes(unknown_id)),
        ("a frame of 4 GiB", Action::Bytes(endless)),
        ("a body that is no reply", Action::Body(vec![77, 1, 2])),
        ("a signature without its end", Action::Body(vec![0, 64, 1, 2])),
        ("an answer given twice", Action::Twice),
    ] {
        run(async {
            let setup = with_broken_engine(breaks).await;
            until("the loss shows", || setup.pool.status()[0].counters.losses == 1).await;
            until("it is connected again", || setup.usable() == 2).await;
            assert_eq!(setup.pool.counters().failures, 0, "{what}");
        });
    }
}

#[test]
fn an_engine_that_only_talks_nonsense_is_an_error_in_the_end() {
    run(async {
        let setup = Setup::new(1).await;
        setup.engines[0].script(|request| match request {
            Request::Random(_) => Action::Body(vec![0]),
            _ => Action::Normally,
        });
        let result = setup.pool.call(&Random { length: 8 }, Instant::now() + Duration::from_secs(2)).await;
        let Err(error) = result else { panic!("{result:?}") };
        assert!(error.to_string().contains("reply to Random can't be decoded"), "{error}");
    });
}

#[test]
fn an_engine_that_never_greets_is_given_up_and_tried_again() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let engines = [FakeEngine::start(dir.path(), "0.sock", &Cluster::new())];
        engines[0].script(|_| Action::Never);
        let pool = Pool::start(options(&engines, |_| {}));
        until("it is given up", || pool.status()[0].counters.losses == 2).await;
        let error = pool.status()[0].last_error.clone().unwrap();
        assert_eq!(error, "no answer to the hello within 2000 ms");
        engines[0].script(|_| Action::Normally);
        assert!(pool.ready(Instant::now() + Duration::from_secs(5)).await);
    });
}
