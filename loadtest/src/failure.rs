//! What can go wrong with one handshake.

use std::borrow::Cow;
use std::io;

use rustls::Error as TlsError;

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The TCP connection could not be made.
    #[error("connect: {0}")]
    Connect(io::Error),
    /// The server sent a fatal alert.
    #[error("alert: {0:?}")]
    Alert(rustls::AlertDescription),
    /// The server's certificate, name or signature was not accepted.
    #[error("{0}")]
    Certificate(TlsError),
    /// Anything else that the TLS client did not accept.
    #[error("{0}")]
    Tls(TlsError),
    /// The server closed the connection in the middle.
    #[error("the server closed the connection too early")]
    Closed,
    /// It took longer than the limit for one handshake.
    #[error("timeout")]
    Timeout,
    /// The network failed after the connection was made.
    #[error("io: {0}")]
    Io(io::Error),
    /// The request after the handshake was answered by something else than success or a redirection.
    #[error("http: {0}")]
    Http(Cow<'static, str>),
    /// The session was resumed: that is no full handshake, so the figures would be wrong.
    #[error("resumed")]
    Resumed,
    /// A client that had a ticket was made to handshake in full: that is no resumption, so the figures would be wrong.
    #[error("not resumed")]
    NotResumed,
}

impl Failure {
    /// Sorts an error of the TLS stream.
    pub(crate) fn from_stream(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
            Some(TlsError::AlertReceived(alert)) => Self::Alert(*alert),
            Some(tls @ (TlsError::InvalidCertificate(_) | TlsError::NoCertificatesPresented)) => {
                Self::Certificate(tls.clone())
            }
            Some(tls) => Self::Tls(tls.clone()),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Closed,
            None => Self::Io(error),
        }
    }

    /// The name under which failures of this kind are counted.
    pub fn category(&self) -> String {
        match self {
            Self::Connect(error) => format!("connect: {}", kind(error)),
            Self::Alert(alert) => format!("alert: {alert:?}"),
            Self::Certificate(_) => "certificate".to_owned(),
            Self::Tls(_) => "tls".to_owned(),
            Self::Closed => "closed".to_owned(),
            Self::Timeout => "timeout".to_owned(),
            Self::Io(error) => format!("io: {}", kind(error)),
            Self::Http(what) => format!("http: {what}"),
            Self::Resumed => "resumed".to_owned(),
            Self::NotResumed => "not resumed".to_owned(),
        }
    }
}

/// `connection refused`, without the number of the system's error.
fn kind(error: &io::Error) -> String {
    error.kind().to_string()
}
