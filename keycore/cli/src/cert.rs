use std::path::Path;

use hsm_certs::{
    AlternativeName, CaProfile, Certificate, CertificateRequest, Days, Issuer, RemoteKey, ServerProfile,
    Subject, Validity, root_ca, self_signed,
};
use keycore_wire::PublicKey;
use serde_json::json;
use time::OffsetDateTime;

use crate::connection::{Connection, LoggedIn};
use crate::failure::Failure;
use crate::file::{self, OutputFile};
use crate::key_argument::KeyArgument;
use crate::output::Answer;

mod arguments;
mod client;
mod trust_anchor;

pub(crate) use arguments::CertCommand;
use arguments::{SubjectArguments, alternatives, server_names};

/// Longest certificate chain or request that is read, in bytes.
const LONGEST: usize = 256 * 1024;

impl CertCommand {
    pub(crate) fn run(&self, connection: &Connection) -> Result<Answer, Failure> {
        match self {
            Self::Csr { out, .. }
            | Self::SelfSigned { out, .. }
            | Self::CaInit { out, .. }
            | Self::Issue { out, .. } => out.check()?,
            Self::TrustAnchor(_) | Self::ClientRequest(_) | Self::IssueClient(_) => {}
        }
        match self {
            Self::Csr { key, dns, ip, subject, out } => {
                let names = alternatives(dns, ip);
                let subject = subject.to_subject();
                connection.as_user(|engine| {
                    let key = load(engine, key)?;
                    let pem = csr(&key, names, &subject)?;
                    out.write("the request", &pem, json!({ "request": pem }))
                })
            }
            Self::SelfSigned { key, names, subject, days, out } => {
                let profile = ServerProfile {
                    subject: subject.to_subject(),
                    ..ServerProfile::new(names.to_names()?, valid_for(*days))
                };
                connection.as_user(|engine| answer(out, &self_signed(&load(engine, key)?, &profile)?))
            }
            Self::CaInit { key, cn, organization, days, path_length, issuer, issuer_key, out } => {
                let above = issuer.as_deref().zip(issuer_key.as_ref());
                let days = match (days, above) {
                    (Some(days), _) => *days,
                    (None, None) => Days::new(3650).map_err(hsm_certs::Error::from)?,
                    (None, Some(_)) => Days::new(1825).map_err(hsm_certs::Error::from)?,
                };
                let profile = CaProfile {
                    organization: organization.clone(),
                    path_length: path_length.or(above.map(|_| 0)),
                    ..CaProfile::new(cn.clone(), valid_for(days))
                };
                connection.as_user(|engine| answer(out, &make_ca(engine, key, above, &profile)?))
            }
            Self::Issue { csr, key, issuer, issuer_key, dns, ip, subject, days, out } => {
                let request = match csr {
                    Some(path) => Some(read(path, CertificateRequest::from_pem)?),
                    None => None,
                };
                let profile = granted(request.as_ref(), alternatives(dns, ip), subject, *days)?;
                connection.as_user(|engine| {
                    let subject_key = match (&request, key) {
                        (Some(request), _) => request.subject_key().clone(),
                        (None, Some(key)) => load(engine, key)?.subject(),
                        (None, None) => return Err(Failure::Usage("give --csr or --key".to_owned())),
                    };
                    let issuer_key = load(engine, issuer_key)?;
                    let issuer = read(issuer, |pem| Issuer::new(pem, &issuer_key))?;
                    answer(out, &issuer.issue(&subject_key, &profile)?)
                })
            }
            Self::TrustAnchor(anchor) => anchor.run(connection),
            Self::ClientRequest(request) => request.run(),
            Self::IssueClient(client) => client.run(connection),
        }
    }
}

/// A server has names, a client a common name.
fn csr(key: &RemoteKey<'_>, names: Vec<AlternativeName>, subject: &Subject) -> Result<String, Failure> {
    let usage = |problem: &str| Err(Failure::Usage(problem.to_owned()));
    match (key.is_of_a_client(), names.is_empty()) {
        (true, false) => {
            usage("this is the key of a TLS client, which has no --dns and no --ip: say who it is with --cn")
        }
        (true, true) if subject.common_name.is_none() => usage("say who the client is: --cn NAME"),
        (true, true) => Ok(hsm_certs::client_request(key, subject)?),
        (false, true) => usage("a server has names: give --dns or --ip"),
        (false, false) => Ok(hsm_certs::request(key, subject, &server_names(names)?)?),
    }
}

/// What to certify: the options where they are given, else the request.
fn granted(
    request: Option<&CertificateRequest>,
    mut names: Vec<AlternativeName>,
    subject: &SubjectArguments,
    days: Days,
) -> Result<ServerProfile, Failure> {
    let mut subject = subject.to_subject();
    if let Some(request) = request {
        if names.is_empty() {
            names = request.names().to_vec();
        }
        subject.common_name = subject.common_name.or_else(|| request.subject().common_name.clone());
        subject.organization = subject.organization.or_else(|| request.subject().organization.clone());
    }
    if names.is_empty() {
        return Err(Failure::Usage("there is no name to certify: give --dns or --ip".to_owned()));
    }
    Ok(ServerProfile { subject, ..ServerProfile::new(server_names(names)?, valid_for(days)) })
}

fn make_ca(
    engine: &LoggedIn,
    key: &KeyArgument,
    above: Option<(&Path, &KeyArgument)>,
    profile: &CaProfile,
) -> Result<Certificate, Failure> {
    let key = load(engine, key)?;
    let Some((issuer, issuer_key)) = above else { return Ok(root_ca(&key, profile)?) };
    let issuer_key = load(engine, issuer_key)?;
    let issuer = read(issuer, |pem| Issuer::new(pem, &issuer_key))?;
    Ok(issuer.intermediate_ca(&key.subject(), profile)?)
}

fn load<'a>(engine: &'a LoggedIn, key: &KeyArgument) -> Result<RemoteKey<'a>, Failure> {
    let reply = engine.call(&PublicKey { key: key.0.clone() })?;
    Ok(RemoteKey::new(reply, &engine.client)?)
}

/// Reads a file; if its content is bad, the failure names the file.
fn read<T>(path: &Path, parse: impl FnOnce(&[u8]) -> Result<T, hsm_certs::Error>) -> Result<T, Failure> {
    parse(&file::read(path, LONGEST)?).map_err(|error| match Failure::from(error) {
        Failure::Certificate(error) => {
            Failure::Content { path: path.to_owned(), problem: error.to_string(), advice: None }
        }
        other => other,
    })
}

fn answer(out: &OutputFile, certificate: &Certificate) -> Result<Answer, Failure> {
    let pem = certificate.chain_pem();
    out.write("the certificate", &pem, json!({ "certificate": pem }))
}

fn valid_for(days: Days) -> Validity {
    Validity::starting(OffsetDateTime::now_utc(), days)
}
