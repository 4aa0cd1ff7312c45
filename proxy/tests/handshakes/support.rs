//! A proxy whose keys are in the test's hand, and a client that sees everything.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hsm_proxy::{
    Config, Handler, KeyError, KeySource, Proxy, ProxySettings, Reloader, RunError, Shutdown, ShutdownHandle,
    SiteSettings, StartError,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::sign::{Signer, SigningKey};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, NamedGroup, RootCertStore, SignatureAlgorithm,
    SignatureScheme, StreamOwned, SupportedCipherSuite, SupportedProtocolVersion,
};
use tokio::sync::watch;

/// No test waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// When keys sign.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Signing {
    AtOnce,
    /// The key of one site signs only after [`Running::release`].
    WhenReleased {
        site: &'static str,
    },
    /// The key of one site holds its worker's thread until [`Running::release`].
    HoldingTheThread {
        site: &'static str,
    },
    /// Each signature fails.
    Never,
}

/// Where a site's requests go that a handler of [`Running`] answers.
const HANDLED: &str = "http://127.0.0.1:1";

/// Sites with these hosts; their `cert` are the kinds of keys (`p256`, `p384`, `rsa`) that [`Running::start`] makes certificates
/// for.
pub(crate) fn config(sites: &[&[&str]]) -> Config {
    let site = |hosts: &&[&str]| {
        let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
        SiteSettings::new(hosts, vec!["p256".into()], HANDLED.parse().unwrap())
    };
    Config {
        proxy: ProxySettings {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            admin_listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            workers: 2,
            ..ProxySettings::default()
        },
        sites: sites.iter().map(site).collect(),
        ..Config::default()
    }
}

/// A proxy on threads of this process.
pub(crate) struct Running {
    address: SocketAddr,
    admin: SocketAddr,
    /// Where it speaks plain HTTP, if it does.
    pub(crate) plain: Option<SocketAddr>,
    certificates: HashMap<String, CertificateDer<'static>>,
    /// The sites' keys themselves, for other certificates.
    pairs: HashMap<String, rcgen::KeyPair>,
    config: Config,
    reloader: Reloader,
    keys: Arc<TestKeys>,
    shutdown: ShutdownHandle,
    thread: Option<JoinHandle<Result<(), RunError>>>,
    _directory: tempfile::TempDir,
}

impl Running {
    pub(crate) fn start(config: Config, signing: Signing) -> Self {
        Self::try_start(config, signing).unwrap()
    }

    pub(crate) fn try_start(mut config: Config, signing: Signing) -> Result<Self, StartError> {
        let directory = tempfile::tempdir().unwrap();
        let mut keys = TestKeys::new();
        let (mut certificates, mut pairs) = (HashMap::new(), HashMap::new());
        for (at, site) in config.sites.iter_mut().enumerate() {
            let hosts: Vec<String> = site.host.iter().map(ToString::to_string).collect();
            let hsm_proxy::CertificateSource::Files(files) = &mut site.cert else { continue };
            for (number, path) in files.iter_mut().enumerate() {
                let kind = path.to_str().unwrap().to_owned();
                let key = key_pair(&kind);
                let made = rcgen::CertificateParams::new(hosts.clone()).unwrap().self_signed(&key).unwrap();
                *path = directory.path().join(format!("{at}-{number}-{kind}.pem"));
                std::fs::write(&path, made.pem()).unwrap();
                let name = if number == 0 { hosts[0].clone() } else { format!("{} {kind}", hosts[0]) };
                certificates.insert(name.clone(), CertificateDer::from(made.der().to_vec()));
                keys.add(&key, &hosts[0], signing);
                pairs.insert(name, key);
            }
        }
        let keys = Arc::new(keys);
        let source: Arc<dyn KeySource> = Arc::clone(&keys) as Arc<dyn KeySource>;
        let mut builder = Proxy::builder(config.clone(), source);
        for site in config.sites.iter().filter(|site| site.to == HANDLED.parse().unwrap()) {
            let handler = Handler::new(|connection, _request| {
                let handshake = &connection.handshake;
                let kind = if handshake.resumed { "resumed" } else { "full" };
                let identity = connection.identity.iter().flat_map(hsm_proxy::ClientIdentity::fields);
                let identity: String = identity.map(|(name, value)| format!("{name}: {value}\n")).collect();
                http::Response::new(Bytes::from(format!("{identity}{kind} {}", handshake.version)))
            });
            builder = builder.handler(site.host[0].as_str(), handler);
        }
        let proxy = builder.bind()?;
        let reloader = proxy.reloader();
        let (address, admin) = (proxy.local_addresses()[0], proxy.admin_address().unwrap());
        let plain = proxy.local_addresses().get(1).copied();
        let (shutdown, requested) = Shutdown::new();
        let thread = Some(std::thread::spawn(move || proxy.run_until(&requested)));
        Ok(Self {
            address,
            admin,
            plain,
            certificates,
            pairs,
            config,
            reloader,
            keys,
            shutdown,
            thread,
            _directory: directory,
        })
    }

