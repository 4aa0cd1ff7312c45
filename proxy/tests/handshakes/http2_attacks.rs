//! What is done to servers by HTTP/2: floods of frames that are cheap to send, streams that never end.

use std::time::{Duration, Instant};

use crate::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, End, HEADERS, PING, PRIORITY, RST_STREAM, Raw, SETTINGS,
    WINDOW_UPDATE, frame, get, head, post,
};
use crate::support::{self, Client, Running, Signing, config};
use crate::upstream::{Answer, Upstream};

/// `ENHANCE_YOUR_CALM` and `PROTOCOL_ERROR` (RFC 9113, section 7).
const CALM: u32 = 11;
const PROTOCOL_ERROR: u32 = 1;

/// How long a flood may go on at most; it takes no longer than the machine is busy.
const PATIENCE: Duration = Duration::from_secs(15);

fn start() -> Running {
    Running::start(config(&[&["a.example"]]), Signing::AtOnce)
}

fn is_served(proxy: &Running) {
    let mut bystander = Client::new(proxy).connect("a.example").unwrap();
    assert!(support::get(&mut bystander, "a.example").starts_with("HTTP/1.1 200"));
}

/// Sends what `attack` says until the connection is ended for `kind`, while others are served.
fn is_ended(kind: &str, attack: impl Fn(u32) -> Vec<u8>) -> End {
    let proxy = start();
    let mut attacker = Raw::connect(&proxy, &[]);
    let (mut number, begun) = (0, Instant::now());
    while attacker.send(&attack(number)).is_ok() {
        number += 1;
        assert!(begun.elapsed() < PATIENCE, "{kind}: nothing ends it");
        if number.is_multiple_of(10_000) {
            is_served(&proxy);
        }
    }
    is_served(&proxy);
    proxy.wait_for_metric(&format!("hsm_proxy_http2_abuse_total{{kind=\"{kind}\"}} 1\n"));
    proxy.wait_for_metric("hsm_proxy_connections 0\n");
    attacker.end()
}

/// The same with so few frames that all of them fit into the sockets; then the client hears why it is ended.
fn is_told(kind: &str, text: &str, frames: u32, attack: impl Fn(u32) -> Vec<u8>) {
    let proxy = start();
    let mut attacker = Raw::connect(&proxy, &[]);
    let bytes: Vec<u8> = (0..frames).flat_map(attack).collect();
    attacker.send(&bytes).unwrap();
    let end = attacker.end();
    assert_eq!(end.go_away, Some((CALM, text.to_owned())), "{kind}");
    proxy.wait_for_metric(&format!("hsm_proxy_http2_abuse_total{{kind=\"{kind}\"}} 1\n"));
    proxy.wait_for_metric("hsm_proxy_connections 0\n");
    is_served(&proxy);
}

fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])
}

