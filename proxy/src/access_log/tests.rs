use http::{HeaderValue, Method, Version};
use time::macros::datetime;
use tokio::task::LocalSet;

use super::*;

fn entry<'a>(target: &'a str, referer: Option<&'a HeaderValue>, agent: Option<&'a HeaderValue>) -> Entry<'a> {
    Entry {
        received: datetime!(2026-11-25 16:03:09.5 UTC),
        took: Duration::from_micros(1_500),
        client: "2001:db8::1".parse().unwrap(),
        site: "www.example.org",
        host: "www.example.org",
        method: &Method::GET,
        target,
        version: Version::HTTP_2,
        status: 200,
        is_client_gone: false,
        bytes: 1234,
        referer,
        user_agent: agent,
        tls_version: "TLSv1.3",
        cipher_suite: "TLS13_AES_128_GCM_SHA256",
        resumed: false,
        signed_by: Some("/run/hsm-engine/engine-0.sock"),
        trace: None,
        with_query: false,
    }
}

#[test]
fn each_format_is_the_one_that_programs_know() {
    let (referer, agent) =
        (HeaderValue::from_static("https://a.example/?token=1"), HeaderValue::from_static("curl/8"));
    let entry = entry("/a", Some(&referer), Some(&agent));
    assert_eq!(
        entry.json().to_string(),
        "{\"time\":\"2026-11-25T16:03:09.500Z\",\"client\":\"2001:db8::1\",\"site\":\"www.example.org\",\"method\":\"GET\",\
         \"target\":\"/a\",\"protocol\":\"HTTP/2.0\",\"status\":200,\"bytes\":1234,\"seconds\":0.001500,\
         \"referer\":\"https://a.example/\",\"user-agent\":\"curl/8\",\"tls\":\"TLSv1.3\",\
         \"cipher\":\"TLS13_AES_128_GCM_SHA256\",\"resumed\":false,\"engine\":\"/run/hsm-engine/engine-0.sock\"}"
    );
    let common = "2001:db8::1 - - [25/Nov/2026:16:03:09 +0000] \"GET /a HTTP/2.0\" 200 1234";
    assert_eq!(entry.common().to_string(), common);
    assert_eq!(entry.combined().to_string(), format!("{common} \"https://a.example/\" \"curl/8\""));
}

#[test]
fn whatever_a_client_sends_a_line_stays_a_line() {
    let agent = HeaderValue::from_bytes(b"a\t\"b\" \\ \xff\xc2\x85").unwrap();
    let entry = entry("/\"\\", None, Some(&agent));
    let combined = entry.combined().to_string();
    assert!(combined.ends_with(r#"200 1234 "-" "a\x09\x22b\x22 \x5C \xFF\xC2\x85""#), "{combined}");
    assert!(combined.contains(r#""GET /\x22\x5C HTTP/2.0""#), "{combined}");
    let json = entry.json().to_string();
    assert!(json.contains("\"user-agent\":\"a\\u0009\\\"b\\\" \\\\ \u{fffd}\\u0085\""), "{json}");
    assert!(json.contains(r#""target":"/\"\\""#), "{json}");
}

/// A log in a directory of its own.
fn open(directory: &tempfile::TempDir) -> (Arc<AccessLog>, Arc<Counts>) {
    let counts = Arc::default();
    let settings = LogSettings {
        access: Some(directory.path().join("access.log")),
        format: LogFormat::Common,
        ..LogSettings::default()
    };
    (AccessLog::open(&settings, &counts).unwrap().unwrap(), counts)
}

#[tokio::test]
async fn a_renamed_file_and_a_signal_make_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let [current, old] = ["access.log", "access.log.1"].map(|name| directory.path().join(name));
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default().lines().count();
    let (log, counts) = open(&directory);
    LocalSet::new()
        .run_until(async {
            let write = |target| {
                let lines = Lines::new(Arc::clone(&log));
                lines.write(&entry(target, None, None));
                lines.flush();
                log.finish();
            };
            write("/1");
            std::fs::rename(&current, &old).unwrap();
            write("/2");
            assert_eq!((read(&old), read(&current)), (1, 1), "it was renamed");
            std::fs::remove_file(&current).unwrap();
            log.reopen().await;
            log.finish();
            assert!(current.exists());
            write("/3");
            assert_eq!(read(&current), 1);
        })
        .await;
    assert_eq!((counts.written.load(Relaxed), counts.dropped.load(Relaxed)), (3, 0));
}

#[tokio::test]
async fn lines_are_handed_over_soon_and_what_finds_no_room_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let counts = Arc::<Counts>::default();
    let settings = LogSettings { access: Some(directory.path().join("none")), ..LogSettings::default() };
    // Nobody takes what is handed over.
    let (to_writer, mut messages) = mpsc::channel(1);
    let log = Arc::new(AccessLog { settings, to_writer, counts: Arc::clone(&counts) });
    LocalSet::new()
        .run_until(async {
            let lines = Lines::new(log);
            lines.write(&entry("/", None, None));
            lines.write(&entry("/", None, None));
            assert!(messages.try_recv().is_err(), "not yet");
            let Some(Message::Lines(batch)) = messages.recv().await else { panic!("no batch") };
            assert_eq!((batch.lines, batch.text.lines().count()), (2, 2));

            let long = "/".repeat(BATCH);
            for _ in 0..3 {
                lines.write(&entry(&long, None, None));
            }
            assert_eq!(counts.dropped.load(Relaxed), 2, "one batch has room");
        })
        .await;
}
