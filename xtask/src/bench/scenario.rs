//! What is compared: a kind of work, the client that makes it, and what our figure should be of another's.

use super::peers::Kind;

/// One comparison of servers.
#[derive(Debug)]
pub(crate) struct Scenario {
    /// For files and programs.
    pub(crate) name: &'static str,
    /// For people.
    pub(crate) title: &'static str,
    pub(crate) unit: Unit,
    pub(crate) driver: Driver,
    pub(crate) site: Site,
    /// The least that our rate should be, divided by that of another.
    pub(crate) goals: &'static [(Kind, f64)],
}

/// What is counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unit {
    Handshakes,
    Requests,
    Megabytes,
}

/// Who makes the work.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Driver {
    /// `hsm-loadtest handshakes`, which verifies every one.
    Handshakes { tls: &'static str, resume: bool },
    /// wrk: HTTP/1.1 on kept-alive connections.
    Wrk { path: &'static str, connections: u16 },
    /// h2load: HTTP/2 with this many streams at a time on each connection.
    H2load { path: &'static str, connections: u16, streams: u16 },
}

/// Which certificate is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Site {
    P256,
    Rsa2048,
}

impl Site {
    pub(crate) const ALL: [Self; 2] = [Self::P256, Self::Rsa2048];

    pub(crate) fn host(self) -> &'static str {
        match self {
            Self::P256 => "localhost",
            Self::Rsa2048 => "rsa.localhost",
        }
    }

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::P256 => "p256",
            Self::Rsa2048 => "rsa2048",
        }
    }
}

impl Unit {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Handshakes => "handshakes",
            Self::Requests => "requests",
            Self::Megabytes => "MB",
        }
    }
}

impl Scenario {
    pub(crate) fn goal(&self, other: Kind) -> Option<f64> {
        self.goals.iter().find(|(kind, _)| *kind == other).map(|(_, goal)| *goal)
    }

    /// Whether this server can do it: the in-process proxy and SoftHSM have one key, and SoftHSM is there for signatures.
    pub(crate) fn includes(&self, kind: Kind) -> bool {
        match kind {
            Kind::Ours | Kind::Nginx | Kind::Haproxy => true,
            Kind::InProcess => self.site == Site::P256,
            Kind::Softhsm => {
                self.site == Site::P256 && matches!(self.driver, Driver::Handshakes { resume: false, .. })
            }
        }
    }
}

pub(crate) static HANDSHAKES: [Scenario; 3] = [
    Scenario {
        name: "handshakes",
        title: "Full TLS 1.3 handshakes, ECDSA P-256, X25519",
        unit: Unit::Handshakes,
        driver: Driver::Handshakes { tls: "1.3", resume: false },
        site: Site::P256,
        goals: &[(Kind::InProcess, 1.0), (Kind::Nginx, 2.3), (Kind::Softhsm, 2.8), (Kind::Haproxy, 2.0)],
    },
    Scenario {
        name: "handshakes-rsa",
        title: "Full TLS 1.3 handshakes, RSA-2048, X25519",
        unit: Unit::Handshakes,
        driver: Driver::Handshakes { tls: "1.3", resume: false },
        site: Site::Rsa2048,
        goals: &[(Kind::Nginx, 1.9)],
    },
    Scenario {
        name: "handshakes-tls12",
        title: "Full TLS 1.2 handshakes, ECDSA and ECDHE P-256",
        unit: Unit::Handshakes,
        driver: Driver::Handshakes { tls: "1.2", resume: false },
        site: Site::P256,
        goals: &[(Kind::Nginx, 2.0)],
    },
];

pub(crate) static RESUMED: [Scenario; 1] = [Scenario {
    name: "resumed",
    title: "Resumed TLS 1.3 handshakes, X25519",
    unit: Unit::Handshakes,
    driver: Driver::Handshakes { tls: "1.3", resume: true },
    site: Site::P256,
    goals: &[(Kind::Nginx, 1.5)],
}];

pub(crate) static REQUESTS: [Scenario; 2] = [
    Scenario {
        name: "requests",
        title: "Small responses on kept-alive connections, HTTP/1.1, access log on",
        unit: Unit::Requests,
        driver: Driver::Wrk { path: "/small", connections: 32 },
        site: Site::P256,
        goals: &[(Kind::Nginx, 1.15), (Kind::Haproxy, 1.15)],
    },
    Scenario {
        name: "requests-http2",
        title: "Small responses, HTTP/2, 32 streams on each of 8 connections, access log on",
        unit: Unit::Requests,
        driver: Driver::H2load { path: "/small", connections: 8, streams: 32 },
        site: Site::P256,
        goals: &[(Kind::Nginx, 1.2)],
    },
];

pub(crate) static TRANSFER: [Scenario; 1] = [Scenario {
    name: "transfer",
    title: "Bodies of 100 MB, HTTP/1.1, four at a time",
    unit: Unit::Megabytes,
    driver: Driver::Wrk { path: "/large", connections: 4 },
    site: Site::P256,
    goals: &[(Kind::Nginx, 1.0)],
}];
