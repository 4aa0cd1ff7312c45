//! `hsm quorum`: proposals, approvals and the values of M.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use keycore_wire::{
    QuorumApprove, QuorumDelete, QuorumList, QuorumPolicy, QuorumRules, QuorumService, QuorumSetPolicy,
    QuorumSetValue, QuorumToken, QuorumTokenId, UserName,
};
use serde_json::{Value, json};

use crate::arguments::Cli;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::file;
use crate::output::{Answer, fields, table, timestamp};
use crate::own_key::SignedBy;

#[derive(Subcommand)]
pub(crate) enum QuorumCommand {
    /// Propose operations, and set how many approvals what needs
    #[command(subcommand)]
    TokenSign(TokenSignCommand),
    /// Approve a proposal: shows what it is, signs it or hands in a signature (admins; about a key, who may use it)
    Approve {
        /// The token, as `hsm quorum token-sign list` shows it
        token: QuorumTokenId,
        /// Whose signature it is [default: one's own]
        #[arg(long, value_name = "NAME")]
        approver: Option<UserName>,
        #[command(flatten)]
        by: SignedBy,
    },
}

#[derive(Subcommand)]
pub(crate) enum TokenSignCommand {
    /// Propose a command of hsm, in the session of `hsm login`; once approved, run that command (admins; crypto
    /// users for keys that ask for approvals)
    Generate {
        /// Write what approvers sign to a file
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// The command behind `--`: -- user delete web
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Delete a proposal (admins; about a key, who may use it)
    Delete {
        /// The token
        token: QuorumTokenId,
    },
    /// List the proposals that can still be used; those about keys only when logged in as who may use them
    List,
    /// Show how many approvals what needs; without a login
    ListQuorumValues,
    /// Set how many approvals a service needs: 2 to 8, 1 for none (admins only)
    SetQuorumValue {
        /// user, cluster or quorum
        #[arg(long)]
        service: QuorumService,
        /// How many
        #[arg(long, value_parser = clap::value_parser!(u8).range(1..=8))]
        value: u8,
    },
    /// Show how long a token lasts; without a login
    ListTimeouts,
    /// Set how long new tokens last (admins only)
    SetTimeout {
        /// Seconds
        #[arg(long, value_parser = clap::value_parser!(u32).range(60..=86_400))]
        time: u32,
    },
    /// Set whether who proposes may approve as well (admins only)
    SetSelfApproval {
        /// off unless set
        allowed: Switch,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

impl QuorumCommand {
    pub(crate) fn run(&self, connection: &Connection) -> Result<Answer, Failure> {
        match self {
            Self::TokenSign(command) => command.run(connection),
            Self::Approve { token, approver, by } => connection.as_user(|engine| {
                let tokens = engine.call(&QuorumList)?.tokens;
                let found = tokens.into_iter().find(|found| found.id == *token);
                let found =
                    found.ok_or_else(|| Failure::Usage(format!("no token {token} waits for approval")))?;
                // On standard error, before anything is signed: what is agreed to.
                eprint!("{}", found.text);
                let approver = approver.clone().unwrap_or_else(|| engine.user.clone());
                let signature = by.sign(&found.text)?;
                let token =
                    engine.call(&QuorumApprove { token: *token, approver: approver.clone(), signature })?;
                Ok(Answer::new(
                    format!("{approver} approved: {} of {} approvals", token.approvers.len(), token.needed),
                    view(&token),
                ))
            }),
        }
    }
}

impl TokenSignCommand {
    fn run(&self, connection: &Connection) -> Result<Answer, Failure> {
        match self {
            Self::Generate { out, command } => {
                let cli =
                    Cli::try_parse_from(core::iter::once("hsm").chain(command.iter().map(String::as_str)))
                        .map_err(|error| Failure::Usage(error.to_string()))?;
                connection.propose_only();
                match crate::run(connection, cli.output, cli.command) {
                    Err(Failure::Proposed(token)) => {
                        if let Some(out) = out {
                            file::write(out, token.text.as_bytes(), 0o644, true)?;
                        }
                        Ok(Answer::new(
                            format!(
                                "{}\nproposed: {} approvals until {}; hsm quorum approve {} --key FILE",
                                token.text,
                                token.needed,
                                timestamp(token.expires_at),
                                token.id
                            ),
                            view(&token),
                        ))
                    }
                    Err(failure) => Err(failure),
                    Ok(_) => Err(Failure::Usage("this command changes nothing: just run it".to_owned())),
                }
            }
            Self::Delete { token } => connection.as_user(|engine| {
                engine.call(&QuorumDelete { token: *token })?;
                Ok(Answer::new(format!("deleted token {token}"), json!({ "token": token.to_string() })))
            }),
            Self::List => {
                let tokens = connection.as_user_if_any(&QuorumList)?.tokens;
                let rows: Vec<_> = tokens.iter().map(row).collect();
                let views: Vec<_> = tokens.iter().map(view).collect();
                let head = ["TOKEN", "PROPOSER", "OPERATION", "APPROVALS", "EXPIRES"];
                Ok(Answer::new(table(head, &rows), json!({ "tokens": views })))
            }
            Self::ListQuorumValues | Self::ListTimeouts => {
                Ok(answer(&connection.connect()?.call(&QuorumPolicy)?))
            }
            Self::SetQuorumValue { service, value } => connection.as_user(|engine| {
                Ok(answer(&engine.call(&QuorumSetValue { service: *service, value: *value })?))
            }),
            Self::SetTimeout { time } => connection.as_user(|engine| {
                Ok(answer(&engine.call(&QuorumSetPolicy { timeout_secs: Some(*time), self_approval: None })?))
            }),
            Self::SetSelfApproval { allowed } => connection.as_user(|engine| {
                let self_approval = Some(*allowed == Switch::On);
                Ok(answer(&engine.call(&QuorumSetPolicy { timeout_secs: None, self_approval })?))
            }),
        }
    }
}

fn answer(rules: &QuorumRules) -> Answer {
    let text = fields(&[
        ("user", rules.user.to_string()),
        ("cluster", rules.cluster.to_string()),
        ("quorum", rules.quorum.to_string()),
        ("timeout", format!("{} s", rules.timeout_secs)),
        ("self-approval", if rules.self_approval { "on" } else { "off" }.to_owned()),
        ("approvers", rules.approvers.to_string()),
    ]);
    let data = json!({
        "values": { "user": rules.user, "cluster": rules.cluster, "quorum": rules.quorum },
        "timeout": rules.timeout_secs,
        "self_approval": rules.self_approval,
        "approvers": rules.approvers,
    });
    Answer::new(text, data)
}

fn operation(token: &QuorumToken) -> String {
    let said = token.text.split_once("\noperation: ").map_or("", |(_, said)| said);
    said.trim_end().replace('\n', ", ")
}

fn row(token: &QuorumToken) -> [String; 5] {
    [
        token.id.to_string(),
        token.proposer.to_string(),
        operation(token),
        format!("{} of {}", token.approvers.len(), token.needed),
        timestamp(token.expires_at),
    ]
}

fn view(token: &QuorumToken) -> Value {
    json!({
        "token": token.id.to_string(),
        "service": token.service.name(),
        "proposer": token.proposer,
        "operation": operation(token),
        "approval_data": token.text,
        "needed": token.needed,
        "approvers": token.approvers,
        "expires_at": timestamp(token.expires_at),
    })
}
