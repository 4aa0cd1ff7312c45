//! The thread that sends spans to the collector (OTLP specification, "OTLP/HTTP").

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::TryRecvError;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::Full;
use rustls::ClientConfig;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::encode;
use super::span::Span;
use crate::config::{CollectorUrl, TraceSettings};
use crate::one_request::{self, exchange, retry_after};
use crate::throttle::Throttle;
use crate::upstream::TrustError;

/// Batches that may wait for the collector: some 4,000 spans, 20 MiB at the very most. What comes on top is dropped and counted.
const QUEUE: usize = 64;

/// From so many spans on, a request takes no more batches.
const LARGEST: usize = 512;

/// One request, from the name's resolution to the end of the response.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pause before a batch is sent again; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long a batch is tried for.
const LONGEST_TRY: Duration = Duration::from_secs(60);

/// How long the end of the process may take for spans that are not sent yet.
const FAREWELL: Duration = Duration::from_secs(3);

/// Longest response that is read: it says how many spans were refused, and why.
const LONGEST_RESPONSE: usize = 64 * 1024;

/// Longest file of header fields, in bytes.
const LONGEST_FILE: u64 = 64 * 1024;

/// Where spans go.
pub(crate) struct Exporter {
    settings: TraceSettings,
    /// What its header fields were read from; other fields are another exporter.
    headers: HeaderMap,
    to_sender: mpsc::Sender<Vec<Span>>,
    counts: Arc<Counts>,
}

/// What became of the spans, of all exporters.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) exported: AtomicU64,
    /// For want of room in the queue.
    pub(crate) dropped: AtomicU64,
    /// The collector did not take them.
    pub(crate) failed: AtomicU64,
    threads: Mutex<Vec<SenderThread>>,
}

/// One that sends.
struct SenderThread {
    stop: watch::Sender<bool>,
    /// Disconnected when it has ended.
    ended: std::sync::mpsc::Receiver<Infallible>,
}

impl Counts {
    /// Has all exporters send what was handed over, also those that a reload has replaced; waits for that, but not long.
    pub(crate) fn finish(&self) {
        let deadline = Instant::now() + FAREWELL;
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in &threads {
            thread.stop.send_replace(true);
        }
        for thread in &threads {
            // It is late: that some spans are missing then is not told to anybody.
            let _ = thread.ended.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        }
    }

    fn started(&self, thread: SenderThread) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| thread.ended.try_recv() != Err(TryRecvError::Disconnected));
        threads.push(thread);
    }
}