fn window(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

#[test]
fn rapid_reset() {
    is_told("resets", "too_many_resets", 100, |n| [get(2 * n + 1), reset(2 * n + 1)].concat());
}

/// Those within the limit, and those that the library hands on although it ends the connection.
#[test]
fn a_request_that_is_reset_at_once_reaches_no_upstream() {
    let upstream = Upstream::start(Answer::Never);
    let proxy = forwarding_to(&upstream);
    for requests in [30, 100] {
        let mut attacker = Raw::connect(&proxy, &[]);
        let frames = (0..requests).flat_map(|n| [get(2 * n + 1), reset(2 * n + 1)].concat());
        attacker.send(&[frames.collect(), frame(PING, 0, 0, &[0; 8])].concat()).unwrap();
        attacker.hears(PING);
    }
    proxy.wait_for_metric("hsm_proxy_http2_abuse_total{kind=\"resets\"} 1\n");
    proxy.wait_for_metric("hsm_proxy_connections 0\n");
    assert_eq!(upstream.connections(), 0);
}

/// Closed in order, they would take up this machine's ports for a minute.
#[test]
fn a_request_that_is_cancelled_resets_its_upstream_connection() {
    let upstream = Upstream::start(Answer::Never);
    let proxy = forwarding_to(&upstream);
    let mut client = Raw::connect(&proxy, &[]);
    client.send(&(0..20).flat_map(|n| get(2 * n + 1)).collect::<Vec<_>>()).unwrap();
    upstream.wait_for(|connections| connections.begun == 20);
    client.send(&(0..20).flat_map(|n| reset(2 * n + 1)).collect::<Vec<_>>()).unwrap();
    upstream.wait_for(|connections| connections.reset == 20);
}

/// The library counts only those that it has not handed on yet, so this waits until it has.
#[test]
fn rapid_reset_of_requests_that_are_being_answered() {
    let upstream = Upstream::start(Answer::Never);
    let proxy = forwarding_to(&upstream);
    let mut attacker = Raw::connect(&proxy, &[]);
    for n in (0..10_000).step_by(20) {
        let streams = (n..n + 20).map(|n| 2 * n + 1);
        let requests: Vec<u8> = streams.clone().flat_map(get).collect();
        // A PING's answer comes when what is before it has been looked at.
        let sent = attacker.send(&[requests, frame(PING, 0, 0, &[0; 8])].concat());
        if sent.is_err() || !attacker.hears(PING) {
            assert!(n >= 200, "{n} requests of a client that may cancel 200 at once");
            proxy.wait_for_metric("hsm_proxy_http2_abuse_total{kind=\"resets\"} 1\n");
            proxy.wait_for_metric("hsm_proxy_connections 0\n");
            assert!(upstream.connections() <= 400, "{}", upstream.connections());
            return;
        }
        attacker.send(&streams.flat_map(reset).collect::<Vec<_>>()).unwrap();
    }
    panic!("nothing ends it");
}

#[test]
fn a_client_may_cancel_what_it_wants_now_and_then() {
    let proxy = start();
    let mut client = Raw::connect(&proxy, &[]);
    for n in 0..1000 {
        client.send(&get(2 * n + 1)).unwrap();
        while client.receive().unwrap().kind != HEADERS {}
        client.send(&reset(2 * n + 1)).unwrap();
    }
    client.send(&get(2001)).unwrap();
    while !matches!(client.receive().unwrap(), response if response.kind == HEADERS && response.stream == 2001)
    {
    }
}

#[test]
fn made_you_reset_by_windows_that_overflow() {
    is_told("stream-errors", "too_many_internal_resets", 200, |n| {
        [get(2 * n + 1), window(2 * n + 1, 0x7fff_ffff)].concat()
    });
}

#[test]
fn made_you_reset_by_data_behind_the_end() {
    // That is an error of the connection: there is no second one.
    let proxy = start();
    let mut attacker = Raw::connect(&proxy, &[]);
    let bytes = (0..200).flat_map(|n| [get(2 * n + 1), frame(DATA, 0, 2 * n + 1, b"x")].concat());
    attacker.send(&bytes.collect::<Vec<_>>()).unwrap();
    assert_eq!(attacker.end().go_away, Some((PROTOCOL_ERROR, String::new())));
    is_served(&proxy);
}

#[test]
fn made_you_reset_by_streams_that_depend_on_themselves() {
    is_told("stream-errors", "too_many_internal_resets", 200, |n| {
        let priority = [&(2 * n + 1).to_be_bytes()[..], &[0]].concat();
        [post(2 * n + 1), frame(PRIORITY, 0, 2 * n + 1, &priority)].concat()
    });
}

#[test]
fn more_streams_than_are_allowed() {
    // The limit is 128; each one more is refused by a reset.
    let upstream = Upstream::start(Answer::Never);
    let proxy = forwarding_to(&upstream);
    let mut attacker = Raw::connect(&proxy, &[]);
    attacker.send(&(0..1000).flat_map(|n| get(2 * n + 1)).collect::<Vec<_>>()).unwrap();
    assert_eq!(attacker.end().go_away, Some((CALM, "too_many_internal_resets".to_owned())));
    assert!(upstream.connections() <= 128, "{}", upstream.connections());
    proxy.wait_for_metric("hsm_proxy_http2_abuse_total{kind=\"stream-errors\"} 1\n");
}

#[test]
fn a_flood_of_continuations() {
    is_told("continuations", "too_many_continuations", 20, |n| match n {
        0 => frame(HEADERS, 0, 1, &head("GET", "a.example")),
        _ => frame(CONTINUATION, 0, 1, &[]),
    });
    // As long as they may be: each has a field of its own.
    let end = is_ended("continuations", |n| match n {
        0 => frame(HEADERS, 0, 1, &head("GET", "a.example")),
        _ => {
            let value = vec![b'x'; 16_000];
            frame(CONTINUATION, 0, 1, &[&[0, 1, b'a', 0x7f, 0x81, 0x7c], &value[..]].concat())
        }
    });
    assert!(end.frames.iter().all(|frame| frame.kind != HEADERS), "no answer");
}

#[test]
fn heads_that_are_bombs() {
    // A field of 4,000 bytes is put into the table, and then named thousands of times, by a byte each.
    let field = [&[0x40, 1, b'a', 0x7f, 0xa1, 0x1e], &[b'x'; 4000][..]].concat();
    let bomb = [head("GET", "a.example"), field, vec![0xbe; 12_000]].concat();
    is_told("header-list", "header_list_way_too_large", 1, |_| {
        frame(HEADERS, END_STREAM | END_HEADERS, 1, &bomb)
    });
}

#[test]
fn empty_data() {
    is_told("small-data", "too_many_data_frames", 300, |n| match n {
        0 => post(1),
        _ => frame(DATA, 0, 1, &[]),
    });
}

#[test]
fn floods_of_pings() {
    is_told("pings", "pings", 200, |_| frame(PING, 0, 0, &[0; 8]));
    is_ended("pings", |_| frame(PING, 0, 0, &[0; 8]));
}

#[test]
fn floods_of_settings() {
    is_told("settings", "settings", 100, |_| frame(SETTINGS, 0, 0, &[]));
    is_ended("settings", |n| frame(SETTINGS, 0, 0, &[&[0, 4], &(n + 1).to_be_bytes()[..]].concat()));
}

#[test]
fn floods_of_window_updates() {
    is_told("window-updates", "window-updates", 3000, |_| window(0, 1));
    is_ended("window-updates", |_| window(0, 1).repeat(10));
}

#[test]
fn floods_of_priorities_and_unknown_frames() {
    let priority = frame(PRIORITY, 0, 7, &[0, 0, 0, 3, 1]);
    is_told("idle-frames", "idle-frames", 2000, |_| priority.clone());
    is_ended("idle-frames", |_| frame(0xbe, 0, 0, &[0; 8]).repeat(10));
}

#[test]
fn a_flood_in_pieces_of_one_byte() {
    let proxy = start();
    let mut attacker = Raw::connect(&proxy, &[]);
    let flood = frame(PING, 0, 0, &[0; 8]).repeat(200);
    let _ = flood.chunks(1).try_for_each(|byte| attacker.send(byte));
    attacker.end();
    proxy.wait_for_metric("hsm_proxy_http2_abuse_total{kind=\"pings\"} 1\n");
}

#[test]
fn streams_that_never_end_are_ended_while_pings_keep_the_connection_alive() {
    let upstream = Upstream::start(Answer::Never);
    let proxy = forwarding_to(&upstream);
    let mut client = Raw::connect(&proxy, &[]);
    client.send(&(0..128).flat_map(|n| post(2 * n + 1)).collect::<Vec<_>>()).unwrap();
    let mut answered = 0;
    while answered < 128 {
        let frame = client.receive().unwrap();
        if frame.kind == HEADERS {
            answered += 1;
            client.send(&crate::http2::frame(PING, 0, 0, &[0; 8])).unwrap();
        }
    }
    proxy.wait_for_metric("hsm_proxy_requests_total{site=\"a.example\",status=\"4xx\"} 128\n");
}

#[test]
fn a_client_with_a_window_of_zero_holds_nothing_for_long() {
    let upstream = Upstream::start(Answer::Forever);
    let proxy = forwarding_to(&upstream);
    // SETTINGS_INITIAL_WINDOW_SIZE is 0.
    let mut client = Raw::connect(&proxy, &[0, 4, 0, 0, 0, 0]);
    client.send(&(0..100).flat_map(|n| get(2 * n + 1)).collect::<Vec<_>>()).unwrap();
    let (mut resets, mut bytes) = (0, 0);
    while resets < 100 {
        let frame = client.receive().unwrap();
        match frame.kind {
            RST_STREAM => resets += 1,
            DATA => bytes += frame.payload.len(),
            HEADERS => client.send(&crate::http2::frame(PING, 0, 0, &[0; 8])).unwrap(),
            _ => {}
        }
    }
    assert_eq!(bytes, 0);
    // What the sockets on the way hold, and what the proxy does: a piece for each stream.
    assert!(upstream.sent() < 100 * (8 << 20), "{} bytes for a client that takes none", upstream.sent());
}

/// With little patience.
fn forwarding_to(upstream: &Upstream) -> Running {
    let mut config = config(&[&["a.example"]]);
    config.sites[0].to = upstream.url().parse().unwrap();
    config.timeouts.stall = Duration::from_millis(300);
    config.timeouts.upstream_response = Duration::from_secs(10);
    Running::start(config, Signing::AtOnce)
}

/// Ends five connections of this client for such a flood.
fn floods_five_times(proxy: &Running, kind: &str, flood: &[u8]) {
    for number in 1..=5 {
        let mut attacker = Raw::connect(proxy, &[]);
        attacker.send(flood).unwrap();
        attacker.end();
        proxy.wait_for_metric(&format!("hsm_proxy_http2_abuse_total{{kind=\"{kind}\"}} {number}\n"));
    }
}

#[test]
fn who_floods_again_and_again_is_let_in_slowly() {
    let proxy = start();
    floods_five_times(&proxy, "pings", &frame(PING, 0, 0, &[0; 8]).repeat(200));
    is_served(&proxy);
    let signatures = proxy.signatures();
    let connected = (0..1000).take_while(|_| Client::new(&proxy).connect("a.example").is_ok()).count();
    assert!(connected < 1000, "nobody is turned away");
    proxy.wait_for_metric("hsm_proxy_refused_connections_total{reason=\"http2-abuse\"} 1\n");
    assert_eq!(proxy.signatures(), signatures + connected, "turning away costs nobody a signature");
}

/// Any page can have its visitors' browsers do so.
#[test]
fn cancelling_again_and_again_keeps_nobody_out() {
    let proxy = start();
    let flood: Vec<u8> = (0..100).flat_map(|n| [get(2 * n + 1), reset(2 * n + 1)].concat()).collect();
    floods_five_times(&proxy, "resets", &flood);
    (0..20).for_each(|_| is_served(&proxy));
    proxy.wait_for_metric("hsm_proxy_refused_connections_total{reason=\"http2-abuse\"} 0\n");
}
