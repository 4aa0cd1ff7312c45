use std::sync::Arc;

use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::sign::SigningKey;

use super::*;
use crate::keys::KeyError;

/// Has all keys, and signs with none.
struct AllKeys;

#[derive(Debug)]
struct Silent;

impl KeySource for AllKeys {
    fn signing_key(&self, _: &SubjectPublicKeyInfoDer<'_>) -> Result<Arc<dyn SigningKey>, KeyError> {
        Ok(Arc::new(Silent))
    }
}

impl SigningKey for Silent {
    fn choose_scheme(&self, _: &[rustls::SignatureScheme]) -> Option<Box<dyn rustls::sign::Signer>> {
        None
    }

    fn algorithm(&self) -> rustls::SignatureAlgorithm {
        rustls::SignatureAlgorithm::ECDSA
    }
}

struct Lookups {
    files: tempfile::TempDir,
    counts: Arc<crate::metrics::Lookups>,
    directory: Arc<CertificateDirectory>,
}

impl Lookups {
    fn new() -> Self {
        let files = tempfile::tempdir().unwrap();
        let counts = Arc::default();
        let directory =
            CertificateDirectory::open(files.path(), Arc::new(AllKeys), Arc::clone(&counts)).unwrap();
        Self { files, counts, directory }
    }

    /// Puts a certificate for `host` into this file.
    fn write(&self, file: &str, host: &str) {
        let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
        std::fs::write(self.files.path().join(file), made.cert.pem()).unwrap();
    }

    async fn find(&self, name: &str) -> Found<Arc<LoadedCertificate>> {
        self.directory.find(name).await
    }

    /// As if the time had passed after which all is looked at again.
    fn age(&self) {
        for shard in &self.directory.shards {
            let mut shard = shard.lock().unwrap();
            shard.known.iter_mut().for_each(|(_, known)| known.recheck = Duration::ZERO);
            shard.refused.iter_mut().for_each(|(_, refused)| refused.recheck = Duration::ZERO);
        }
    }

    fn pending(&self) -> usize {
        self.directory.shards.iter().map(|shard| shard.lock().unwrap().pending.len()).sum()
    }
}

#[tokio::test]
async fn a_name_has_its_file_before_its_domains_wildcard() {
    let lookups = Lookups::new();
    lookups.write("www.example.org.pem", "www.example.org");
    lookups.write("_.example.org.pem", "*.example.org");
    let own = lookups.find("www.example.org").await.unwrap().unwrap();
    let wildcard = lookups.find("shop.example.org").await.unwrap().unwrap();
    let other = lookups.find("mail.example.org").await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&wildcard, &other), "one certificate, however many names");
    assert!(!Arc::ptr_eq(&own, &wildcard));
    for nobodys in ["a.b.example.org", "example.org", "org"] {
        assert!(lookups.find(nobodys).await.unwrap().is_none(), "{nobodys}");
    }
    assert_eq!(lookups.pending(), 0);
}

#[tokio::test]
async fn only_names_get_to_the_file_system() {
    let lookups = Lookups::new();
    lookups.write("secret.pem", "secret");
    let inner = lookups.files.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    let directory =
        CertificateDirectory::open(&inner, Arc::new(AllKeys), Arc::clone(&lookups.counts)).unwrap();
    let absolute = lookups.files.path().join("secret");
    let long = format!("{}.{}.{}.{}", "a".repeat(63), "a".repeat(63), "a".repeat(63), "a".repeat(60));
    for name in [
        "../secret",
        "..",
        ".",
        "",
        "*",
        "*.example",
        "a/../../secret",
        "a\0b",
        "A",
        absolute.to_str().unwrap(),
        &long,
    ] {
        assert!(directory.find(name).await.unwrap().is_none(), "{name}");
    }
}

#[tokio::test]
async fn files_are_read_once_and_noticed_when_they_change() {
    let lookups = Lookups::new();
    assert!(lookups.find("a.example").await.unwrap().is_none());
    lookups.write("a.example.pem", "a.example");
    assert!(lookups.find("a.example").await.unwrap().is_none(), "remembered that there is none");
    lookups.age();
    let first = lookups.find("a.example").await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&first, &lookups.find("a.example").await.unwrap().unwrap()));
    lookups.age();
    assert!(Arc::ptr_eq(&first, &lookups.find("a.example").await.unwrap().unwrap()), "unchanged");

    lookups.write("next", "a.example");
    let file = lookups.files.path().join("a.example.pem");
    std::fs::rename(lookups.files.path().join("next"), &file).unwrap();
    lookups.age();
    let second = lookups.find("a.example").await.unwrap().unwrap();
    assert!(!Arc::ptr_eq(&first, &second));

    std::fs::write(&file, "not a certificate").unwrap();
    lookups.age();
    assert!(Arc::ptr_eq(&second, &lookups.find("a.example").await.unwrap().unwrap()), "the last good one");
    assert_eq!(lookups.counts.get(Lookup::Unusable), 1);

    std::fs::remove_file(&file).unwrap();
    lookups.age();
    assert!(lookups.find("a.example").await.unwrap().is_none());
}

