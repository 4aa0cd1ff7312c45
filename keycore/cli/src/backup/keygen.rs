use std::path::PathBuf;

use clap::Args;
use keycore_backup::{CustodianShare, Identity};
use serde_json::json;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::file;
use crate::output::Answer;
use crate::split::Split;

/// Makes an identity.
#[derive(Args)]
pub(crate) struct Keygen {
    /// File to write the identity to; with --shares the beginning of the shares' names: FILE-1.share, FILE-2.share…
    #[arg(long, value_name = "FILE")]
    out: PathBuf,

    /// Split it among N custodians, any M of whom open backups together; the identity itself is not written
    #[arg(long, value_name = "M/N")]
    shares: Option<Split>,
}

impl Keygen {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let identity = Identity::generate().map_err(|_| Failure::NoRandom)?;
        let recipient = identity.recipient().map_err(|_| Failure::NoRandom)?;
        let secrets: Vec<(PathBuf, Zeroizing<String>)> = match self.shares {
            None => vec![(self.out.clone(), identity.to_text())],
            Some(Split { threshold, count }) => {
                let texts =
                    CustodianShare::split(&identity, threshold, count).map_err(|_| Failure::NoRandom)?;
                let names = (1..).map(|number| {
                    let mut name = self.out.clone().into_os_string();
                    name.push(format!("-{number}.share"));
                    PathBuf::from(name)
                });
                names.zip(texts).collect()
            }
        };
        // Before any is written, so that a set is whole or not there.
        for (path, _) in &secrets {
            if path.symlink_metadata().is_ok() {
                return Err(Failure::KeyExists { path: path.clone() });
            }
        }
        for (path, text) in &secrets {
            let line = Zeroizing::new([text.as_str(), "\n"].concat());
            file::write(path, line.as_bytes(), 0o600, false).map_err(Failure::never_replaced)?;
        }
        let files: Vec<_> = secrets.iter().map(|(path, _)| path.display().to_string()).collect();
        let what = match self.shares {
            None => "the identity".to_owned(),
            Some(Split { threshold, .. }) => format!("shares, {threshold} of which open backups,"),
        };
        let text = format!(
            "wrote {what} to {}\nFor [backup] in the engine's configuration: recipients = [\"{recipient}\"]\n\
             Keep it away from the engine and its backups: without it no backup opens, with it every one does.",
            files.join(", ")
        );
        let data = json!({
            "recipient": recipient.to_string(),
            "fingerprint": recipient.fingerprint().to_string(),
            "files": files,
        });
        Ok(Answer::new(text, data))
    }
}
