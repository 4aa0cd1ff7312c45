use std::cell::Cell;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;

use super::*;
use crate::config::{Config, Limits, Timeouts};
use crate::upstream::ServerGroup;

/// No test takes longer, whatever goes wrong.
const DEADLINE: Duration = Duration::from_secs(20);

/// What a server of this test answers; it accepts nothing while it is 0.
type Status = Rc<Cell<u16>>;

fn group(server: &str, keys: &str) -> Arc<ServerGroup> {
    let text = format!(
        "[[upstream]]\nname = \"a\"\nservers = [{server:?}]\nhealth-interval = \"5ms\"\nhealth-timeout = \"2s\"\n{keys}"
    );
    ServerGroup::of(&Config::parse(&text).unwrap().upstreams.remove(0), None).unwrap()
}

async fn answering(status: Status, seen: Rc<Cell<u32>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let host = url.trim_start_matches("http://").to_owned();
    spawn_local(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { break };
                head.push(byte);
            }
            let head = String::from_utf8(head).unwrap();
            assert!(head.is_empty() || head.starts_with("GET /health?deep HTTP/1.1\r\n"), "{head}");
            assert!(head.is_empty() || head.contains(&format!("host: {host}\r\n")), "{head}");
            seen.set(seen.get() + 1);
            let answer = format!("HTTP/1.1 {} Text\r\nContent-Length: 0\r\n\r\n", status.get());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    url
}

async fn until(what: impl Fn() -> bool) {
    while !what() {
        sleep(Duration::from_millis(1)).await;
    }
}

fn on_worker(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bounded = async { timeout(DEADLINE, test).await.expect("the test hangs") };
    LocalSet::new().block_on(&runtime, bounded);
}

fn start(group: &ServerGroup) -> Arc<Server> {
    let settings = Arc::new(Settings::new(&Limits::default(), &Timeouts::default()));
    let server = Arc::clone(&group.members[0].server);
    spawn_local(follow("a".into(), Arc::clone(&server), server.options.check.clone().unwrap(), settings));
    server
}

#[test]
fn a_status_takes_a_server_out_and_brings_it_back_after_so_many() {
    on_worker(async {
        let (status, seen) = (Status::new(Cell::new(200)), Rc::new(Cell::new(0)));
        let url = answering(Rc::clone(&status), Rc::clone(&seen)).await;
        let server =
            start(&group(&url, "health-check = \"http:/health?deep\"\nhealth-fall = 3\nhealth-rise = 2"));
        until(|| seen.get() >= 3).await;
        assert!(server.health.is_up());
        for _ in 0..2 {
            status.set(503);
            let before = seen.get();
            until(|| !server.health.is_up()).await;
            assert!((3..=4).contains(&(seen.get() - before)), "{}", seen.get() - before);
            status.set(301);
            let before = seen.get();
            until(|| server.health.is_up()).await;
            assert!((2..=3).contains(&(seen.get() - before)), "{}", seen.get() - before);
        }
    });
}

#[test]
fn a_status_may_be_named() {
    on_worker(async {
        let (status, seen) = (Status::new(Cell::new(200)), Rc::new(Cell::new(0)));
        let url = answering(Rc::clone(&status), Rc::clone(&seen)).await;
        let server = start(&group(&url, "health-check = \"http:/health?deep\"\nhealth-status = 204"));
        until(|| !server.health.is_up()).await;
        status.set(204);
        until(|| server.health.is_up()).await;
    });
}

#[test]
fn a_connection_is_enough_for_tcp_and_a_server_that_comes_late_is_found() {
    on_worker(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        let server = start(&group(&format!("unix:{}", path.display()), "health-check = \"tcp\""));
        until(|| !server.health.is_up()).await;
        let _listener = tokio::net::UnixListener::bind(&path).unwrap();
        until(|| server.health.is_up()).await;
    });
}
