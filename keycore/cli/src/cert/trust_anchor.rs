//! A trust anchor for who has no CA: its key is made in the engine and never leaves it.

use clap::{Args, ValueEnum};
use hsm_certs::{CaProfile, Days, SubjectText, root_ca};
use keycore_wire::{Attributes, GenerateKey, KeyAlgorithm, KeyLabel, KeySelector, KeyTemplate};

use super::{answer, load, valid_for};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::file::OutputFile;
use crate::key::idempotency_key;
use crate::key_argument::KeyArgument;
use crate::output::Answer;

#[derive(Args)]
pub(crate) struct TrustAnchor {
    /// Label of the CA's new key
    #[arg(long, default_value = "trust-anchor")]
    label: KeyLabel,
    /// Its curve
    #[arg(long, default_value = "p384", value_enum)]
    curve: AnchorCurve,
    /// The CA's name
    #[arg(long, value_name = "NAME")]
    cn: SubjectText,
    /// The organization that runs it
    #[arg(long, value_name = "NAME")]
    organization: Option<SubjectText>,
    /// How long it is valid
    #[arg(long, default_value = "3650")]
    days: Days,
    #[command(flatten)]
    out: OutputFile,
}

/// What engines take of a trust anchor's curves.
#[derive(Clone, Copy, ValueEnum)]
enum AnchorCurve {
    P256,
    P384,
}

impl TrustAnchor {
    /// Makes the key, then its certificate, which lets it issue to clients and servers and to no other CA.
    pub(super) fn run(&self, connection: &Connection) -> Result<Answer, Failure> {
        self.out.check()?;
        let algorithm = match self.curve {
            AnchorCurve::P256 => KeyAlgorithm::P256,
            AnchorCurve::P384 => KeyAlgorithm::P384,
        };
        let profile = CaProfile {
            organization: self.organization.clone(),
            path_length: Some(0),
            ..CaProfile::new(self.cn.clone(), valid_for(self.days))
        };
        connection.as_user(|engine| {
            let template = KeyTemplate::new(self.label.clone(), Attributes::SIGN);
            let made =
                engine.call(&GenerateKey { idempotency_key: idempotency_key()?, algorithm, template })?;
            let key = load(engine, &KeyArgument(KeySelector::Id(made.id)))?;
            answer(&self.out, &root_ca(&key, &profile)?)
        })
    }
}
