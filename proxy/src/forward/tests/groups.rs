use tokio::net::UnixListener;

use super::*;
use crate::config::Config;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

fn proxy(servers: &[String], keys: &str) -> Proxy {
    let text = format!("[[upstream]]\nname = \"a\"\nservers = {servers:?}\nmax-failures = 2\n{keys}");
    let settings = Config::parse(&text).unwrap().upstreams.remove(0);
    let timeouts = Timeouts { upstream_response: Duration::from_millis(200), ..Timeouts::default() };
    Proxy::to_group(ServerGroup::of(&settings, None).unwrap(), &timeouts, &Limits::default())
}

async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

fn request(method: &str, fields: &str) -> String {
    format!("{method} / HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n{fields}\r\n")
}

#[test]
fn a_request_that_was_not_sent_goes_to_another_server_and_the_dead_one_is_ejected() {
    on_worker(async {
        let (alive, seen) = answering(OK).await;
        let servers = [format!("http://{}", nobody().await), format!("http://{alive}")];
        let proxy = proxy(&servers, "balance = \"round-robin\"");
        for count in 1..=8 {
            let answer = proxy.raw(request("POST", "Content-Length: 4\r\n") + "body").await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            assert!(seen.last().ends_with("body"));
            assert_eq!(seen.count(), count);
        }
    });
}

#[test]
fn a_lost_request_is_sent_again_only_if_that_is_safe() {
    on_worker(async {
        let losses = Rc::new(std::cell::Cell::new(0));
        let counted = Rc::clone(&losses);
        let losing = serving(move |mut stream| {
            counted.set(counted.get() + 1);
            async move { drop(read_request(&mut stream).await) }
        })
        .await;
        let (alive, seen) = answering(OK).await;
        let servers = [format!("http://{losing}"), format!("http://{alive}")];
        for (method, body, status) in [("GET", "", "200"), ("POST", "", "502"), ("PUT", "x", "502")] {
            let proxy = proxy(&servers, "balance = \"round-robin\"");
            let before = (losses.get(), seen.count());
            let answer =
                proxy.raw(request(method, &format!("Content-Length: {}\r\n", body.len())) + body).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{method}: {answer}");
            assert_eq!(losses.get() - before.0, 1, "{method}");
            assert_eq!(seen.count() - before.1, usize::from(status == "200"), "{method}");
        }
    });
}

#[test]
fn when_all_are_ejected_they_are_tried_and_their_failure_is_told() {
    on_worker(async {
        let servers = [format!("http://{}", nobody().await), format!("http://{}", nobody().await)];
        let proxy = proxy(&servers, "");
        for _ in 0..5 {
            let answer = proxy.raw(request("GET", "")).await;
            assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("can't be reached"), "{answer}");
        }
    });
}

#[test]
fn retries_have_a_limit() {
    on_worker(async {
        let (alive, seen) = answering(OK).await;
        let servers = [format!("http://{}", nobody().await), format!("http://{alive}")];
        let proxy = proxy(&servers, "balance = \"round-robin\"\nretries = 0\n");
        let answer = proxy.raw(request("GET", "")).await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        assert_eq!(seen.count(), 0);
    });
}

#[test]
fn a_client_comes_back_to_its_server_by_its_cookie() {
    on_worker(async {
        let (first, _) = answering("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0").await;
        let (second, _) = answering("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1").await;
        let servers = [format!("http://{first}"), format!("http://{second}")];
        let proxy = proxy(&servers, "balance = \"round-robin\"\nsticky-cookie = \"route\"");
        for who in ["0", "1"] {
            let answer = proxy.raw(request("GET", "")).await;
            assert!(answer.ends_with(who), "{answer}");
            let (_, cookie) = answer.split_once("set-cookie: ").unwrap();
            let (cookie, attributes) = cookie.lines().next().unwrap().split_once("; ").unwrap();
            assert_eq!(attributes, "Path=/; Secure; HttpOnly; SameSite=Lax");
            for _ in 0..3 {
                let answer = proxy.raw(request("GET", &format!("Cookie: a=b; {cookie}\r\n"))).await;
                assert!(answer.ends_with(who) && !answer.contains("set-cookie"), "{answer}");
            }
        }
        let answer = proxy.raw(request("GET", "Cookie: route=0000000000000000\r\n")).await;
        assert!(answer.contains("set-cookie: route="), "a cookie that names nobody: {answer}");
    });
}

#[test]
fn an_upstream_may_listen_at_a_unix_socket() {
    on_worker(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        let listener = UnixListener::bind(&path).unwrap();
        spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            assert!(String::from_utf8(head).unwrap().contains("host: example.org\r\n"));
            stream.write_all(OK.as_bytes()).await.unwrap();
        });
        let servers = [format!("unix:{}", path.display())];
        assert!(proxy(&servers, "").raw(request("GET", "")).await.ends_with("hi"));
    });
}

#[test]
fn requests_beyond_max_pending_are_refused_at_once() {
    on_worker(async {
        let (release, released) = tokio::sync::watch::channel(false);
        let (arrived, mut arrival) = tokio::sync::mpsc::unbounded_channel();
        let upstream = serving(move |mut stream| {
            let (mut released, arrived) = (released.clone(), arrived.clone());
            async move {
                while read_request(&mut stream).await.is_some() {
                    arrived.send(()).unwrap();
                    released.wait_for(|&released| released).await.unwrap();
                    stream.write_all(OK.as_bytes()).await.unwrap();
                }
            }
        })
        .await;
        let keys = "max-connections = 1\nmax-pending = 1";
        let text = format!("[[upstream]]\nname = \"a\"\nservers = [\"http://{upstream}\"]\n{keys}");
        let settings = Config::parse(&text).unwrap().upstreams.remove(0);
        let group = ServerGroup::of(&settings, None).unwrap();
        let proxy = Rc::new(Proxy::to_group(group, &Timeouts::default(), &Limits::default()));
        let ask = || {
            let proxy = Rc::clone(&proxy);
            spawn_local(async move { proxy.raw(request("GET", "")).await })
        };
        let first = ask();
        arrival.recv().await.unwrap();
        // One of them waits for the connection, the other is one too many.
        let (second, third) = (ask(), ask());
        let third = third.await.unwrap();
        assert!(third.starts_with("HTTP/1.1 503 "), "{third}");
        release.send(true).unwrap();
        assert!(first.await.unwrap().ends_with("hi"));
        assert!(second.await.unwrap().ends_with("hi"));
    });
}