    pub(crate) fn bind_only(config: Config) -> Result<(), StartError> {
        Proxy::builder(config, Arc::new(TestKeys::new())).bind().map(drop)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate of the site whose first host this is; with a space and a kind of key behind it, one of its others.
    pub(crate) fn certificate(&self, host: &str) -> &CertificateDer<'static> {
        &self.certificates[host]
    }

    /// The configuration of the start, with the certificates' files.
    pub(crate) fn config(&self) -> Config {
        self.config.clone()
    }

    /// Changes the configuration while it runs.
    pub(crate) fn reload(&self, config: &Config) -> Result<Vec<&'static str>, StartError> {
        self.reloader.reload(config)
    }

    /// Puts another certificate for the site's key into its file.
    pub(crate) fn renew(&mut self, host: &str) {
        let parameters = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
        let renewed = parameters.self_signed(&self.pairs[host]).unwrap();
        let site = self.config.sites.iter().find(|site| site.host[0].as_str() == host).unwrap();
        std::fs::write(&site.cert.files()[0], renewed.pem()).unwrap();
        assert_ne!(renewed.der(), &self.certificates[host]);
        self.certificates.insert(host.to_owned(), CertificateDer::from(renewed.der().to_vec()));
    }

    /// How often a signature was asked for.
    pub(crate) fn signatures(&self) -> usize {
        *self.keys.asked.count.lock().unwrap()
    }

    pub(crate) fn wait_for_signatures(&self, count: usize) {
        let asked = self.keys.asked.count.lock().unwrap();
        let (asked, waited) =
            self.keys.asked.changed.wait_timeout_while(asked, PATIENCE, |asked| *asked < count).unwrap();
        assert!(!waited.timed_out(), "{asked} signatures were asked for, not {count}");
    }

    pub(crate) fn release(&self) {
        self.keys.released.send_replace(true);
    }

    /// A certificate for another host, with the key of this one's.
    pub(crate) fn other_certificate(&self, key_of: &str, host: &str) -> rcgen::Certificate {
        let parameters = rcgen::CertificateParams::new([host.to_owned()]).unwrap();
        parameters.self_signed(&self.pairs[key_of]).unwrap()
    }

    pub(crate) fn connect_in_background(&self, name: &'static str) -> JoinHandle<io::Result<()>> {
        let client = Client::new(self);
        std::thread::spawn(move || client.connect(name).map(drop))
    }

    /// The whole response of the admin listener.
    pub(crate) fn admin(&self, path: &str) -> String {
        self.admin_as("localhost", path)
    }

    /// The same, asked by another name.
    pub(crate) fn admin_as(&self, host: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response
    }

    pub(crate) fn metrics(&self) -> String {
        self.admin("/metrics")
    }

    pub(crate) fn wait_for_metric(&self, line: &str) {
        let start = Instant::now();
        while !self.metrics().contains(line) {
            assert!(start.elapsed() < PATIENCE, "no {line} in\n{}", self.metrics());
            std::thread::sleep(Duration::from_millis(5)); // counters can't be awaited
        }
    }

    /// Begins the drain.
    pub(crate) fn request_stop(&self) {
        self.shutdown.request();
    }

    /// Drains, and waits for the end.
    pub(crate) fn stop(&mut self) {
        self.request_stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.request();
        self.release();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn key_pair(kind: &str) -> rcgen::KeyPair {
    match kind {
        "p256" => rcgen::KeyPair::generate(),
        "p384" => rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
        "rsa" => rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048),
        other => panic!("{other}"),
    }
    .unwrap()
}

#[derive(Debug, Default)]
struct Asked {
    count: Mutex<usize>,
    changed: Condvar,
}

