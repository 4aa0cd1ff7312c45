use keycore_wire::frame::{self, MAX_FRAME};
use keycore_wire::{
    ClusterState, Done, HelloReply, Limits, Ping, Refusal, RefusalCode, Reply, Request, Resume, Secret,
    SessionToken, VERSION, decode_reply,
};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_assert, prop_assert_eq, proptest};

use super::{Event, NotSent, ProtocolError, Session, encoded};

const LIMITS: Limits = Limits { max_frame: 60_000, max_in_flight: 8 };

fn hello(limits: Limits) -> Reply {
    Reply::Hello(HelloReply {
        version: VERSION,
        cluster: None,
        state: ClusterState::Active,
        replica: 0,
        limits,
    })
}

fn reply(id: u32, result: &Result<Reply, Refusal>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::append::<()>(&mut bytes, id, |out| {
        Reply::encode(result, out);
        Ok(())
    })
    .unwrap();
    bytes
}

/// Takes what the session wrote: the ids of its requests.
fn written(session: &mut Session<usize>) -> Vec<u32> {
    let mut ids = Vec::new();
    let bytes = session.unwritten().to_vec();
    let mut rest = bytes.as_slice();
    while let Some((frame, took)) = frame::split(rest, MAX_FRAME).unwrap() {
        Request::decode(frame.body).unwrap();
        ids.push(frame.id);
        rest = &rest[took..];
    }
    assert!(rest.is_empty());
    session.wrote(bytes.len());
    ids
}

/// Gives bytes as the driver does; the tags and the lengths of the answers.
fn feed(session: &mut Session<usize>, mut bytes: &[u8]) -> Result<Vec<(usize, usize)>, ProtocolError> {
    let mut answers = Vec::new();
    loop {
        while let Some(event) = session.next_event()? {
            if let Event::Reply { tag, body } = event {
                answers.push((tag, body.len()));
            }
        }
        if bytes.is_empty() {
            return Ok(answers);
        }
        let space = session.space();
        let now = bytes.len().min(space.len());
        assert!(now > 0, "no space to read into");
        space[..now].copy_from_slice(&bytes[..now]);
        session.received(now);
        bytes = &bytes[now..];
    }
}

fn greeted(limits: Limits) -> Session<usize> {
    let mut session = Session::new("test");
    let ids = written(&mut session);
    assert_eq!(ids.len(), 1);
    feed(&mut session, &reply(ids[0], &Ok(hello(limits)))).unwrap();
    session
}

#[test]
fn nothing_but_the_hello_is_sent_before_it_is_answered() {
    let mut session = Session::<usize>::new(&"a long name é".repeat(10));
    assert_eq!(session.request(1, &encoded(&Ping), false), Err(NotSent::Full));
    let bytes = session.unwritten().to_vec();
    let (frame, _) = frame::split(&bytes, frame::MAX_HELLO_FRAME).unwrap().unwrap();
    let Request::Hello(hello) = Request::decode(frame.body).unwrap() else { panic!() };
    assert!(hello.client.len() <= 64 && hello.client.starts_with("a long name"));
    assert!(!session.has_room());
}

#[test]
fn keeps_to_the_engines_limits() {
    let mut session = greeted(LIMITS);
    for tag in 0..6 {
        assert_eq!(session.request(tag, &encoded(&Ping), false), Ok(()), "{tag}");
    }
    assert_eq!(session.request(6, &encoded(&Ping), false), Err(NotSent::Full));
    session.own_request(7, &Ping).unwrap();
    session.resume(&Resume { token: SessionToken(Secret::new(vec![1; 32])) }).unwrap();
    assert_eq!(session.own_request(9, &Ping), Err(NotSent::Full));
    let too_long = vec![0; 59_993];
    assert_eq!(session.request(6, &too_long, false), Err(NotSent::TooLong { length: 60_001, limit: 60_000 }));

    let ids = written(&mut session);
    assert_eq!(feed(&mut session, &reply(ids[3], &Ok(Reply::Done(Done)))), Ok(vec![(3, 2 - 1)]));
    assert_eq!(session.in_flight(), 7);
    let mut unanswered = session.into_unanswered();
    unanswered.sort_unstable();
    assert_eq!(unanswered, [0, 1, 2, 4, 5, 7], "the login is nobody's");
}

#[test]
fn an_engine_that_announces_absurd_limits_is_still_usable_and_bounded() {
    let mut session = greeted(Limits { max_frame: 0, max_in_flight: 0 });
    session.request(1, &encoded(&Ping), false).unwrap();
    assert_eq!(session.request(2, &encoded(&Ping), false), Err(NotSent::Full));

    let mut session = greeted(Limits { max_frame: u32::MAX, max_in_flight: u16::MAX });
    let body = vec![0; MAX_FRAME - 8];
    let taken = (0..100).take_while(|&tag| session.request(tag, &body, false).is_ok()).count();
    assert_eq!(taken, 8, "a megabyte waits to be written at most");
    assert!(matches!(session.request(9, &vec![0; MAX_FRAME], false), Err(NotSent::TooLong { .. })));
}

