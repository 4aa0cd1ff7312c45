//! The status page in a browser: what it says when all is well, after an engine died, and when its proxy is gone.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hsm_e2e::{Browser, Stack, run, tool, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Wide enough for two columns, and a telephone.
const DESKTOP: &str = "1180,1300";
const PHONE: &str = "360,1300";

/// `http://ADDRESS/` of the admin listener.
fn status_url(stack: &Stack) -> String {
    let words = stack.greeting.lines().find_map(|line| line.trim().strip_prefix("status "));
    words.and_then(|words| words.split_whitespace().next()).expect("the page's address").to_owned()
}

/// The body of a response.
fn get(url: &str, path: &str) -> (String, String) {
    let address = url.strip_prefix("http://").unwrap().trim_end_matches('/');
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn report(url: &str) -> Value {
    serde_json::from_str(&get(url, "/status.json").1).unwrap()
}

/// The element's text, from its id to the next tag.
fn text_of<'a>(document: &'a str, id: &str) -> &'a str {
    let (_, rest) =
        document.split_once(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("no {id}: {document}"));
    rest.split_once('>').unwrap().1.split('<').next().unwrap()
}

fn is_a_picture(png: &[u8], what: &str) {
    // One colour all over takes a few kilobytes.
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n") && png.len() > 25_000, "{what}: {} bytes", png.len());
}

fn handshake(stack: &Stack, curl: &Path) {
    run(stack.curl(curl).arg(stack.url("/"))).success();
}

#[test]
fn a_browser_shows_that_all_is_well_and_then_that_an_engine_was_killed() {
    let (Some(browser), Some(curl)) = (Browser::find(), tool::find("curl")) else { return };
    let stack = Stack::start();
    let url = status_url(&stack);
    handshake(&stack, &curl);
    wait::until("both engines are up and a sample has the handshake", Duration::from_secs(20), || {
        let report = report(&url);
        let up = report["engines"].as_array().unwrap().iter().all(|engine| engine["up"] == true);
        let samples = report["samples"].as_array().unwrap();
        let full = samples.iter().any(|sample| sample[3].as_u64() > Some(0));
        // Enough of them for a line.
        (up && full && samples.len() > 3).then_some(())
    });
    assert!(
        report(&url)["servers"].as_array().unwrap().is_empty(),
        "the built-in page has no server behind it"
    );
    // A client without a name.
    let nameless = format!("https://{}/", stack.address());
    assert_ne!(
        run(Command::new(&curl).args(["--silent", "--insecure", "--noproxy", "*", &nameless])).code,
        Some(0)
    );
    let document = browser.document(DESKTOP, &url);
    assert_eq!(text_of(&document, "headline"), "Serving; both engines answer");
    for expected in
        ["engine-0", "engine-1", "localhost", "● up", " days", "asked for no site, or an unknown one"]
    {
        assert!(document.contains(expected), "{expected}: {document}");
    }
    assert!(document.contains("class=\"line k-a\""), "a chart is drawn");
    assert!(!document.contains("mark-sign k"), "no failover yet");

    stack.signal_engine(0, Signal::KILL);
    wait::until("the loss is told", Duration::from_secs(20), || {
        let report = report(&url);
        let told = report["events"].as_array().unwrap().iter().any(|event| {
            (event["kind"] == "engine-lost" || event["kind"] == "engine-down")
                && event["subject"].as_str().unwrap().contains("engine-0")
        });
        told.then_some(())
    });
    let document = browser.document(PHONE, &url);
    assert!(
        document.contains("engine-0 went down") || document.contains("engine-0: connection lost"),
        "{document}"
    );
    assert!(document.contains("mark-sign k"), "it is marked on the charts: {document}");

    let light = browser.screenshot("light.png", DESKTOP, &url, &[]);
    let dark = browser.screenshot("dark.png", DESKTOP, &url, &["--blink-settings=preferredColorScheme=0"]);
    let phone = browser.screenshot("phone.png", PHONE, &url, &[]);
    for (png, what) in [(&light, "light"), (&dark, "dark"), (&phone, "phone")] {
        is_a_picture(png, what);
    }
    assert_ne!(light, dark);
}

/// Lets engines go on, however the test ends.
struct Thaw(Vec<i32>);

impl Drop for Thaw {
    fn drop(&mut self) {
        for pid in self.0.iter().filter_map(|&pid| Pid::from_raw(pid)) {
            let _gone = kill_process(pid, Signal::CONT);
        }
    }
}

#[test]
fn a_browser_shows_engines_that_do_not_answer() {
    let (Some(browser), Some(curl)) = (Browser::find(), tool::find("curl")) else { return };
    let stack = Stack::start();
    let url = status_url(&stack);
    handshake(&stack, &curl);
    let mut frozen = Thaw(vec![stack.signal_engine(0, Signal::STOP)]);
    // The proxy pings engines that are not asked anything, too, but not at once.
    wait::until("one engine is out", Duration::from_secs(60), || {
        handshake(&stack, &curl);
        (report(&url)["engines"][0]["up"] == false).then_some(())
    });
    let document = browser.document(DESKTOP, &url);
    assert_eq!(text_of(&document, "headline"), "Serving, with 1 of 2 engines");
    assert!(document.contains("✕ down"), "{document}");

    frozen.0.push(stack.signal_engine(1, Signal::STOP));
    wait::until("both are out", Duration::from_secs(60), || {
        let failed = run(stack.curl(&curl).args(["--max-time", "3"]).arg(stack.url("/")));
        assert_ne!(failed.code, Some(0), "nobody signs");
        (report(&url)["ready"] == false).then_some(())
    });
    let document = browser.document(PHONE, &url);
    let headline = text_of(&document, "headline");
    assert!(headline.starts_with("No engine can sign"), "{headline}");
}