/// The keys of all sites.
struct TestKeys {
    keys: Vec<(SubjectPublicKeyInfoDer<'static>, Arc<TestKey>)>,
    asked: Arc<Asked>,
    released: watch::Sender<bool>,
}

impl TestKeys {
    fn new() -> Self {
        Self { keys: Vec::new(), asked: Arc::default(), released: watch::Sender::new(false) }
    }

    fn add(&mut self, key: &rcgen::KeyPair, host: &str, signing: Signing) {
        let der = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let key = aws_lc_rs::sign::any_supported_type(&der).unwrap();
        let spki = key.public_key().unwrap().into_owned();
        let fails = matches!(signing, Signing::Never);
        let waits = matches!(signing, Signing::WhenReleased { site } if site == host);
        let holds = matches!(signing, Signing::HoldingTheThread { site } if site == host);
        let release = (waits || holds).then(|| self.released.subscribe());
        let asked = Arc::clone(&self.asked);
        self.keys.push((spki, Arc::new(TestKey { key, fails, holds, release, asked })));
    }
}

impl KeySource for TestKeys {
    fn signing_key(&self, spki: &SubjectPublicKeyInfoDer<'_>) -> Result<Arc<dyn SigningKey>, KeyError> {
        let key = self.keys.iter().find(|(known, _)| known == spki).ok_or(KeyError::Mismatch)?;
        Ok(Arc::clone(&key.1) as Arc<dyn SigningKey>)
    }
}

#[derive(Debug, Clone)]
struct TestKey {
    key: Arc<dyn SigningKey>,
    fails: bool,
    holds: bool,
    release: Option<watch::Receiver<bool>>,
    asked: Arc<Asked>,
}

impl SigningKey for TestKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        Some(Box::new(TestSigner { signer: self.key.choose_scheme(offered)?, key: self.clone() }))
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        self.key.public_key()
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.key.algorithm()
    }
}

#[derive(Debug)]
struct TestSigner {
    signer: Box<dyn Signer>,
    key: TestKey,
}

impl Signer for TestSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        *self.key.asked.count.lock().unwrap() += 1;
        self.key.asked.changed.notify_all();
        if self.key.fails {
            return Err(rustls::Error::General("no key today".to_owned()));
        }
        if let Some(release) = self.key.release.as_ref().filter(|_| self.key.holds) {
            let start = Instant::now();
            while !*release.borrow() && start.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(1)); // held is what the thread shall be
            }
        } else if let Some(mut release) = self.key.release.clone() {
            let released = handshake_fiber::wait(release.wait_for(|&released| released));
            drop(released.expect("handshakes run in fibers").expect("the test lives"));
        }
        self.signer.sign(message)
    }

    fn scheme(&self) -> SignatureScheme {
        self.signer.scheme()
    }
}

/// A client that trusts the proxy's certificates, and resumes its sessions.
pub(crate) struct Client {
    address: SocketAddr,
    roots: Arc<RootCertStore>,
    versions: Vec<&'static SupportedProtocolVersion>,
    alpn: Vec<Vec<u8>>,
    suites: Vec<SupportedCipherSuite>,
    verifying: &'static str,
    trusts_anybody: bool,
    guesses_wrong: bool,
    shows: Option<ClientCertificate>,
    early_data: bool,
    mixes_up_names: bool,
    small_records: bool,
    /// Made at the first connection: sessions resume only within one.
    config: OnceLock<Arc<ClientConfig>>,
}