#[test]
fn an_answer_given_twice_is_not_taken_for_the_next_requests() {
    let mut session = greeted(LIMITS);
    session.request(1, &encoded(&Ping), false).unwrap();
    let first = written(&mut session)[0];
    let answer = reply(first, &Ok(Reply::Done(Done)));
    assert_eq!(feed(&mut session, &answer).unwrap().len(), 1);
    session.request(2, &encoded(&Ping), false).unwrap();
    assert_eq!(feed(&mut session, &answer), Err(ProtocolError::UnknownRequest(first)));
}

#[test]
fn says_what_is_wrong_with_a_greeting() {
    let answer = |make: &dyn Fn(u32) -> Vec<u8>| {
        let mut session = Session::<usize>::new("test");
        let id = written(&mut session)[0];
        feed(&mut session, &make(id)).unwrap_err()
    };
    let refusal = Refusal::new(RefusalCode::UnsupportedVersion, "version 2 or nothing");
    let refused = answer(&|id| reply(id, &Err(refusal.clone())));
    assert_eq!(refused.to_string(), "it refused the hello: version 2 or nothing");
    assert_eq!(answer(&|id| reply(id, &Ok(Reply::Done(Done)))), ProtocolError::Undecodable("Hello"));
    assert!(matches!(answer(&|id| reply(id + 1, &Ok(hello(LIMITS)))), ProtocolError::UnknownRequest(_)));
    let long = answer(&|_| vec![0, 0, 2, 0]);
    assert!(matches!(long, ProtocolError::Frame(_)), "before the hello, 512 bytes are the limit: {long}");
    let Reply::Hello(other) = hello(LIMITS) else { panic!() };
    let other = HelloReply { version: 9, ..other };
    assert_eq!(answer(&|id| reply(id, &Ok(Reply::Hello(other.clone())))), ProtocolError::Version(9));
}

#[test]
fn a_login_is_told_apart_from_requests() {
    let mut session = greeted(LIMITS);
    session.resume(&Resume { token: SessionToken(Secret::new(vec![1; 32])) }).unwrap();
    let id = written(&mut session)[0];
    let bytes = reply(id, &Err(Refusal::new(RefusalCode::SessionEnded, "gone")));
    session.space()[..bytes.len()].copy_from_slice(&bytes);
    session.received(bytes.len());
    let Ok(Some(Event::LoginRefused(refusal))) = session.next_event() else { panic!() };
    assert_eq!(refusal.code, RefusalCode::SessionEnded);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// However the bytes arrive, and in whatever order the answers are, each answer reaches its request once.
    #[test]
    fn chunks_and_order_do_not_matter(
        lengths in prop::collection::vec(0_usize..30_000, 1..6),
        order in Just((0..6_usize).collect::<Vec<_>>()).prop_shuffle(),
        cuts in prop::collection::vec(1_usize..20_000, 1..40),
    ) {
        let mut session = greeted(LIMITS);
        for tag in 0..lengths.len() {
            session.request(tag, &encoded(&Ping), false).unwrap();
        }
        let ids = written(&mut session);
        let mut bytes = Vec::new();
        let order: Vec<_> = order.into_iter().filter(|&at| at < lengths.len()).collect();
        for &at in &order {
            frame::append::<()>(&mut bytes, ids[at], |out| {
                out.resize(out.len() + 1 + lengths[at], 0);
                Ok(())
            }).unwrap();
        }
        let mut answers = Vec::new();
        let mut cuts = cuts.iter().cycle();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            answers.extend(feed(&mut session, now).unwrap());
            rest = later;
        }
        let expected: Vec<_> = order.iter().map(|&at| (at, 1 + lengths[at])).collect();
        prop_assert_eq!(answers, expected);
        prop_assert_eq!(session.in_flight(), 0);
    }

    /// Whatever an engine sends, the session neither panics nor grows.
    #[test]
    fn noise_is_survived(noise in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)) {
        let mut session = greeted(LIMITS);
        session.request(1, &encoded(&Ping), false).unwrap();
        for chunk in noise {
            if feed(&mut session, &chunk).is_err() {
                break;
            }
        }
        prop_assert!(session.space().len() <= MAX_FRAME);
    }
}

#[test]
fn a_reply_can_be_decoded_by_the_operation_it_belongs_to() {
    let mut session = greeted(LIMITS);
    session.request(1, &encoded(&Ping), false).unwrap();
    let id = written(&mut session)[0];
    let bytes = reply(id, &Ok(Reply::Done(Done)));
    session.space()[..bytes.len()].copy_from_slice(&bytes);
    session.received(bytes.len());
    let Ok(Some(Event::Reply { tag: 1, body })) = session.next_event() else { panic!() };
    assert_eq!(decode_reply::<Ping>(body), Ok(Done));
}
