//! One order, from the authority's promise to the certificate (RFC 8555, section 7.4).

use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use hsm_certs::{DnsName, RemoteKey, ServerNames, Subject};
use keycore_wire::{Attributes, KeyAlgorithm, KeyLabel, KeyTemplate, PublicKeyReply};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use rustls::sign::CertifiedKey;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::time::sleep;

use super::account::{Account, located};
use super::challenges::{Answer, Challenges, is_token};
use super::failure::{Failure, Problem};
use super::https::Reply;
use super::keys::{CertificateKeys, Signs};
use super::{on_blocking_thread, random_fraction};
use crate::config::{AcmeUrl, ChallengeKind};

/// First pause between two looks at what the authority works on; doubled up to the longest.
const FIRST_LOOK: Duration = Duration::from_millis(500);
const LONGEST_LOOK: Duration = Duration::from_secs(10);

/// What is ordered, and with what.
pub(super) struct Orderer<'a> {
    pub(super) account: &'a Account,
    pub(super) keys: &'a Arc<dyn CertificateKeys>,
    pub(super) challenges: &'a Arc<Challenges>,
    pub(super) challenge: ChallengeKind,
    pub(super) names: &'a ServerNames,
}

#[derive(Debug, Deserialize)]
struct Order {
    status: OrderStatus,
    authorizations: Vec<AcmeUrl>,
    finalize: AcmeUrl,
    certificate: Option<AcmeUrl>,
    error: Option<Problem>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OrderStatus {
    Pending,
    Ready,
    Processing,
    Valid,
    #[serde(other)]
    Invalid,
}

#[derive(Debug, Deserialize)]
struct Authorization {
    identifier: Identifier,
    status: AuthorizationStatus,
    challenges: Vec<Challenge>,
    /// Whether it is of all names below, which nothing here orders.
    #[serde(default)]
    wildcard: bool,
}

#[derive(Debug, Deserialize)]
struct Identifier {
    #[serde(rename = "type")]
    kind: String,
    value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AuthorizationStatus {
    Pending,
    Valid,
    #[serde(other)]
    Invalid,
}

#[derive(Debug, Deserialize)]
struct Challenge {
    #[serde(rename = "type")]
    kind: String,
    /// Looked at only in the challenge that is taken: others may be of types that nobody knows yet.
    url: Option<String>,
    token: Option<String>,
    error: Option<Problem>,
}

impl Orderer<'_> {
    /// Begins an order for the names; where it is. `replaces` names the certificate that it is to follow (RFC 9773, section 5).
    pub(super) async fn begin(&self, replaces: Option<&str>) -> Result<AcmeUrl, Failure> {
        let names = self.names.as_slice().iter();
        let identifiers: Vec<Value> =
            names.map(|name| json!({ "type": "dns", "value": name.to_string() })).collect();
        let mut wanted = json!({ "identifiers": identifiers });
        let url = &self.account.directory.new_order;
        if let Some(replaces) = replaces {
            wanted["replaces"] = replaces.into();
            match self.account.send(url, &wanted).await {
                // It was replaced already, or is unknown: then it is an order like any other.
                Err(failure)
                    if ["alreadyReplaced", "malformed", "unauthorized"]
                        .iter()
                        .any(|kind| failure.is(kind)) =>
                {
                    tracing::debug!(error = %failure, "an order that replaces another");
                    wanted.as_object_mut().and_then(|wanted| wanted.remove("replaces"));
                }
                outcome => return located(&outcome?),
            }
        }
        located(&self.account.send(url, &wanted).await?)
    }

    /// Follows an order to its end: the certificate chain of this key, in PEM.
    pub(super) async fn fulfil(&self, url: &AcmeUrl, key: &PublicKeyReply) -> Result<String, Failure> {
        let (mut order, _) = self.look_at(url).await?;
        if order.authorizations.len() > self.names.as_slice().len() {
            return Err(Failure::NotOrdered(format!("{} authorizations", order.authorizations.len())));
        }
        if order.status == OrderStatus::Pending {
            for authorization in &order.authorizations {
                self.prove(authorization).await?;
            }
            order = self.until(url, |status| status != OrderStatus::Pending).await?;
        }
        if order.status == OrderStatus::Ready {
            let request = self.request_of(key).await?;
            let request = json!({ "csr": BASE64URL_NOPAD.encode(&request) });
            self.account.send(&order.finalize, &request).await?;
            let done = |status| matches!(status, OrderStatus::Valid | OrderStatus::Invalid);
            order = self.until(url, done).await?;
        } else if order.status == OrderStatus::Processing {
            order = self.until(url, |status| status != OrderStatus::Processing).await?;
        }
        match (order.status, &order.certificate) {
            (OrderStatus::Valid, Some(certificate)) => {
                let reply = self.account.read(certificate).await?;
                let chain = std::str::from_utf8(&reply.body);
                chain.map(str::to_owned).map_err(|_| Failure::Malformed("a certificate is not in PEM"))
            }
            (OrderStatus::Valid, None) => {
                Err(Failure::Malformed("the order is valid, and has no certificate"))
            }
            _ => {
                let problem = order.error.unwrap_or_default();
                Err(Failure::Refused { problem, retry_after: None })
            }
        }
    }

    async fn look_at(&self, url: &AcmeUrl) -> Result<(Order, Reply), Failure> {
        let reply = self.account.read(url).await?;
        Ok((reply.json()?, reply))
    }

    async fn until(&self, url: &AcmeUrl, done: impl Fn(OrderStatus) -> bool) -> Result<Order, Failure> {
        let mut pause = FIRST_LOOK;
        loop {
            let (order, reply) = self.look_at(url).await?;
            if done(order.status) {
                return Ok(order);
            }
            wait(&mut pause, &reply).await;
        }
    }

