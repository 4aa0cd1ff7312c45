use std::io::{Read, Write};
use std::net::TcpStream as Socket;

use keycore_engine::CertificateSha256;
use mio::{Events, Poll};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SigningKey,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use super::*;

/// Nothing here takes this long unless it is broken.
const LIMIT: Duration = Duration::from_secs(20);

/// A CA, and what it makes.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    anchor: Vec<u8>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let anchor = params.self_signed(&key).unwrap().der().to_vec();
        Self { issuer: Issuer::new(params, key), anchor }
    }

    fn leaf(&self, usage: ExtendedKeyUsagePurpose) -> (KeyPair, Vec<u8>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        (key, certificate)
    }

    fn identity(&self, revision: u64) -> Arc<dyn NetworkIdentity> {
        let (key, certificate) = self.leaf(ExtendedKeyUsagePurpose::ServerAuth);
        Arc::new(Shown { revision, key, chain: vec![certificate], anchor: self.anchor.clone() })
    }

    /// What a client of this CA speaks, with a certificate for `usage` if with any.
    fn client(
        &self,
        usage: Option<ExtendedKeyUsagePurpose>,
        version: &'static SupportedProtocolVersion,
    ) -> (Arc<ClientConfig>, Vec<u8>) {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.anchor.clone())).unwrap();
        let config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(roots);
        let Some(usage) = usage else { return (Arc::new(config.with_no_client_auth()), Vec::new()) };
        let (key, certificate) = self.leaf(usage);
        let chain = vec![CertificateDer::from(certificate.clone())];
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        (Arc::new(config.with_client_auth_cert(chain, key).unwrap()), certificate)
    }

    fn good_client(&self) -> (Arc<ClientConfig>, Vec<u8>) {
        self.client(Some(ExtendedKeyUsagePurpose::ClientAuth), &rustls::version::TLS13)
    }
}

struct Shown {
    revision: u64,
    key: KeyPair,
    chain: Vec<Vec<u8>>,
    anchor: Vec<u8>,
}

impl NetworkIdentity for Shown {
    fn revision(&self) -> u64 {
        self.revision
    }

    fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    fn trust_anchor(&self) -> &[u8] {
        &self.anchor
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        self.key.sign(message).ok()
    }
}

/// A port, the loop around it, and a clock in the test's hand.
struct Port {
    poll: Poll,
    handshakes: Handshakes,
    complaints: Complaints,
    address: SocketAddr,
    identity: Option<Arc<dyn NetworkIdentity>>,
    now: Duration,
    arrived: Vec<(Box<TlsStream>, Peer)>,
}

impl Port {
    fn open(identity: Option<Arc<dyn NetworkIdentity>>) -> Self {
        let poll = Poll::new().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let handshakes = Handshakes::new(listener, poll.registry()).unwrap();
        let (complaints, now, arrived) = (Complaints::default(), Duration::from_secs(1), Vec::new());
        Self { poll, handshakes, complaints, address, identity, now, arrived }
    }

    /// One turn of the loop; whether anything happened.
    fn turn(&mut self, wait: Duration) -> bool {
        let mut events = Events::with_capacity(64);
        self.poll.poll(&mut events, Some(wait)).unwrap();
        for event in &events {
            assert!(self.handshakes.note(event));
        }
        let identity = self.identity.clone();
        let registry = self.poll.registry();
        self.handshakes.accept(registry, || identity.clone(), 1000, self.now, &mut self.complaints);
        self.arrived.extend(self.handshakes.round(registry, self.now, &mut self.complaints));
        !events.is_empty() || self.handshakes.is_ready()
    }

    /// Serves while `client` runs, and what it leaves behind.
    fn serve<T: Send + 'static>(&mut self, client: impl FnOnce(SocketAddr) -> T + Send + 'static) -> T {
        let address = self.address;
        let client = std::thread::spawn(move || client(address));
        while !client.is_finished() {
            self.turn(Duration::from_millis(5));
        }
        while self.turn(Duration::ZERO) {}
        client.join().unwrap()
    }

    fn serve_handshake(
        &mut self,
        config: &Arc<ClientConfig>,
    ) -> io::Result<StreamOwned<ClientConnection, Socket>> {
        let config = Arc::clone(config);
        self.serve(move |address| shake_hands(connect(address), config))
    }

    /// The only one that has shaken hands since the last time.
    fn only_arrival(&mut self) -> (Box<TlsStream>, Peer) {
        assert_eq!(self.arrived.len(), 1);
        self.arrived.pop().unwrap()
    }
}

fn connect(address: SocketAddr) -> Socket {
    let socket = Socket::connect(address).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket
}

fn shake_hands(
    mut socket: Socket,
    config: Arc<ClientConfig>,
) -> io::Result<StreamOwned<ClientConnection, Socket>> {
    let mut tls = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    while tls.is_handshaking() || tls.wants_write() {
        tls.complete_io(&mut socket)?;
    }
    Ok(StreamOwned::new(tls, socket))
}

fn sha256(der: &[u8]) -> CertificateSha256 {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
    CertificateSha256(digest.as_ref().try_into().unwrap())
}

