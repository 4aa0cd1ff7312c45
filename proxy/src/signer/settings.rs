//! From the configuration to the engines.

use std::path::{Path, PathBuf};
use std::time::Duration;

use keycore_client::{
    EngineAddress, EngineFailure, EngineState, EngineStatus, Identity, IdentityError, TlsError, TlsFiles,
};

use super::EngineKeys;
use super::engines::Place;
use crate::config::HsmSettings;
use crate::keys::SignerStatus;

/// Where engines are if the configuration does not say it.
pub(crate) const DEFAULT_ENGINES: &str = "/run/hsm-engine";

/// The proxy can't log in as the configuration says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The password can't be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Engines on other machines can't be spoken to; the keys are `tls-ca`, `tls-certificate` and `tls-key`.
    #[error("[hsm] tls-ca, tls-certificate, tls-key: {0}")]
    Tls(#[from] TlsError),
}

impl EngineKeys {
    /// The keys that `[hsm]` means; a signature may take `timeout`. Reads the password's file, connects to nothing yet.
    /// Without a password the engine is told by the kernel who logs in: the user's peer uid must be this process's.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] if the password, or a file that TLS needs, can't be read. Engines may come later.
    pub fn from_settings(settings: &HsmSettings, timeout: Duration) -> Result<Self, SettingsError> {
        let identity = match settings.password_file.clone().or_else(credential) {
            Some(file) => Identity::from_file(settings.user.clone(), &file)?,
            None => Identity::of_this_process(settings.user.clone()),
        };
        let place = if settings.engines.is_empty() {
            Place::In(DEFAULT_ENGINES.into())
        } else {
            let files = TlsFiles {
                ca: settings.tls_ca.clone(),
                certificate: settings.tls_certificate.clone(),
                key: settings.tls_key.clone(),
            };
            Place::Named(files.endpoints(settings.engines.clone())?)
        };
        Ok(Self::of(place, identity, timeout))
    }
}

/// Where the engines are that `[hsm]` means, as far as they are there now.
pub(crate) fn engine_addresses(settings: &HsmSettings) -> Vec<EngineAddress> {
    if !settings.engines.is_empty() {
        return settings.engines.clone();
    }
    sockets_in(Path::new(DEFAULT_ENGINES)).into_iter().map(EngineAddress::Unix).collect()
}

/// The engines' sockets in a directory, in order.
pub(super) fn sockets_in(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut sockets: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with("engine-") && name.ends_with(".sock"))
        })
        .collect();
    sockets.sort();
    sockets
}

fn credential() -> Option<PathBuf> {
    let path = Path::new(&std::env::var_os("CREDENTIALS_DIRECTORY")?).join("hsm-password");
    path.exists().then_some(path)
}

/// An engine's status in the words of the readiness page.
pub(super) fn signer_status(engine: EngineStatus) -> SignerStatus {
    let state = match engine.state {
        EngineState::Connected { .. } => "connected".to_owned(),
        EngineState::Suspect { .. } => "silent: it owes answers".to_owned(),
        EngineState::Connecting => "connecting".to_owned(),
        EngineState::Down { since } => {
            let reason = engine.last_error.unwrap_or_else(|| "no connection yet".to_owned());
            format!("down for {} s: {reason}", since.elapsed().as_secs())
        }
    };
    SignerStatus {
        name: engine.endpoint.to_string(),
        up: engine.state.is_usable(),
        state,
        answers: engine.counters.answers,
        losses: engine.counters.losses,
        silences: engine.counters.suspicions,
        timed_answers: engine.counters.timed_answers,
        answer_time: engine.counters.answer_time,
    }
}

/// The same for engines that are not there at all.
pub(super) fn missing_signer(missing: EngineFailure) -> SignerStatus {
    let (name, state) = (missing.endpoint.to_string(), missing.reason);
    SignerStatus { name, state, ..SignerStatus::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_found_in_order_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["engine-1.sock", "engine-0.sock", "engine-0.pid", "supervisor.pid"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        let names: Vec<_> = sockets_in(directory.path());
        assert_eq!(names, ["engine-0.sock", "engine-1.sock"].map(|name| directory.path().join(name)));
        assert!(sockets_in(Path::new("/nonexistent")).is_empty());
    }

    #[test]
    fn a_password_file_that_is_named_has_to_be_there() {
        let missing = Some("/nonexistent/password".into());
        let settings = HsmSettings { password_file: missing, ..HsmSettings::default() };
        let error = EngineKeys::from_settings(&settings, Duration::from_secs(1)).err().unwrap();
        assert!(error.to_string().contains("/nonexistent/password"), "{error}");
    }
}