/// Why nothing can be sent to a collector.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TracesError {
    /// The file of header fields can't be read.
    #[error("headers-file: can't read {}: {source}", .path.display())]
    Unreadable {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It has a line that is no header field. The line may be a secret, and is not shown.
    #[error("headers-file: line {line} of {} is not of the form `Name: value`", .path.display())]
    NoField {
        /// Where.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// The collector's certificate can't be verified.
    #[error("ca: {0}")]
    Trust(#[from] TrustError),
    /// There is no thread for it.
    #[error("can't start its thread: {0}")]
    Thread(io::Error),
}

impl Exporter {
    /// Reads what the settings name, and starts the thread, which ends with the last reference. `previous` if it is the same.
    ///
    /// # Errors
    ///
    /// [`TracesError`]. That the collector is not there is none.
    pub(crate) fn open(
        settings: &TraceSettings,
        counts: &Arc<Counts>,
        previous: Option<&Arc<Self>>,
    ) -> Result<Option<Arc<Self>>, TracesError> {
        let Some(endpoint) = &settings.endpoint else { return Ok(None) };
        let headers = headers_of(settings)?;
        // Anchors are read anew by each reload, as for upstreams.
        let reads_anchors = endpoint.is_secure() && settings.ca.is_some();
        let same = previous.filter(|previous| !reads_anchors && previous.settings == *settings);
        if let Some(same) = same.filter(|previous| previous.headers == headers) {
            return Ok(Some(Arc::clone(same)));
        }
        let tls = tls_of(settings, endpoint)?;
        let (to_sender, spans) = mpsc::channel(QUEUE);
        let (stop, stopped) = watch::channel(false);
        let sender = Sender {
            settings: settings.clone(),
            headers: headers.clone(),
            tls,
            counts: Arc::clone(counts),
            refused: Cell::new(false),
            complaints: Throttle::bursts(2, Duration::from_secs(60)),
            stopped,
        };
        if let Some(doubt) = Self::doubt(settings) {
            tracing::warn!("{doubt}");
        }
        let ended = sender.start(spans).map_err(TracesError::Thread)?;
        counts.started(SenderThread { stop, ended });
        Ok(Some(Arc::new(Self {
            settings: settings.clone(),
            headers,
            to_sender,
            counts: Arc::clone(counts),
        })))
    }

    /// What the operator should look at, though it works.
    pub(crate) fn doubt(settings: &TraceSettings) -> Option<String> {
        let endpoint = settings.endpoint.as_ref().filter(|endpoint| !endpoint.is_secure())?;
        let host = endpoint.host();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let is_here = address.map_or(host == "localhost", |address| address.to_canonical().is_loopback());
        (settings.headers_file.is_some() && !is_here).then(|| {
            format!("traces.headers-file: everybody on the way to {host} can read it: use an https endpoint")
        })
    }

    /// Looks at what the settings name, and starts nothing.
    ///
    /// # Errors
    ///
    /// Those of [`Self::open`].
    pub(crate) fn check(settings: &TraceSettings) -> Result<(), TracesError> {
        let Some(endpoint) = &settings.endpoint else { return Ok(()) };
        headers_of(settings)?;
        tls_of(settings, endpoint).map(drop)
    }

    pub(crate) fn settings(&self) -> &TraceSettings {
        &self.settings
    }

    /// Takes spans to send them; drops them if too many wait already.
    pub(super) fn hand_over(&self, spans: Vec<Span>) {
        let count = spans.len() as u64;
        if self.to_sender.try_send(spans).is_err() {
            self.counts.dropped.fetch_add(count, Relaxed);
        }
    }
}

fn headers_of(settings: &TraceSettings) -> Result<HeaderMap, TracesError> {
    settings.headers_file.as_deref().map_or_else(|| Ok(HeaderMap::new()), read_headers)
}

fn tls_of(
    settings: &TraceSettings,
    endpoint: &CollectorUrl,
) -> Result<Option<Arc<ClientConfig>>, TracesError> {
    let tls = endpoint.is_secure().then(|| one_request::trusting(settings.ca.as_deref()));
    Ok(tls.transpose()?)
}

fn read_headers(path: &Path) -> Result<HeaderMap, TracesError> {
    let unreadable = |source| TracesError::Unreadable { path: path.to_owned(), source };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > LONGEST_FILE {
        return Err(unreadable(io::Error::other("it is no file, or longer than 64 KiB")));
    }
    if metadata.mode() & 0o007 != 0 {
        return Err(unreadable(io::Error::other("everybody may read it, or change it: chmod o= it")));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let mut headers = HeaderMap::new();
    for (at, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let field = line.split_once(':').and_then(|(name, value)| {
            let mut value = HeaderValue::from_str(value.trim()).ok()?;
            value.set_sensitive(true);
            Some((name.trim().parse::<HeaderName>().ok()?, value))
        });
        let (name, value) =
            field.ok_or_else(|| TracesError::NoField { path: path.to_owned(), line: at + 1 })?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// What the thread has.
struct Sender {
    settings: TraceSettings,
    headers: HeaderMap,
    tls: Option<Arc<ClientConfig>>,
    counts: Arc<Counts>,
    /// The last request was not taken, and the log says so.
    refused: Cell<bool>,
    complaints: Throttle,
    /// The process ends.
    stopped: watch::Receiver<bool>,
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("it can't be asked: {0}")]
    Unreachable(io::Error),
    #[error("it did not answer within {PATIENCE:?}")]
    Silent,
    #[error("it answered {status}")]
    Status { status: StatusCode, retry_after: Option<Duration> },
}

impl Refusal {
    /// After which time it may help to ask again: by the server, or by the caller's own measure. `None` if it does not
    /// (OTLP specification, "Failures").
    fn pause(&self, own: Duration) -> Option<Duration> {
        match *self {
            Self::Unreachable(_) | Self::Silent => Some(own),
            Self::Status { status, retry_after } => {
                let passes = matches!(
                    status,
                    StatusCode::TOO_MANY_REQUESTS
                        | StatusCode::BAD_GATEWAY
                        | StatusCode::SERVICE_UNAVAILABLE
                        | StatusCode::GATEWAY_TIMEOUT
                );
                // A collector whose clock is behind asks for no pause at all.
                passes.then(|| retry_after.map_or(own, |asked| asked.max(own)))
            }
        }
    }
}

impl Sender {
    /// Starts the thread; what it returns is disconnected by its end.
    fn start(self, spans: mpsc::Receiver<Vec<Span>>) -> io::Result<std::sync::mpsc::Receiver<Infallible>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (alive, ended) = std::sync::mpsc::channel();
        thread::Builder::new().name("traces".to_owned()).spawn(move || {
            let _alive = alive;
            runtime.block_on(self.run(spans));
        })?;
        Ok(ended)
    }

    /// Sends until nobody hands over any more, and what was handed over until then.
    async fn run(self, mut queue: mpsc::Receiver<Vec<Span>>) {
        loop {
            let next = tokio::select! {
                biased;
                () = self.is_stopped(), if !queue.is_closed() => {
                    queue.close();
                    continue;
                }
                next = queue.recv() => next,
            };
            let Some(mut spans) = next else { return };
            // What waits already goes with them.
            while spans.len() < LARGEST {
                let Ok(more) = queue.try_recv() else { break };
                spans.extend(more);
            }
            self.deliver(&spans, &queue).await;
        }
    }

    async fn is_stopped(&self) {
        // That nobody can say so any more is the same.
        let _ = self.stopped.clone().wait_for(|stopped| *stopped).await;
    }

    /// Sends the spans until they are taken, or there is no hope.
    async fn deliver(&self, spans: &[Span], queue: &mpsc::Receiver<Vec<Span>>) {
        let body = Bytes::from(encode::request(&self.settings.service_name, spans));
        let (count, began) = (spans.len() as u64, Instant::now());
        let mut own = FIRST_PAUSE;
        let collector = self.settings.endpoint.as_ref().map_or("", CollectorUrl::authority);
        loop {
            let refusal = match self.send(body.clone()).await {
                Ok(rejected) => {
                    let rejected = rejected.min(count);
                    self.counts.exported.fetch_add(count - rejected, Relaxed);
                    self.counts.failed.fetch_add(rejected, Relaxed);
                    if self.refused.take() {
                        tracing::info!(collector, "the collector of traces takes spans again");
                    }
                    return;
                }
                Err(refusal) => refusal,
            };
            // Once until it takes some again.
            if !self.refused.get()
                && let Some(held_back) = self.complaints.pass()
            {
                self.refused.set(true);
                tracing::warn!(collector, reason = %refusal, held_back, "the collector of traces takes no spans");
            }
            // The exporter was replaced, or the process ends: nobody waits for it.
            let is_late = queue.is_closed() || *self.stopped.borrow();
            let pause = refusal.pause(own).filter(|_| !is_late);
            let gives_up = pause.is_none_or(|pause| began.elapsed() + pause > LONGEST_TRY);
            if gives_up {
                self.counts.failed.fetch_add(count, Relaxed);
            }
            let Some(pause) = pause else { return };
            if gives_up {
                // The next spans wait as long as the collector asks for, within reason.
                return self.sleep(pause.min(LONGEST_TRY)).await;
            }
            self.sleep(pause).await;
            own = (own * 2).min(LONGEST_PAUSE);
        }
    }

    /// Waits, but not past the process's end.
    async fn sleep(&self, pause: Duration) {
        tokio::select! {
            () = sleep(pause) => {}
            () = self.is_stopped() => {}
        }
    }

    /// How many of the spans the collector rejects for good.
    async fn send(&self, body: Bytes) -> Result<u64, Refusal> {
        let Some(endpoint) = &self.settings.endpoint else { return Ok(0) };
        let invalid = |error: http::Error| Refusal::Unreachable(io::Error::other(error));
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(endpoint.path())
            .header(HOST, endpoint.authority())
            .header(CONTENT_TYPE, "application/x-protobuf")
            .header(USER_AGENT, one_request::AGENT)
            .body(Full::new(body))
            .map_err(invalid)?;
        request.headers_mut().extend(self.headers.clone());
        let answer = exchange(self.tls.as_ref(), endpoint.host(), endpoint.port(), request, LONGEST_RESPONSE);
        let response = timeout(PATIENCE, answer).await.map_err(|_| Refusal::Silent)?;
        let response = response.map_err(Refusal::Unreachable)?;
        if response.status().is_success() {
            return Ok(encode::rejected(response.body()).unwrap_or_default());
        }
        let pause = response.headers().get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?));
        Err(Refusal::Status { status: response.status(), retry_after: pause })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::Share;
    use crate::traces::context::{SpanId, TraceId};
    use crate::traces::span::{Attributes, SpanKind};

    fn span() -> Span {
        Span {
            trace: TraceId([1; 16]),
            id: SpanId([2; 8]),
            parent: None,
            state: None,
            kind: SpanKind::Server,
            name: "GET".into(),
            start: 1,
            end: 2,
            attributes: Attributes::default(),
            failed: false,
            link: None,
        }
    }

    fn exporter_to(listener: &TcpListener) -> (Arc<Exporter>, Arc<Counts>) {
        let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().ok();
        let settings =
            TraceSettings { endpoint, sample: Share::new(1.0).unwrap(), ..TraceSettings::default() };
        let counts = Arc::default();
        let exporter = Exporter::open(&settings, &counts, None).unwrap().unwrap();
        let again = Exporter::open(&settings, &counts, Some(&exporter)).unwrap().unwrap();
        assert!(Arc::ptr_eq(&exporter, &again), "a reload that changes nothing");
        (exporter, counts)
    }

    #[test]
    fn a_collector_that_hangs_costs_spans_and_nothing_else() {
        // Connections are made by the kernel, and nobody answers.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (exporter, counts) = exporter_to(&listener);
        let began = Instant::now();
        for _ in 0..10 * QUEUE {
            exporter.hand_over(vec![span(), span()]);
        }
        assert!(began.elapsed() < PATIENCE, "nobody waited");
        let dropped = counts.dropped.load(Relaxed);
        // The thread has taken some, up to those of one request.
        let kept = (QUEUE + LARGEST / 2 + 1) as u64;
        let handed = 10 * QUEUE as u64;
        assert!(dropped >= 2 * (handed - kept) && dropped <= 2 * (handed - QUEUE as u64), "{dropped}");
    }

    #[test]
    fn the_end_waits_for_what_is_not_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (exporter, counts) = exporter_to(&listener);
        exporter.hand_over(vec![span(), span(), span()]);
        let serving = thread::spawn(move || {
            use std::io::{Read, Write};
            let (mut stream, _) = listener.accept().unwrap();
            let _part = stream.read(&mut [0; 65536]).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        });
        // A reload has replaced it meanwhile.
        drop(exporter);
        counts.finish();
        assert_eq!(counts.exported.load(Relaxed), 3);
        serving.join().unwrap();
    }

    #[test]
    fn the_end_does_not_wait_for_a_collector_that_is_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (exporter, counts) = exporter_to(&listener);
        drop(listener);
        (0..2 * QUEUE).for_each(|_| exporter.hand_over(vec![span()]));
        let began = Instant::now();
        counts.finish();
        assert!(began.elapsed() < FAREWELL, "refused at once, and not asked again");
        let [failed, dropped] = [&counts.failed, &counts.dropped].map(|count| count.load(Relaxed));
        assert_eq!(failed + dropped, 2 * QUEUE as u64);
    }

    #[test]
    fn fields_in_plain_text_are_doubted_unless_they_stay_here() {
        let doubt = |endpoint: &str, has_fields: bool| {
            let headers_file = has_fields.then(|| "fields".into());
            let endpoint = Some(endpoint.parse().unwrap());
            Exporter::doubt(&TraceSettings { endpoint, headers_file, ..TraceSettings::default() })
        };
        for here in
            ["http://127.0.0.1:4318", "http://localhost:4318", "http://[::1]:4318", "https://collector"]
        {
            assert_eq!(doubt(here, true), None, "{here}");
        }
        assert_eq!(doubt("http://collector:4318", false), None);
        assert!(doubt("http://collector:4318", true).unwrap().contains("collector"));
        assert!(doubt("http://192.0.2.1", true).is_some());
    }

    fn private(path: &Path, text: &str) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    #[test]
    fn fields_are_read_and_what_is_none_is_not_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("headers");
        private(&path, "# token\n\nX-Key:  a:b \nx-key: c\n");
        let headers = read_headers(&path).unwrap();
        let values: Vec<_> = headers.get_all("x-key").iter().collect();
        assert_eq!(values, ["a:b", "c"]);
        assert!(values.iter().all(|value| value.is_sensitive()));
        for (text, line) in [("a: b\nhush\n", "line 2"), ("hu sh: x", "line 1"), ("a: \u{1}", "line 1")] {
            private(&path, text);
            let error = read_headers(&path).unwrap_err().to_string();
            assert!(error.contains(line) && !error.contains("hu"), "{error}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read_headers(&path).unwrap_err().to_string().contains("chmod o="));
        let error = read_headers(directory.path()).unwrap_err().to_string();
        assert!(error.contains("no file"), "{error}");
    }
}
