//! What answers an authority that looks whether a name is ours. Shared by all workers and generations.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::handshake::WatchedKey;

/// The protocol of TLS-ALPN-01 (RFC 8737, section 6.2).
pub(crate) const ACME_TLS: &[u8] = b"acme-tls/1";

/// Where the authority looks over plain HTTP (RFC 8555, section 8.3).
pub(crate) const HTTP_01_PATH: &str = "/.well-known/acme-challenge/";

/// Lengths of tokens that are answered: 128 random bits have 22 characters (RFC 8555, section 8), and nobody needs a page of them.
const TOKEN: std::ops::RangeInclusive<usize> = 22..=128;

/// Looked at only for what authorities ask, so its locks are on no hot path.
#[derive(Default)]
pub(crate) struct Challenges {
    /// Of the account's key, once it is known.
    thumbprint: RwLock<Option<Arc<str>>>,
    /// By the name that the authority asks for.
    handshakes: RwLock<HashMap<Box<str>, Arc<ServerConfig>>>,
}

/// An answer by TLS-ALPN-01, until it is dropped.
pub(super) struct Answer {
    challenges: Arc<Challenges>,
    name: Box<str>,
}

impl Challenges {
    /// The key authorization of HTTP-01 for a path; `None` if it is no challenge's, or there is no account yet.
    ///
    /// Every token is answered, not only those that this process asked for: so behind a load balancer any proxy of the same
    /// account answers, and before and after a restart. It says only whose account may prove the name, and only who
    /// has that account's key can make use of it.
    pub(crate) fn over_http(&self, path: &str) -> Option<String> {
        let token = path.strip_prefix(HTTP_01_PATH).filter(|token| is_token(token))?;
        let thumbprint = self.thumbprint.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        Some(format!("{token}.{thumbprint}"))
    }

    /// How to answer a client that speaks nothing but `acme-tls/1`; `None` if it is another one, or nothing was asked for its name.
    pub(crate) fn over_tls(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        let mut protocols = hello.alpn()?;
        if protocols.next() != Some(ACME_TLS) || protocols.next().is_some() {
            return None;
        }
        let name = hello.server_name()?.to_ascii_lowercase();
        self.handshakes.read().unwrap_or_else(PoisonError::into_inner).get(&*name).cloned()
    }

    /// The account is this one.
    pub(super) fn account(&self, thumbprint: &Arc<str>) {
        *self.thumbprint.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(thumbprint));
    }

    /// Answers for `name` with this certificate.
    pub(super) fn answer(
        self: &Arc<Self>,
        name: &str,
        mut certificate: CertifiedKey,
    ) -> Result<Answer, rustls::Error> {
        certificate.key = Arc::new(WatchedKey(certificate.key));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Only(Arc::new(certificate))));
        config.alpn_protocols = vec![ACME_TLS.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let mut handshakes = self.handshakes.write().unwrap_or_else(PoisonError::into_inner);
        handshakes.insert(name.into(), Arc::new(config));
        Ok(Answer { challenges: Arc::clone(self), name: name.into() })
    }
}

/// Whether this can be a challenge's token (RFC 8555, section 8.1).
pub(super) fn is_token(text: &str) -> bool {
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    TOKEN.contains(&text.len()) && text.bytes().all(is_base64url)
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.challenges.handshakes.write().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

#[derive(Debug)]
struct Only(Arc<CertifiedKey>);

impl ResolvesServerCert for Only {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_answered_and_nothing_else_is_said_back() {
        let challenges = Challenges::default();
        let token = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
        let path = format!("{HTTP_01_PATH}{token}");
        assert_eq!(challenges.over_http(&path), None, "no account yet");
        challenges.account(&"thumb".into());
        assert_eq!(challenges.over_http(&path), Some(format!("{token}.thumb")));
        for bad in [
            "",
            "short",
            "../../../../etc/passwd-and-more",
            "<script>alert(1)</script>",
            "a%41aaaaaaaaaaaaaaaaaaaaaaa",
        ] {
            assert_eq!(challenges.over_http(&format!("{HTTP_01_PATH}{bad}")), None, "{bad}");
        }
        assert_eq!(challenges.over_http(&format!("{HTTP_01_PATH}{}", "a".repeat(129))), None);
        assert_eq!(challenges.over_http(&format!("/other/{token}")), None);
    }
}
