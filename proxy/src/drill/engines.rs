use std::path::Path;

use hsm_loadtest::Replica;
use keycore_client::EngineAddress;

use super::Error;
use crate::config::HsmSettings;
use crate::signer::engine_addresses;

/// The engine that suffers.
pub(super) struct ChosenEngine {
    /// Its place in the configuration.
    pub(super) number: u16,
    /// Its socket.
    pub(super) name: String,
    /// Of so many engines.
    pub(super) of: usize,
    pub(super) replica: Replica,
}

impl ChosenEngine {
    /// The engine at this place of the configuration; of the sockets in the default directory, if it names none.
    pub(super) fn find(number: u16, settings: &HsmSettings) -> Result<Self, Error> {
        let all = engine_addresses(settings);
        if all.is_empty() {
            return Err(Error::NoSockets(Path::new(crate::signer::DEFAULT_ENGINES).to_owned()));
        }
        let named = |(at, address): (usize, &EngineAddress)| format!("{at}: {address}");
        match all.get(usize::from(number)) {
            Some(EngineAddress::Unix(socket)) => Ok(Self {
                number,
                name: socket.display().to_string(),
                of: all.len(),
                replica: Replica::listening_at(socket, number),
            }),
            Some(elsewhere) => Err(Error::Elsewhere(number, elsewhere.to_string())),
            None => {
                Err(Error::NoEngine { wanted: number, known: all.iter().enumerate().map(named).collect() })
            }
        }
    }
}