    /// Proves one name, if that is not done yet.
    async fn prove(&self, url: &AcmeUrl) -> Result<(), Failure> {
        let authorization: Authorization = self.account.read(url).await?.json()?;
        let Identifier { kind, value: name } = authorization.identifier;
        let ordered = |name: &str| self.names.as_slice().iter().any(|of| of.to_string() == name);
        if kind != "dns" || !ordered(&name.to_ascii_lowercase()) {
            return Err(Failure::NotOrdered(format!("{kind} {name}")));
        }
        if authorization.wildcard {
            return Err(Failure::NotOrdered(format!("{kind} *.{name}")));
        }
        if authorization.status == AuthorizationStatus::Valid {
            return Ok(());
        }
        let kind = self.challenge.name();
        let offered = authorization.challenges.into_iter().find(|challenge| challenge.kind == kind);
        let Some(challenge) = offered else {
            return Err(Failure::NoSuchChallenge { name, kind });
        };
        let address = challenge.url.and_then(|url| url.parse::<AcmeUrl>().ok());
        let address = address.ok_or(Failure::Malformed("a challenge has no https:// address"))?;
        let token = challenge.token.filter(|token| is_token(token));
        let token = token.ok_or(Failure::Malformed("a challenge's token is not 22 to 128 of base64url"))?;
        let answer = match self.challenge {
            ChallengeKind::Http01 => None,
            ChallengeKind::TlsAlpn01 => Some(self.answer_over_tls(&name, &token).await?),
        };
        self.account.send(&address, &json!({})).await?;
        let mut pause = FIRST_LOOK;
        loop {
            let reply = self.account.read(url).await?;
            let authorization: Authorization = reply.json()?;
            match authorization.status {
                AuthorizationStatus::Valid => break,
                AuthorizationStatus::Invalid => {
                    let mut errors =
                        authorization.challenges.into_iter().filter_map(|challenge| challenge.error);
                    return Err(Failure::NotProven { name, problem: errors.next().unwrap_or_default() });
                }
                AuthorizationStatus::Pending => wait(&mut pause, &reply).await,
            }
        }
        drop(answer);
        Ok(())
    }

    /// Lets workers answer by TLS-ALPN-01, with a key of the engines that ends with this order, or else with the session.
    async fn answer_over_tls(&self, name: &str, token: &str) -> Result<ChallengeAnswer, Failure> {
        let name: DnsName = name.parse().map_err(hsm_certs::Error::from)?;
        let authorization = format!("{token}.{}", self.account.key.thumbprint);
        let (keys, challenges) = (Arc::clone(self.keys), Arc::clone(self.challenges));
        on_blocking_thread(move || {
            let usage = Attributes::SIGN;
            let label = challenge_label().ok_or(Failure::Interrupted)?;
            let mut template = KeyTemplate::new(label, usage);
            template.attributes = template.attributes.set(keycore_wire::Attribute::Token, false);
            let key = keys.make(KeyAlgorithm::P256, template)?;
            let ends = KeyEnds { keys: Arc::clone(&keys), key: key.info.id };
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, authorization.as_bytes());
            let mut hash = [0; 32];
            hash.copy_from_slice(digest.as_ref());
            let signs = Signs(&*keys);
            let certificate = hsm_certs::tls_alpn_challenge(
                &RemoteKey::new(key.clone(), &signs)?,
                &name,
                hash,
                OffsetDateTime::now_utc(),
            )?;
            let chain = vec![CertificateDer::from(certificate.der().to_vec())];
            let certified = CertifiedKey::new(chain, keys.challenge_key(&key));
            let answer = challenges
                .answer(name.as_str(), certified)
                .map_err(|error| Failure::Trust(crate::upstream::TrustError::Tls(error)))?;
            Ok(ChallengeAnswer { _answer: answer, _key: ends })
        })
        .await
    }

    /// The certification request for the names, in DER, which the engine signs.
    async fn request_of(&self, key: &PublicKeyReply) -> Result<Vec<u8>, Failure> {
        let (keys, key, names) = (Arc::clone(self.keys), key.clone(), self.names.clone());
        on_blocking_thread(move || {
            let signs = Signs(&*keys);
            let pem = hsm_certs::request(&RemoteKey::new(key, &signs)?, &Subject::default(), &names)?;
            let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes());
            der.map(|der| der.to_vec()).map_err(|_| Failure::Malformed("the certification request"))
        })
        .await
    }
}

/// What answers a challenge; in this order of its end.
struct ChallengeAnswer {
    _answer: Answer,
    _key: KeyEnds,
}

/// Deletes a key of a session when dropped.
struct KeyEnds {
    keys: Arc<dyn CertificateKeys>,
    key: keycore_wire::KeyId,
}

impl Drop for KeyEnds {
    fn drop(&mut self) {
        let (keys, key) = (Arc::clone(&self.keys), self.key);
        let delete = move || {
            if let Err(error) = keys.delete(key) {
                // It ends with its session.
                tracing::debug!(%error, "the key of a challenge is not deleted");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(delete)),
            Err(_) => delete(),
        }
    }
}

fn challenge_label() -> Option<KeyLabel> {
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random).ok()?;
    format!("hsm-proxy-acme-challenge-{}", data_encoding::HEXLOWER.encode(&random)).parse().ok()
}

/// As long as the authority says, else a bit longer each time.
async fn wait(pause: &mut Duration, reply: &Reply) {
    let asked = reply.retry_after().unwrap_or_default().min(Duration::from_secs(60));
    sleep(asked.max(pause.mul_f64(0.75 + random_fraction() / 2.0))).await;
    *pause = (*pause * 2).min(LONGEST_LOOK);
}
