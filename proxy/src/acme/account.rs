//! An account at an authority: what is signed with its key, and what the authority answers.

use std::sync::Arc;

use http::Method;
use http::header::{HeaderName, LOCATION};
use keycore_wire::{
    Attribute, Attributes, KeyAlgorithm, KeyId, KeyTemplate, PublicKeyReply, SignatureScheme,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::failure::Failure;
use super::https::{Https, Reply};
use super::jws::{Jwk, Signatory, Unsigned};
use super::keys::CertificateKeys;
use super::on_blocking_thread;
use crate::config::{AcmeSettings, AcmeUrl};

/// How often a request is sent again whose nonce the authority does not take: it may forget them (RFC 8555, section 6.5).
const NONCES: usize = 10;

/// Longest nonce that is signed, in characters: authorities' have some 50.
const LONGEST_NONCE: usize = 512;

const REPLAY_NONCE: HeaderName = HeaderName::from_static("replay-nonce");

/// Where an authority is asked for what (RFC 8555, section 7.1.1; RFC 9773, section 3).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Directory {
    new_nonce: AcmeUrl,
    new_account: AcmeUrl,
    pub(super) new_order: AcmeUrl,
    pub(super) renewal_info: Option<AcmeUrl>,
}

impl Directory {
    pub(super) async fn fetch(https: &Https, url: &AcmeUrl) -> Result<Self, Failure> {
        https.request(Method::GET, url, None).await?.success()?.json()
    }
}

/// The key of an account, in the engines: all proxies of the same user have the same one, and so the same account.
#[derive(Clone)]
pub(super) struct AccountKey {
    id: KeyId,
    jwk: Jwk,
    /// What goes into key authorizations.
    pub(super) thumbprint: Arc<str>,
}

impl AccountKey {
    /// Finds it, or makes it.
    pub(super) async fn open(
        settings: &AcmeSettings,
        keys: &Arc<dyn CertificateKeys>,
    ) -> Result<Self, Failure> {
        let (keys, label) = (Arc::clone(keys), settings.account_key.clone());
        on_blocking_thread(move || {
            let key = match keys.find(&label)? {
                Some(key) => key,
                None => {
                    let usage = Attributes::of(&[Attribute::Sign]);
                    keys.make(KeyAlgorithm::P256, KeyTemplate::new(label.clone(), usage))?
                }
            };
            Self::of(&key).ok_or_else(|| Failure::WrongKey(label.to_string()))
        })
        .await
    }

    fn of(key: &PublicKeyReply) -> Option<Self> {
        let jwk = Jwk::of_spki(&key.spki)?;
        let signs = key.info.attributes.has(Attribute::Sign);
        let thumbprint = jwk.thumbprint().into();
        signs.then_some(Self { id: key.info.id, jwk, thumbprint })
    }
}

/// An account that the authority knows.
pub(super) struct Account {
    https: Arc<Https>,
    pub(super) directory: Directory,
    keys: Arc<dyn CertificateKeys>,
    pub(super) key: AccountKey,
    /// The authority's name of the account.
    url: String,
    /// One that the authority gave and that is not used yet.
    nonce: Mutex<Option<String>>,
}

impl Account {
    /// Finds the account of the key, or opens it (RFC 8555, section 7.3): whoever calls has seen that the terms are agreed to.
    pub(super) async fn open(
        settings: &AcmeSettings,
        https: &Arc<Https>,
        keys: &Arc<dyn CertificateKeys>,
        key: AccountKey,
    ) -> Result<Self, Failure> {
        let directory = Directory::fetch(https, &settings.directory).await?;
        let mut wanted =
            json!({ "termsOfServiceAgreed": settings.terms_agreed, "contact": settings.contact });
        if let (Some(kid), Some(path)) = (&settings.eab_kid, &settings.eab_key_file) {
            let mac_key = keycore_client::read_password_file(path)
                .map_err(|error| Failure::MacKey(error.to_string()))?;
            let mac_key = data_encoding::BASE64URL_NOPAD
                .decode(mac_key.expose().strip_suffix(b"=").unwrap_or(mac_key.expose()))
                .map(zeroize::Zeroizing::new)
                .map_err(|_| Failure::MacKey("it is not base64url".to_owned()))?;
            wanted["externalAccountBinding"] =
                key.jwk.external_binding(kid, &mac_key, &directory.new_account.to_string());
        }
        let mut account = Self {
            https: Arc::clone(https),
            directory,
            keys: Arc::clone(keys),
            key,
            url: String::new(),
            nonce: Mutex::new(None),
        };
        let opened = account.ask(&account.directory.new_account, Some(&wanted)).await?;
        account.url = located(&opened)?.to_string();
        Ok(account)
    }

    /// Reads what is at a URL.
    pub(super) async fn read(&self, url: &AcmeUrl) -> Result<Reply, Failure> {
        self.ask(url, None).await
    }

    /// Sends a payload there.
    pub(super) async fn send(&self, url: &AcmeUrl, payload: &Value) -> Result<Reply, Failure> {
        self.ask(url, Some(payload)).await
    }

    async fn ask(&self, url: &AcmeUrl, payload: Option<&Value>) -> Result<Reply, Failure> {
        let mut last = None;
        for _ in 0..NONCES {
            let nonce = self.nonce().await?;
            let signatory = match &self.url[..] {
                "" => Signatory::Key(&self.key.jwk),
                url => Signatory::Account(url),
            };
            let unsigned = Unsigned::new(signatory, &nonce, &url.to_string(), payload);
            let body = self.signed(unsigned).await?;
            let reply = self.https.request(Method::POST, url, Some(body)).await?;
            *self.nonce.lock().await = nonce_of(&reply);
            match reply.success() {
                Err(failure) if failure.is("badNonce") => last = Some(failure),
                outcome => return outcome,
            }
        }
        Err(last.unwrap_or(Failure::Malformed("no nonce is good")))
    }

    async fn nonce(&self) -> Result<String, Failure> {
        if let Some(nonce) = self.nonce.lock().await.take() {
            return Ok(nonce);
        }
        let reply = self.https.request(Method::HEAD, &self.directory.new_nonce, None).await?.success()?;
        nonce_of(&reply).ok_or(Failure::Malformed("newNonce has no nonce"))
    }

    async fn signed(&self, unsigned: Unsigned) -> Result<Vec<u8>, Failure> {
        let (keys, key) = (Arc::clone(&self.keys), self.key.id);
        on_blocking_thread(move || {
            let scheme = SignatureScheme::EcdsaP256Sha256;
            let signature = keys.sign(key, scheme, unsigned.message().as_bytes())?;
            unsigned.signed(&signature).ok_or_else(|| Failure::WrongKey("of the account".to_owned()))
        })
        .await
    }
}

/// The nonce of a response. One that is no base64url is ignored (RFC 8555, section 6.5.1), and so is a long one: it would be signed.
fn nonce_of(reply: &Reply) -> Option<String> {
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let nonce = reply.field(&REPLAY_NONCE)?;
    let good = (1..=LONGEST_NONCE).contains(&nonce.len()) && nonce.bytes().all(is_base64url);
    good.then(|| nonce.to_owned())
}

/// Where what was made is.
pub(super) fn located(reply: &Reply) -> Result<AcmeUrl, Failure> {
    let url = reply.field(&LOCATION).and_then(|url| url.parse().ok());
    url.ok_or(Failure::Malformed("there is no Location where there must be one"))
}