#[test]
fn a_client_of_the_trust_anchor_is_let_in_as_whom_its_certificate_says() {
    let authority = Authority::new();
    let mut port = Port::open(Some(authority.identity(1)));
    let (config, certificate) = authority.good_client();
    let mut client = port.serve_handshake(&config).unwrap();
    let (mut stream, peer) = port.only_arrival();
    let address = client.sock.local_addr().unwrap();
    assert_eq!(peer, Peer::Remote { address, certificate: sha256(&certificate) });
    assert_eq!((port.handshakes.len(), port.handshakes.networks.len()), (0, 0));

    client.write_all(b"hello").unwrap();
    let mut received = [0; 16];
    let deadline = std::time::Instant::now() + LIMIT;
    let count = loop {
        match stream.read(&mut received) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                assert!(std::time::Instant::now() < deadline);
            }
            read => break read.unwrap(),
        }
    };
    assert_eq!(&received[..count], b"hello");
    stream.writer().write_all(b"welcome").unwrap();
    stream.push().unwrap();
    let count = client.read(&mut received).unwrap();
    assert_eq!(&received[..count], b"welcome");
    stream.close();
    assert_eq!(client.read(&mut received).unwrap(), 0);
}

#[test]
fn whoever_has_no_such_certificate_is_refused_and_the_next_is_served() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let mut port = Port::open(Some(authority.identity(1)));
    let tls13 = &rustls::version::TLS13;
    let foreign = {
        // Trusts the engine, and has a certificate of another CA.
        let mut config = (*authority.client(None, tls13).0).clone();
        config.client_auth_cert_resolver = Arc::clone(&stranger.good_client().0.client_auth_cert_resolver);
        Arc::new(config)
    };
    let server_auth = authority.client(Some(ExtendedKeyUsagePurpose::ServerAuth), tls13).0;
    let none = authority.client(None, tls13).0;
    for (what, config) in [("another CA", foreign), ("for servers", server_auth), ("none", none)] {
        // The client is done before the engine looks at its certificate; the refusal is what it reads first.
        let refused = port.serve(move |address| {
            shake_hands(connect(address), config).and_then(|mut client| client.read(&mut [0; 1]))
        });
        assert!(refused.is_err(), "{what}: {refused:?}");
        assert!(port.arrived.is_empty(), "{what}");
    }
    let (old, _) = authority.client(Some(ExtendedKeyUsagePurpose::ClientAuth), &rustls::version::TLS12);
    assert!(port.serve_handshake(&old).is_err());
    let garbage = port.serve(|address| {
        let mut socket = connect(address);
        socket.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        // An alert, or the end.
        let _ended = socket.read_to_end(&mut answer);
        answer.len()
    });
    assert!(garbage < 16, "{garbage} bytes for an HTTP request");
    assert!(port.arrived.is_empty());
    assert_eq!(port.handshakes.len(), 0);
    let _client = port.serve_handshake(&authority.good_client().0).unwrap();
    port.only_arrival();
}

#[test]
fn silence_ends_with_its_patience_and_a_trickle_within_it_is_served() {
    let authority = Authority::new();
    let mut port = Port::open(Some(authority.identity(1)));
    let mut silent = port.serve(connect);
    assert_eq!(port.handshakes.len(), 1);
    port.now += Handshakes::PATIENCE;
    port.handshakes.sweep(port.now, &mut port.complaints);
    assert_eq!(port.handshakes.len(), 1);
    port.now += Duration::from_millis(1);
    port.handshakes.sweep(port.now, &mut port.complaints);
    assert_eq!(port.handshakes.len(), 0);
    assert_eq!(silent.read(&mut [0; 1]).unwrap(), 0);

    let (config, _) = authority.good_client();
    let trickled = port.serve(move |address| {
        let mut socket = connect(address);
        socket.set_nodelay(true).unwrap();
        let mut tls = ClientConnection::new(Arc::clone(&config), "localhost".try_into().unwrap()).unwrap();
        let mut hello = Vec::new();
        tls.write_tls(&mut hello).unwrap();
        for byte in hello {
            socket.write_all(&[byte]).unwrap();
        }
        while tls.is_handshaking() || tls.wants_write() {
            tls.complete_io(&mut socket).unwrap();
        }
        socket
    });
    port.only_arrival();
    drop(trickled);
}

#[test]
fn one_network_has_its_share_of_handshakes_and_gives_it_back() {
    let authority = Authority::new();
    let mut port = Port::open(Some(authority.identity(1)));
    let waiting: Vec<_> = (0..Handshakes::MOST_OF_ONE).map(|_| port.serve(connect)).collect();
    assert_eq!(port.handshakes.len(), Handshakes::MOST_OF_ONE);
    let mut refused = port.serve(connect);
    // Closed, with or without a reset.
    assert!(refused.read(&mut [0; 1]).unwrap_or(0) == 0);
    assert_eq!(port.handshakes.len(), Handshakes::MOST_OF_ONE);
    drop(waiting);
    while port.handshakes.len() > 0 {
        // A round takes a few of them: for the rest no other event comes.
        let wait = if port.handshakes.is_ready() { Duration::ZERO } else { LIMIT };
        port.turn(wait);
    }
    assert!(port.handshakes.networks.is_empty());
    let _client = port.serve_handshake(&authority.good_client().0).unwrap();
    port.only_arrival();
}

#[test]
fn nobody_is_let_in_without_a_certificate_and_a_new_one_counts_at_once() {
    let (before, after) = (Authority::new(), Authority::new());
    let mut port = Port::open(None);
    assert!(port.serve_handshake(&before.good_client().0).is_err());
    port.identity = Some(before.identity(1));
    let _first = port.serve_handshake(&before.good_client().0).unwrap();
    port.only_arrival();
    port.identity = Some(after.identity(2));
    assert!(port.serve_handshake(&before.good_client().0).is_err(), "the old anchor's client");
    assert!(port.arrived.is_empty());
    let _second = port.serve_handshake(&after.good_client().0).unwrap();
    port.only_arrival();
}
