//! The arguments of `hsm cert`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use hsm_certs::{AlternativeName, Days, DnsName, ServerNames, Subject, SubjectText};

use crate::failure::Failure;
use crate::file::OutputFile;
use crate::key_argument::KeyArgument;

use super::client::{ClientRequest, IssueClient};
use super::trust_anchor::TrustAnchor;

#[derive(Subcommand)]
pub(crate) enum CertCommand {
    /// Make a certificate signing request, for a CA elsewhere or another user's
    Csr {
        /// The server's key, or a client's (usage tls-client)
        #[arg(long)]
        key: KeyArgument,
        /// A DNS name of the server, such as www.example.org or *.example.org; may be given several times
        #[arg(long = "dns", value_name = "NAME", required_unless_present_any = ["ip", "cn"])]
        dns: Vec<DnsName>,
        /// An IP address of the server; may be given several times
        #[arg(long = "ip", value_name = "ADDRESS")]
        ip: Vec<IpAddr>,
        #[command(flatten)]
        subject: SubjectArguments,
        #[command(flatten)]
        out: OutputFile,
    },
    /// Make a server certificate signed with its own key (usage sign)
    SelfSigned {
        /// The server's key
        #[arg(long)]
        key: KeyArgument,
        #[command(flatten)]
        names: Names,
        #[command(flatten)]
        subject: SubjectArguments,
        /// How long it is valid
        #[arg(long, default_value = "90")]
        days: Days,
        #[command(flatten)]
        out: OutputFile,
    },
    /// Make a CA's certificate: a root, or with --issuer one below another CA
    CaInit {
        /// The CA's key (usage sign)
        #[arg(long)]
        key: KeyArgument,
        /// The CA's name
        #[arg(long, value_name = "NAME")]
        cn: SubjectText,
        /// The organization that runs it
        #[arg(long, value_name = "NAME")]
        organization: Option<SubjectText>,
        /// How long it is valid [default: 3650 for a root, 1825 below one]
        #[arg(long)]
        days: Option<Days>,
        /// How many CAs may stand below it [default: no limit for a root, 0 below one]
        #[arg(long, value_name = "N")]
        path_length: Option<u8>,
        /// Certificate of the CA above (a chain if that is not a root)
        #[arg(long, value_name = "FILE", requires = "issuer_key")]
        issuer: Option<PathBuf>,
        /// Key of the CA above
        #[arg(long, value_name = "KEY", requires = "issuer")]
        issuer_key: Option<KeyArgument>,
        #[command(flatten)]
        out: OutputFile,
    },
    /// Make a server certificate signed by a CA of this cluster, with the chain below the root
    Issue {
        /// The request to grant
        #[arg(long, value_name = "FILE", required_unless_present = "key", conflicts_with = "key")]
        csr: Option<PathBuf>,
        /// The server's key, if it is yours: no request needed
        #[arg(long)]
        key: Option<KeyArgument>,
        /// The CA's certificate (a chain if it is not a root)
        #[arg(long, value_name = "FILE")]
        issuer: PathBuf,
        /// The CA's key
        #[arg(long, value_name = "KEY")]
        issuer_key: KeyArgument,
        /// A DNS name, instead of those in the request; may be given several times
        #[arg(long = "dns", value_name = "NAME")]
        dns: Vec<DnsName>,
        /// An IP address, instead of those in the request; may be given several times
        #[arg(long = "ip", value_name = "ADDRESS")]
        ip: Vec<IpAddr>,
        #[command(flatten)]
        subject: SubjectArguments,
        /// How long it is valid
        #[arg(long, default_value = "90")]
        days: Days,
        #[command(flatten)]
        out: OutputFile,
    },
    /// Make a cluster's trust anchor: a new CA key in the engine, and its certificate
    TrustAnchor(TrustAnchor),
    /// Make a key for a client of engines at tcp://, in a file, and the request for its certificate; without an engine
    ClientRequest(ClientRequest),
    /// Make a client's certificate for engines at tcp://, signed by the CA that is the cluster's trust anchor
    IssueClient(IssueClient),
}

/// What the server is called.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Names {
    /// A DNS name of the server, such as www.example.org or *.example.org; may be given several times
    #[arg(long = "dns", value_name = "NAME")]
    dns: Vec<DnsName>,
    /// An IP address of the server; may be given several times
    #[arg(long = "ip", value_name = "ADDRESS")]
    ip: Vec<IpAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct SubjectArguments {
    /// Common name: who a client is; a server's is ignored
    #[arg(long, value_name = "NAME")]
    cn: Option<SubjectText>,
    /// Organization
    #[arg(long, value_name = "NAME")]
    organization: Option<SubjectText>,
}

impl SubjectArguments {
    pub(super) fn to_subject(&self) -> Subject {
        Subject { common_name: self.cn.clone(), organization: self.organization.clone() }
    }
}

impl Names {
    pub(super) fn to_names(&self) -> Result<ServerNames, Failure> {
        server_names(alternatives(&self.dns, &self.ip))
    }
}

/// All names, those of DNS first.
pub(super) fn alternatives(dns: &[DnsName], ip: &[IpAddr]) -> Vec<AlternativeName> {
    let dns = dns.iter().cloned().map(AlternativeName::Dns);
    dns.chain(ip.iter().copied().map(AlternativeName::Ip)).collect()
}

/// At least one name.
pub(super) fn server_names(names: Vec<AlternativeName>) -> Result<ServerNames, Failure> {
    ServerNames::new(names).map_err(|error| Failure::Usage(error.to_string()))
}