#[tokio::test]
async fn files_that_cant_be_served_say_why() {
    let lookups = Lookups::new();
    lookups.write("a.example.pem", "b.example");
    std::fs::create_dir(lookups.files.path().join("d.example.pem")).unwrap();
    std::fs::write(lookups.files.path().join("l.example.pem"), vec![b' '; 300 * 1024]).unwrap();
    for (name, reason) in [
        ("a.example", "is not for a.example; its names: b.example"),
        ("d.example", "is no file, or longer than 256 KiB"),
        ("l.example", "is no file, or longer than 256 KiB"),
    ] {
        let error = lookups.find(name).await.err().unwrap().to_string();
        assert!(error.contains(reason), "{error}");
        assert_eq!(lookups.find(name).await.err().unwrap().to_string(), error);
    }
    assert_eq!(lookups.counts.get(Lookup::Unusable), 3);
    assert_eq!(lookups.counts.get(Lookup::Cached), 3);
}

#[tokio::test]
async fn who_asks_for_the_same_waits_for_one_answer_and_leaves_nothing() {
    let lookups = Lookups::new();
    lookups.write("a.example.pem", "a.example");
    let all = futures_of(&lookups, 50).await;
    assert!(all.iter().all(|found| Arc::ptr_eq(found, &all[0])));
    assert_eq!(lookups.counts.get(Lookup::Read), 1);

    // A client that goes while its certificate is looked up, which it is as long as the file system is busy with others.
    let _others = lookups.directory.at_a_time.acquire_many(u32::try_from(AT_A_TIME).unwrap()).await.unwrap();
    let mut gone = Box::pin(lookups.find("b.example"));
    std::future::poll_fn(|cx| {
        assert!(gone.as_mut().poll(cx).is_pending());
        std::task::Poll::Ready(())
    })
    .await;
    assert_eq!(lookups.pending(), 1);
    drop(gone);
    assert_eq!(lookups.pending(), 0);
}

/// So many clients that ask at once.
async fn futures_of(lookups: &Lookups, count: usize) -> Vec<Arc<LoadedCertificate>> {
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..count {
        let directory = Arc::clone(&lookups.directory);
        all.spawn(async move { directory.find("a.example").await.unwrap().unwrap() });
    }
    all.join_all().await
}

#[tokio::test]
async fn invented_names_drive_out_no_certificate_and_have_a_budget() {
    let lookups = Lookups::new();
    lookups.write("a.example.pem", "a.example");
    lookups.find("a.example").await.unwrap().unwrap();
    let mut busy = 0;
    for number in 0..40_000 {
        match lookups.find(&format!("x{number}")).await {
            Ok(found) => assert!(found.is_none()),
            Err(error) => {
                assert_eq!(error, LookupError::Busy);
                busy += 1;
                if busy == 100 {
                    break;
                }
            }
        }
    }
    let remembered: usize =
        lookups.directory.shards.iter().map(|shard| shard.lock().unwrap().refused.len()).sum();
    assert!(remembered <= REFUSED, "{remembered}");
    let read = lookups.counts.get(Lookup::Read);
    lookups.find("a.example").await.unwrap().unwrap();
    assert_eq!(lookups.counts.get(Lookup::Read), read, "still remembered");
}

#[tokio::test]
async fn a_rollout_that_spoils_all_files_does_not_fill_the_log() {
    let lookups = Lookups::new();
    let log = lookups.files.path().join("log");
    let lines =
        tracing_subscriber::fmt().with_writer(Arc::new(std::fs::File::create(&log).unwrap())).finish();
    let _this_thread_only = tracing::subscriber::set_default(lines);
    let hosts: Vec<_> = (0..40).map(|number| format!("s{number}.example")).collect();
    for host in &hosts {
        lookups.write(&format!("{host}.pem"), host);
        assert!(lookups.find(host).await.unwrap().is_some());
    }
    for host in &hosts {
        std::fs::write(lookups.files.path().join(format!("{host}.pem")), "spoilt by a rollout").unwrap();
    }
    lookups.age();
    for host in &hosts {
        assert!(lookups.find(host).await.unwrap().is_some(), "the certificate from before is served");
    }
    let told = std::fs::read_to_string(&log).unwrap().matches("the certificate from before is kept").count();
    // A slow machine has time for some lines more.
    assert!((16..40).contains(&told), "{told} lines");
}

#[test]
fn files_names_are_hosts() {
    for (file, host) in [
        ("a.example.pem", Some("a.example")),
        ("_.a.example.pem", Some("*.a.example")),
        ("A.example.pem", None),
        ("*.pem", None),
        ("a.example", None),
        (".pem", None),
        ("a..b.pem", None),
    ] {
        assert_eq!(host_of(file).as_ref().map(HostPattern::as_str), host, "{file}");
    }
}
