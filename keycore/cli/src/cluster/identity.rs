//! The cluster's certificate for the network: asked for, signed by the operator's CA, set.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use data_encoding::HEXLOWER;
use hsm_certs::{Certificate, DnsName, to_pem};
use keycore_wire::{ClusterCertificateStatus, ClusterCsr, ClusterName, ClusterStatus, SetClusterCertificate};
use serde_json::{Value, json};

use super::{named, view};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::file::{self, OutputFile};
use crate::output::{Answer, timestamp};

/// Longest file of certificates that is read, in bytes.
const LONGEST: usize = 256 * 1024;

/// What clients call the engines.
#[derive(Args)]
pub(crate) struct Names {
    /// DNS name by which clients reach the engines; may be given several times
    #[arg(long, value_name = "NAME", required_unless_present = "ip")]
    dns: Vec<DnsName>,
    /// Address by which clients reach the engines; may be given several times
    #[arg(long, value_name = "ADDRESS")]
    ip: Vec<IpAddr>,
}

#[derive(Args)]
pub(crate) struct Csr {
    #[command(flatten)]
    names: Names,
    #[command(flatten)]
    out: OutputFile,
}

#[derive(Args)]
pub(crate) struct SetCertificate {
    /// The certificate that the CA made of the request, then the CAs in between, in PEM
    #[arg(long, value_name = "FILE")]
    signed_certificate: PathBuf,
    /// The CA's own certificate, in PEM
    #[arg(long, value_name = "FILE")]
    trust_anchor: PathBuf,
}

impl Names {
    fn to_wire(&self) -> Vec<ClusterName> {
        let dns = self.dns.iter().map(|name| ClusterName::Dns(name.as_str().to_owned()));
        dns.chain(self.ip.iter().copied().map(ClusterName::Ip)).collect()
    }
}

impl Csr {
    pub(super) fn run(&self, connection: &Connection) -> Result<Answer, Failure> {
        self.out.check()?;
        let pem = request(connection, &self.names)?;
        self.out.write("the request", &pem, json!({ "request": pem }))
    }
}

impl SetCertificate {
    pub(super) fn run(&self, connection: &Connection) -> Result<Answer, Failure> {
        let chain = read(&self.signed_certificate)?;
        let anchor = read(&self.trust_anchor)?;
        let request = set(&chain, &anchor);
        if request.chain.is_empty() {
            return Err(Failure::Content {
                path: self.signed_certificate.clone(),
                problem: "holds the trust anchor and no other certificate".to_owned(),
                advice: Some("give what the CA made of the request of `hsm cluster csr`".to_owned()),
            });
        }
        let status = connection.as_user_if_any(&request)?;
        Ok(Answer::new(said(&status), view(&status)))
    }
}

/// The request of the cluster's identity key, in PEM.
fn request(connection: &Connection, names: &Names) -> Result<String, Failure> {
    let made = connection.as_user_if_any(&ClusterCsr { names: names.to_wire() })?;
    Ok(to_pem("CERTIFICATE REQUEST", &made.der))
}

fn read(path: &Path) -> Result<Certificate, Failure> {
    Certificate::from_pem(&file::read(path, LONGEST)?).map_err(|error| match Failure::from(error) {
        Failure::Certificate(error) => {
            Failure::Content { path: path.to_owned(), problem: error.to_string(), advice: None }
        }
        other => other,
    })
}

/// The trust anchor is left out of the chain: whoever trusts it has it.
fn set(chain: &Certificate, anchor: &Certificate) -> SetClusterCertificate {
    let trust_anchor = anchor.der().to_vec();
    let chain = chain.chain().filter(|der| *der != trust_anchor).map(<[u8]>::to_vec).collect();
    SetClusterCertificate { chain, trust_anchor }
}

fn said(status: &ClusterStatus) -> String {
    let mut text = format!("{} has a certificate", named(status));
    if let Some(line) = line(status) {
        text.push_str(&format!("\n{line}"));
    }
    text
}

/// What people read of the certificate.
pub(super) fn line(status: &ClusterStatus) -> Option<String> {
    let certificate = status.certificate.as_deref()?;
    let ClusterCertificateStatus { subject, not_after, trust_anchor_sha256, .. } = certificate;
    let anchor = HEXLOWER.encode(trust_anchor_sha256);
    Some(format!(
        "certificate: {subject}, valid until {}, trust anchor sha256 {anchor}",
        timestamp(*not_after)
    ))
}

/// What programs read of it.
pub(super) fn json(status: &ClusterStatus) -> Value {
    status.certificate.as_deref().map_or(Value::Null, |certificate| {
        json!({
            "subject": certificate.subject,
            "not_after": timestamp(certificate.not_after),
            "sha256": HEXLOWER.encode(&certificate.sha256),
            "trust_anchor_sha256": HEXLOWER.encode(&certificate.trust_anchor_sha256),
        })
    })
}
