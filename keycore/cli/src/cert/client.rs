//! Certificates of the clients that reach engines over the network.

use std::path::PathBuf;

use clap::Args;
use hsm_certs::{CertificateRequest, ClientKey, ClientProfile, Days, Issuer, Subject, SubjectText};
use serde_json::json;

use super::{answer, load, read, valid_for};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::file::{self, OutputFile};
use crate::key_argument::KeyArgument;
use crate::output::Answer;

#[derive(Args)]
pub(crate) struct ClientRequest {
    /// Who the client is, for people and logs
    #[arg(long, value_name = "NAME")]
    cn: SubjectText,
    /// The organization that runs it
    #[arg(long, value_name = "NAME")]
    organization: Option<SubjectText>,
    /// File for the new private key, readable by its owner only; never replaced
    #[arg(long, value_name = "FILE")]
    key_out: PathBuf,
    #[command(flatten)]
    out: OutputFile,
}

#[derive(Args)]
pub(crate) struct IssueClient {
    /// The request to grant
    #[arg(long, value_name = "FILE")]
    csr: PathBuf,
    /// The CA's certificate (a chain if it is not a root)
    #[arg(long, value_name = "FILE")]
    issuer: PathBuf,
    /// The CA's key
    #[arg(long, value_name = "KEY")]
    issuer_key: KeyArgument,
    /// Who the client is, instead of the common name in the request
    #[arg(long, value_name = "NAME")]
    cn: Option<SubjectText>,
    /// The organization that runs it, instead of the one in the request
    #[arg(long, value_name = "NAME")]
    organization: Option<SubjectText>,
    /// How long it is valid
    #[arg(long, default_value = "90")]
    days: Days,
    #[command(flatten)]
    out: OutputFile,
}

impl ClientRequest {
    pub(super) fn run(&self) -> Result<Answer, Failure> {
        self.out.check()?;
        if self.out.is(&self.key_out) {
            return Err(Failure::Usage(
                "--key-out and --out are one file: the request would replace the key".to_owned(),
            ));
        }
        let key = ClientKey::generate()?;
        let subject = Subject { common_name: Some(self.cn.clone()), organization: self.organization.clone() };
        let request = key.request(&subject)?;
        // The key first: without it the request would be good for nothing.
        let private = key.pem()?;
        file::write(&self.key_out, private.as_bytes(), 0o600, false).map_err(Failure::never_replaced)?;
        let data = json!({ "request": request, "key_file": self.key_out });
        let answer = self.out.write("the request", &request, data)?;
        Ok(answer.note(format!(
            "The private key is in {} and stays on this machine; only the request goes to the CA.",
            self.key_out.display()
        )))
    }
}

impl IssueClient {
    pub(super) fn run(&self, connection: &Connection) -> Result<Answer, Failure> {
        self.out.check()?;
        let request = read(&self.csr, CertificateRequest::from_pem)?;
        let subject = request.subject();
        let Some(common_name) = self.cn.clone().or_else(|| subject.common_name.clone()) else {
            return Err(Failure::Usage("the request names nobody: give --cn".to_owned()));
        };
        let organization = self.organization.clone().or_else(|| subject.organization.clone());
        let profile = ClientProfile { common_name, organization, validity: valid_for(self.days) };
        connection.as_user(|engine| {
            let key = load(engine, &self.issuer_key)?;
            let issuer = read(&self.issuer, |pem| Issuer::new(pem, &key))?;
            answer(&self.out, &issuer.issue_client(request.subject_key(), &profile)?)
        })
    }
}
