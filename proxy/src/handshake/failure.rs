use std::io;

use rustls::{AlertDescription, InvalidMessage, PeerIncompatible};

use crate::certificate_directory::LookupError;
use crate::proxy_protocol::HeaderError;

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// `timeouts.handshake` was over.
    #[error("not finished within timeouts.handshake")]
    TimedOut,
    /// The client hung up, or the network did.
    #[error("the client is gone: {0}")]
    Gone(io::Error),
    /// A load balancer did not say whose connection it is.
    #[error("{0}")]
    ProxyHeader(HeaderError),
    /// The client asks for no name.
    #[error("the client asks for no site (no SNI)")]
    NoName,
    /// The client asks for a name that is no site's.
    #[error("there is no such site")]
    UnknownName,
    /// The site's certificate has not come yet.
    #[error("the site has no certificate yet")]
    NoCertificate,
    /// The site's certificate was looked up and can't be served.
    #[error("no certificate: {0}")]
    Lookup(LookupError),
    /// The site has too many handshakes waiting for signatures.
    #[error("limits.signature-queue is reached: too many of the site's handshakes wait for signatures")]
    SigningBudget,
    /// No engine signed.
    #[error("no signature: {0}")]
    NoSignature(io::Error),
    /// Client and proxy don't understand each other, or the client is no TLS client.
    #[error("{0}")]
    Tls(rustls::Error),
    /// No memory for a stack.
    #[error("no stack for another handshake: {0}")]
    NoStack(io::Error),
}

impl From<HeaderError> for HandshakeError {
    fn from(error: HeaderError) -> Self {
        match error {
            HeaderError::Gone(error) => Self::Gone(error),
            error => Self::ProxyHeader(error),
        }
    }
}

impl HandshakeError {
    /// What tokio-rustls reports: an error of TLS, or of the connection below.
    pub(super) fn of(error: io::Error) -> Self {
        match error.downcast::<rustls::Error>() {
            Ok(tls) => Self::Tls(tls),
            Err(error) => Self::Gone(error),
        }
    }

    /// What kind of failure it is.
    pub(crate) fn category(&self) -> Category {
        match self {
            Self::TimedOut => Category::TimedOut,
            Self::Gone(_) => Category::ClientGone,
            Self::ProxyHeader(_) => Category::ProxyHeader,
            Self::NoName => Category::NoSni,
            Self::UnknownName => Category::UnknownSite,
            Self::NoCertificate | Self::Lookup(_) => Category::NoCertificate,
            Self::SigningBudget => Category::SigningBudget,
            Self::NoSignature(_) => Category::NoSignature,
            Self::NoStack(_) => Category::NoStack,
            Self::Tls(error) => Category::of(error),
        }
    }
}

/// Kinds of failed handshakes, as the log names them. Operators search for these: names stay what they are, and
/// `docs/tls.md` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Category {
    TimedOut,
    ClientGone,
    ProxyHeader,
    NoSni,
    UnknownSite,
    NotTls,
    Version,
    NothingInCommon,
    Alpn,
    ClientRefused,
    ClientCertificate,
    BrokenTls,
    NoCertificate,
    SigningBudget,
    NoSignature,
    NoStack,
    Internal,
}

impl Category {
    pub(super) const ALL: [Self; 17] = [
        Self::TimedOut,
        Self::ClientGone,
        Self::ProxyHeader,
        Self::NoSni,
        Self::UnknownSite,
        Self::NotTls,
        Self::Version,
        Self::NothingInCommon,
        Self::Alpn,
        Self::ClientRefused,
        Self::ClientCertificate,
        Self::BrokenTls,
        Self::NoCertificate,
        Self::SigningBudget,
        Self::NoSignature,
        Self::NoStack,
        Self::Internal,
    ];

    /// Its name in the log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TimedOut => "timed-out",
            Self::ClientGone => "client-gone",
            Self::ProxyHeader => "proxy-header",
            Self::NoSni => "no-sni",
            Self::UnknownSite => "unknown-site",
            Self::NotTls => "not-tls",
            Self::Version => "version",
            Self::NothingInCommon => "nothing-in-common",
            Self::Alpn => "alpn",
            Self::ClientRefused => "client-refused",
            Self::ClientCertificate => "client-certificate",
            Self::BrokenTls => "broken-tls",
            Self::NoCertificate => "no-certificate",
            Self::SigningBudget => "signing-budget",
            Self::NoSignature => "no-signature",
            Self::NoStack => "no-stack",
            Self::Internal => "internal",
        }
    }

    /// Whether it is the proxy's or the engines' fault, and not the client's or the network's.
    pub(super) fn is_ours(self) -> bool {
        matches!(
            self,
            Self::NoCertificate | Self::SigningBudget | Self::NoSignature | Self::NoStack | Self::Internal
        )
    }

    fn of(error: &rustls::Error) -> Self {
        use rustls::Error;
        match error {
            // What no TLS record begins with: HTTP sent to the wrong port, port scanners.
            Error::InvalidMessage(
                InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
            ) => Self::NotTls,
            Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
                Self::BrokenTls
            }
            Error::AlertReceived(AlertDescription::CloseNotify | AlertDescription::UserCanceled) => {
                Self::ClientGone
            }
            Error::AlertReceived(_) => Self::ClientRefused,
            Error::PeerIncompatible(reason) => match reason {
                PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::Tls13RequiredForQuic => Self::Version,
                _ => Self::NothingInCommon,
            },
            Error::NoApplicationProtocol => Self::Alpn,
            Error::NoCertificatesPresented
            | Error::UnsupportedNameType
            | Error::InvalidCertificate(_)
            | Error::InvalidCertRevocationList(_) => Self::ClientCertificate,
            Error::InvalidMessage(_)
            | Error::PeerMisbehaved(_)
            | Error::DecryptError
            | Error::PeerSentOversizedRecord
            | Error::InvalidEncryptedClientHello(_)
            | Error::HandshakeNotComplete => Self::BrokenTls,
            _ => Self::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_lists_exactly_the_categories_that_exist() {
        let manual = include_str!("../../../docs/tls.md");
        let (_, section) = manual.split_once("## Failed handshakes\n").unwrap();
        let section = section.split("\n#").next().unwrap();
        let listed: Vec<_> =
            section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        assert_eq!(listed, Category::ALL.map(Category::name));
        for (at, category) in Category::ALL.into_iter().enumerate() {
            assert_eq!(category as usize, at, "{category:?}");
        }
    }
}