/// A listener that gives the page of a real proxy, and a report once; then it says nothing any more.
fn pretend(page: (String, String), report: String) -> String {
    pretend_with(vec![("GET /", page)], report)
}

/// The same with several pages, by how their requests begin; the last that fits is meant.
fn pretend_with(pages: Vec<(&'static str, (String, String))>, report: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let asked = AtomicUsize::new(0);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 4096];
            let Ok(length) = stream.read(&mut request) else { continue };
            let request = String::from_utf8_lossy(&request[..length]);
            let page = pages.iter().rev().find(|(start, _)| request.starts_with(start));
            let (head, body) = if let (false, Some((_, page))) =
                (request.starts_with("GET /status.json"), page)
            {
                (page.0.clone(), &page.1)
            } else if asked.fetch_add(1, Ordering::Relaxed) == 0 {
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close",
                    report.len()
                );
                (head, &report)
            } else {
                continue;
            };
            let _gone = stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes());
        }
    });
    url
}

#[test]
fn a_page_that_loses_its_proxy_says_so_and_names_are_only_ever_text() {
    let Some(browser) = Browser::find() else { return };
    let stack = Stack::in_front_of("http://127.0.0.1:9");
    let real = status_url(&stack);
    let page = get(&real, "/");
    assert!(page.0.to_lowercase().contains("content-security-policy"), "{}", page.0);
    let mut report = report(&real);
    let hostile = "</script><img src=x onerror=\"document.title='taken'\"><b>x</b>";
    report["sites"][0]["name"] = hostile.into();
    report["sites"][0]["to"] = hostile.into();
    report["engines"][0]["name"] = hostile.into();
    report["engines"][0]["up"] = false.into();
    report["engines"][0]["state"] = hostile.into();
    report["servers"][0]["url"] = hostile.into();
    report["servers"][0]["upstream"] = hostile.into();
    let now = report["now"].clone();
    report["events"] = serde_json::json!([
        { "at": now, "kind": "engine-down", "subject": hostile, "text": hostile, "count": 1 },
        { "at": now, "kind": "something-new", "subject": "", "text": "", "count": 1 },
    ]);
    let document = browser.document(PHONE, &pretend(page.clone(), report.to_string()));
    assert_eq!(text_of(&document, "headline"), "The proxy does not answer");
    assert!(document.contains("Below is what it said last"), "{document}");
    assert!(document.contains("&lt;img src=x onerror="), "{document}");
    assert!(!document.contains("<img") && !document.contains("<b>x</b>"), "{document}");
    assert!(!document.contains("<title>taken"), "{document}");

    // The page itself has come, and then there never was an answer.
    let document = browser.document(DESKTOP, &pretend(page.clone(), "no JSON".to_owned()));
    assert_eq!(text_of(&document, "headline"), "The proxy does not answer");
    // Nobody has keys, sites or upstreams.
    for list in ["engines", "sites", "servers", "events", "samples"] {
        report[list] = Value::Array(Vec::new());
    }
    let document = browser.document(DESKTOP, &pretend(page, report.to_string()));
    for expected in
        ["No engines: the keys are in this process.", "No site is configured", "No upstream is configured."]
    {
        let (_, after) = document.split_once("class=\"empty\"").unwrap();
        assert!(after.contains(expected), "{expected}");
    }
}

#[test]
fn nothing_of_the_page_is_wider_than_a_telephone() {
    let Some(browser) = Browser::find() else { return };
    let stack = Stack::in_front_of("http://127.0.0.1:9");
    let real = status_url(&stack);
    let (_, page) = get(&real, "/");
    let mut report = report(&real);
    let long = "x".repeat(200);
    for (list, field) in
        [("sites", "name"), ("sites", "to"), ("engines", "name"), ("engines", "state"), ("servers", "url")]
    {
        report[list][0][field] = long.clone().into();
    }
    // A window is never so narrow, but a frame may be; here without the policy that forbids frames.
    let frame = "<!doctype html><body><iframe id=frame width=360 height=1300 frameborder=0 src=/framed></iframe><script>\
                 setTimeout(() => { document.body.dataset.width = \
                 document.getElementById('frame').contentDocument.documentElement.scrollWidth; }, 3000);</script></body>";
    let html = |body: &str| {
        let length = body.len();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nConnection: close";
        (format!("{head}\r\nContent-Length: {length}"), body.to_owned())
    };
    let pages = vec![("GET / ", html(frame)), ("GET /framed", html(&page))];
    let document = browser.document(DESKTOP, &pretend_with(pages, report.to_string()));
    assert!(document.contains("data-width=\"360\""), "{document}");
}