impl Client {
    pub(crate) fn new(proxy: &Running) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in proxy.certificates.values() {
            roots.add(certificate.clone()).unwrap();
        }
        Self {
            address: proxy.address,
            roots: Arc::new(roots),
            versions: rustls::ALL_VERSIONS.to_vec(),
            alpn: Vec::new(),
            suites: aws_lc_rs::ALL_CIPHER_SUITES.to_vec(),
            verifying: "",
            trusts_anybody: false,
            guesses_wrong: false,
            shows: None,
            early_data: false,
            mixes_up_names: false,
            small_records: false,
            config: OnceLock::new(),
        }
    }

    pub(crate) fn versions(self, versions: &[&'static SupportedProtocolVersion]) -> Self {
        Self { versions: versions.to_vec(), ..self }
    }

    pub(crate) fn alpn(self, protocols: &[&str]) -> Self {
        Self { alpn: protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect(), ..self }
    }

    /// Shows a certificate if it is asked for one.
    pub(crate) fn showing(self, certificate: &ClientCertificate) -> Self {
        Self { shows: Some(certificate.clone()), ..self }
    }

    /// Sends its messages in records of 64 bytes.
    pub(crate) fn in_small_records(self) -> Self {
        Self { small_records: true, ..self }
    }

    /// Offers the ticket that it got last to whatever server.
    pub(crate) fn mixing_up_names(self) -> Self {
        Self { mixes_up_names: true, ..self }
    }

    /// Sends its request before the handshake is over if the server allows it.
    pub(crate) fn with_early_data(self) -> Self {
        Self { early_data: true, ..self }
    }

    /// Whether the server has allowed that with its last ticket.
    pub(crate) fn may_send_early_data(&self, name: &str) -> bool {
        self.tls(name).early_data().is_some()
    }

    /// Begins with a key share of a group that the proxy does not have.
    pub(crate) fn guessing_a_wrong_group(self) -> Self {
        Self { guesses_wrong: true, ..self }
    }

    /// Takes every certificate.
    pub(crate) fn trusting_anybody(self) -> Self {
        Self { trusts_anybody: true, ..self }
    }

    /// Refuses every certificate.
    pub(crate) fn trusting_nobody(mut self) -> Self {
        let mut roots = RootCertStore::empty();
        let other = rcgen::generate_simple_self_signed(vec!["other".to_owned()]).unwrap();
        roots.add(other.cert.der().clone()).unwrap();
        self.roots = Arc::new(roots);
        self
    }

    /// Verifies only signatures by the schemes whose names contain `word`.
    pub(crate) fn verifying(self, word: &'static str) -> Self {
        Self { verifying: word, ..self }
    }

    /// Has only the cipher suites whose names contain `word`.
    pub(crate) fn suites(mut self, word: &str) -> Self {
        self.suites.retain(|suite| format!("{:?}", suite.suite()).contains(word));
        self
    }

    /// Prefers those whose names contain `word`.
    pub(crate) fn preferring(mut self, word: &str) -> Self {
        self.suites.sort_by_key(|suite| !format!("{:?}", suite.suite()).contains(word));
        self
    }

    fn tls(&self, name: &str) -> ClientConnection {
        let config = self.config.get_or_init(|| {
            let mut provider =
                CryptoProvider { cipher_suites: self.suites.clone(), ..aws_lc_rs::default_provider() };
            if self.guesses_wrong {
                provider.kx_groups.insert(0, aws_lc_rs::kx_group::MLKEM768);
            }
            let verifies = |scheme: &SignatureScheme| format!("{scheme:?}").contains(self.verifying);
            let all = provider.signature_verification_algorithms;
            let mapping: Vec<_> =
                all.mapping.iter().copied().filter(|(scheme, _)| verifies(scheme)).collect();
            provider.signature_verification_algorithms =
                WebPkiSupportedAlgorithms { all: all.all, mapping: Vec::leak(mapping) };
            let provider = Arc::new(provider);
            let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(&self.versions)
                .unwrap()
                .with_root_certificates(Arc::clone(&self.roots));
            let mut config = match &self.shows {
                Some((certificate, key)) => {
                    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
                    config.with_client_auth_cert(vec![certificate.clone()], key).unwrap()
                }
                None => config.with_no_client_auth(),
            };
            config.alpn_protocols.clone_from(&self.alpn);
            config.enable_early_data = self.early_data;
            config.max_fragment_size = self.small_records.then_some(64);
            if self.mixes_up_names {
                config.resumption = rustls::client::Resumption::store(Arc::new(OneName::default()));
            }
            if self.trusts_anybody {
                config.dangerous().set_certificate_verifier(Arc::new(Anybody(provider)));
            }
            Arc::new(config)
        });
        let name = ServerName::try_from(name.to_owned()).unwrap();
        ClientConnection::new(Arc::clone(config), name).unwrap()
    }

    /// The same at another address.
    pub(crate) fn at(self, address: SocketAddr) -> Self {
        Self { address, ..self }
    }

    /// Makes the whole handshake.
    pub(crate) fn connect(&self, name: &str) -> io::Result<Connection> {
        self.connect_over(TcpStream::connect(self.address)?, name)
    }

    /// The same over a connection that was made before.
    pub(crate) fn connect_over(&self, mut stream: TcpStream, name: &str) -> io::Result<Connection> {
        let mut tls = self.tls(name);
        stream.set_read_timeout(Some(PATIENCE))?;
        while tls.is_handshaking() {
            let (read, written) = tls.complete_io(&mut stream)?;
            if tls.is_handshaking() && read + written == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(Connection { stream: StreamOwned::new(tls, stream) })
    }

    /// Sends the first message, and hangs up.
    pub(crate) fn hello_and_leave(&self, name: &str) {
        drop(self.hello(name));
    }

    /// Sends the first flight, and gives back whatever the proxy sends until it closes.
    pub(crate) fn hello_and_listen(&self, name: &str) -> Vec<u8> {
        let mut answer = Vec::new();
        self.hello(name).read_to_end(&mut answer).unwrap();
        answer
    }

    /// A handshake up to the server's first answer, which may want it begun again with another key share; the client has said nothing to that.
    pub(crate) fn before_its_second_flight(&self, name: &str) -> (ClientConnection, TcpStream) {
        let mut tls = self.tls(name);
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        while tls.wants_write() {
            tls.write_tls(&mut stream).unwrap();
        }
        while !tls.wants_write() {
            assert_ne!(tls.read_tls(&mut stream).unwrap(), 0);
            tls.process_new_packets().unwrap();
        }
        (tls, stream)
    }

    pub(crate) fn hello(&self, name: &str) -> TcpStream {
        let mut tls = self.tls(name);
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        while tls.wants_write() {
            tls.write_tls(&mut stream).unwrap();
        }
        stream
    }
}

/// A client's certificate and its key.
pub(crate) type ClientCertificate = (CertificateDer<'static>, Arc<rcgen::KeyPair>);

/// An authority for certificates of clients.
pub(crate) struct ClientCa {
    directory: tempfile::TempDir,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl ClientCa {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        std::fs::write(directory.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { directory, issuer: rcgen::Issuer::new(params, key) }
    }

    /// Its certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    pub(crate) fn issue(&self, name: &str, serial: u64) -> ClientCertificate {
        let year = Duration::from_hours(365 * 24);
        self.issue_until(name, serial, std::time::SystemTime::now() + year)
    }

    /// One that expires at `end`.
    pub(crate) fn issue_until(
        &self,
        name: &str,
        serial: u64,
        end: std::time::SystemTime,
    ) -> ClientCertificate {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.not_after = end.into();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.serial_number = Some(serial.into());
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.der().clone(), Arc::new(key))
    }

    /// A list of these serial numbers.
    pub(crate) fn revoke(&self, serials: &[u64]) -> PathBuf {
        let now = time::OffsetDateTime::now_utc();
        let revoked = serials.iter().map(|&serial| rcgen::RevokedCertParams {
            serial_number: serial.into(),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        });
        let list = rcgen::CertificateRevocationListParams {
            this_update: now - time::Duration::days(1),
            next_update: now + time::Duration::days(1),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let path = self.directory.path().join("crl.pem");
        std::fs::write(&path, list.signed_by(&self.issuer).unwrap().pem().unwrap()).unwrap();
        path
    }
}

#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A client's connection after its handshake.
pub(crate) struct Connection {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

impl Connection {
    pub(crate) fn stream(&mut self) -> &mut StreamOwned<ClientConnection, TcpStream> {
        &mut self.stream
    }

    pub(crate) fn tls(&self) -> &ClientConnection {
        &self.stream.conn
    }

    /// Reads until there is something, which a refusal by the proxy would be.
    pub(crate) fn read_something(&mut self) -> io::Result<()> {
        self.stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")?;
        self.stream.read(&mut [0; 1]).map(drop)
    }

    /// The server's certificate.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.stream.conn.peer_certificates().unwrap()[0]
    }
}

/// One request; the whole response, until the proxy closes.
pub(crate) fn get(connection: &mut Connection, host: &str) -> String {
    request(connection, &format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
}

/// These bytes; all that comes back, until the proxy closes.
pub(crate) fn request(connection: &mut Connection, request: &str) -> String {
    connection.stream.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    connection.stream.read_to_string(&mut response).unwrap();
    response
}

/// Sessions of all servers, as if they were one.
#[derive(Debug)]
struct OneName(rustls::client::ClientSessionMemoryCache, ServerName<'static>);

impl Default for OneName {
    fn default() -> Self {
        Self(rustls::client::ClientSessionMemoryCache::new(8), ServerName::try_from("any.example").unwrap())
    }
}

impl ClientSessionStore for OneName {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(self.1.clone(), group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(&self.1)
    }

    fn set_tls12_session(&self, _: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.0.set_tls12_session(self.1.clone(), session);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&self.1)
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&self.1);
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(self.1.clone(), ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&self.1)
    }
}
