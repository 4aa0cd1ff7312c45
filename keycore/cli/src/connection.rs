//! The way to the engines: which, and as whom.

use std::cell::{Cell, RefCell};
use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use keycore_client::blocking::Client;
use keycore_client::{AddressError, Endpoint, EngineAddress, Error, Identity, TlsFiles};
use keycore_wire::{
    FindKey, ListKeys, Logout, Operation, QuorumList, QuorumPropose, RefusalCode, Secret, SessionToken,
    UserList, UserName, encode_request,
};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::password;
use crate::session::{Session, Sessions};

/// Where engines listen unless told otherwise.
const SOCKET_DIRECTORY: &str = "/run/hsm-engine";

/// Options of every command: which engines, and as whom.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// Socket of an engine, or tcp://HOST:PORT; may be given several times, the first one that answers is used [default:
    /// those in $HSM_ENGINES, separated by colons (by commas if one is tcp://), or /run/hsm-engine/*.sock]
    #[arg(long = "engine", global = true, value_name = "SOCKET")]
    engines: Vec<EngineAddress>,

    /// Trust anchor of the cluster, in PEM: for engines at tcp:// [default: $HSM_TLS_CA]
    #[arg(long, global = true, value_name = "FILE")]
    tls_ca: Option<PathBuf>,

    /// Certificate to show to engines at tcp://, in PEM [default: $HSM_TLS_CERTIFICATE]
    #[arg(long, global = true, value_name = "FILE")]
    tls_certificate: Option<PathBuf>,

    /// Its private key, in PEM, readable by its owner only [default: $HSM_TLS_KEY]
    #[arg(long, global = true, value_name = "FILE")]
    tls_key: Option<PathBuf>,

    /// Who to log in as [default: whoever `hsm login` logged in]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) user: Option<UserName>,

    /// File with the password, readable by its owner only
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "password_fd")]
    password_file: Option<PathBuf>,

    /// Open file descriptor to read the password from
    #[arg(long, global = true, value_name = "N")]
    password_fd: Option<u32>,

    /// Log in without a password, by the uid of this process
    #[arg(long, global = true, conflicts_with_all = ["password_file", "password_fd"])]
    peer: bool,

    /// Whether what the command would change is proposed instead.
    #[arg(skip)]
    proposes: Cell<bool>,

    /// Longest wait for an answer
    #[arg(long, global = true, value_name = "SECONDS", default_value = "30",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

/// A logged-in connection.
pub(crate) struct LoggedIn {
    /// In a cell because rcgen signs through shared references.
    pub(crate) client: RefCell<Client>,
    /// Who.
    pub(crate) user: UserName,
    /// What logs in at other engines, too: the same session.
    pub(crate) identity: Arc<Identity>,
    /// What the login took, if it was not a kept session.
    password: Option<Secret>,
    /// Whether the session is this command's alone.
    ends: bool,
    /// Whether what would change something is proposed instead.
    pub(crate) proposes: bool,
}

impl LoggedIn {
    /// Asks the engine.
    ///
    /// In `hsm quorum token-sign generate` what would change something is proposed: then [`Failure::Proposed`] has the token.
    pub(crate) fn call<T: Operation>(&self, operation: &T) -> Result<T::Reply, Failure> {
        const READS: [u8; 4] = [UserList::OPCODE, QuorumList::OPCODE, FindKey::OPCODE, ListKeys::OPCODE];
        if self.proposes && !READS.contains(&T::OPCODE) {
            let mut body = Zeroizing::new(Vec::with_capacity(4096));
            encode_request(operation, &mut body).map_err(|error| Failure::Usage(error.to_string()))?;
            let token = self.client.borrow_mut().call(&QuorumPropose { operation: Secret::from(body) })?;
            return Err(Failure::Proposed(Box::new(token)));
        }
        Ok(self.client.borrow_mut().call(operation)?)
    }

    /// The user's password, asked for now if the login did not take it.
    pub(crate) fn password(&self) -> Result<Secret, Failure> {
        match &self.password {
            Some(password) => Ok(password.duplicate()),
            None => ask_password(&self.user),
        }
    }
}

impl Connection {
    /// The engines, in the order in which they are tried; never none.
    pub(crate) fn endpoints(&self) -> Result<Vec<Endpoint>, Failure> {
        let listed = std::env::var_os("HSM_ENGINES").unwrap_or_default();
        let addresses: Vec<EngineAddress> = if !self.engines.is_empty() {
            self.engines.clone()
        } else if !listed.is_empty() {
            listed_engines(&listed)?
        } else {
            sockets_in(Path::new(SOCKET_DIRECTORY))?.into_iter().map(EngineAddress::Unix).collect()
        };
        let file = |given: &Option<PathBuf>, variable| {
            given
                .clone()
                .or_else(|| std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from))
        };
        let files = TlsFiles {
            ca: file(&self.tls_ca, "HSM_TLS_CA"),
            certificate: file(&self.tls_certificate, "HSM_TLS_CERTIFICATE"),
            key: file(&self.tls_key, "HSM_TLS_KEY"),
        };
        Ok(files.endpoints(addresses)?)
    }

    /// Longest wait for an answer.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }

    /// Connects to the first engine that answers, without a login.
    pub(crate) fn connect(&self) -> Result<Client, Failure> {
        Ok(Client::connect(&self.endpoints()?, self.timeout())?)
    }

    /// Runs a command as the user that the options, the session of `hsm login` or the terminal tell. A session that
    /// was made for this command alone is ended behind it.
    pub(crate) fn as_user<T>(&self, run: impl FnOnce(&LoggedIn) -> Result<T, Failure>) -> Result<T, Failure> {
        let mut client = self.connect()?;
        let password = if self.peer { None } else { self.given_password()? };
        let session = if password.is_none() && !self.peer { self.session(&client)? } else { None };
        let (user, identity, password) = match &session {
            Some(Session { user, token, .. }) => {
                let token = SessionToken(token.0.duplicate());
                (user.clone(), Identity::with_token(token), None)
            }
            None if self.peer => {
                let user = self.require_user()?;
                (user.clone(), Identity::of_this_process(user), None)
            }
            None => {
                let user = self.require_user()?;
                let password = match password {
                    Some(password) => password,
                    None => ask_password(&user)?,
                };
                (user.clone(), Identity::with_password(user, password.duplicate()), Some(password))
            }
        };
        if session.is_none() && self.proposes.get() {
            return Err(Failure::NotLoggedIn {
                what: "a proposal ends with its session, and this command's own would end at once".to_owned(),
                advice: "log in first, and give no password here: hsm login --user NAME".to_owned(),
            });
        }
        if let Err(error) = client.login(&identity) {
            // A session that the engines ended is of no more use: the next command asks for the password.
            if let (Some(session), Error::Login(refusal)) = (&session, &error)
                && refusal.code == RefusalCode::SessionEnded
            {
                // If it was only not used for too long, a copy of it may live on, and after this nobody here could end that.
                let _ = client.call(&Logout);
                session.forget_if_kept()?;
            }
            return Err(error.into());
        }
        if let Some(session) = &session
            && let Some(renewed) = identity.token()
        {
            // The session is good without it, only not for as long.
            if let Err(failure) = session.renew(&renewed) {
                let what = "the session ends as if it was not used now";
                let _ = writeln!(io::stderr(), "hsm: warning: {failure}; {what}");
            }
        }
        let ends = session.is_none();
        let logged_in = LoggedIn {
            client: RefCell::new(client),
            user,
            identity,
            password,
            ends,
            proposes: self.proposes.get(),
        };
        let outcome = run(&logged_in);
        let lost = outcome.as_ref().is_err_and(Failure::is_lost_connection);
        if logged_in.ends && !lost {
            // The session ends by itself as well; the command's own outcome counts.
            let _ = logged_in.call(&Logout);
        }
        outcome
    }

    /// Asks as whoever is logged in or named, or else as nobody.
    pub(crate) fn as_user_if_any<T: Operation>(&self, operation: &T) -> Result<T::Reply, Failure> {
        let mut client = self.connect()?;
        let is_somebody = self.peer || self.user.is_some() || self.session(&client)?.is_some();
        if is_somebody {
            drop(client);
            self.as_user(|engine| engine.call(operation))
        } else {
            Ok(client.call(operation)?)
        }
    }

    /// From now on the command's change is proposed, not made.
    pub(crate) fn propose_only(&self) {
        self.proposes.set(true);
    }

    /// Whether the uid of this process is what logs in.
    pub(crate) fn by_peer(&self) -> bool {
        self.peer
    }

    /// The password of `--user` from wherever it is to come, the terminal last.
    pub(crate) fn password(&self, user: &UserName) -> Result<Secret, Failure> {
        match self.given_password()? {
            Some(password) => Ok(password),
            None => ask_password(user),
        }
    }

    /// The session that `hsm login` kept for this cluster.
    pub(crate) fn session(&self, client: &Client) -> Result<Option<Session>, Failure> {
        match (Sessions::of_this_user(), client.hello().cluster) {
            (Some(sessions), Some(cluster)) => sessions.find(cluster, self.user.as_ref()),
            _ => Ok(None),
        }
    }

    /// Who, if there is no session to tell.
    pub(crate) fn require_user(&self) -> Result<UserName, Failure> {
        self.user.clone().ok_or_else(|| Failure::NotLoggedIn {
            what: "nobody is logged in".to_owned(),
            advice: "say who with --user NAME, or log in first: hsm login --user NAME".to_owned(),
        })
    }

    fn given_password(&self) -> Result<Option<Secret>, Failure> {
        match password::given(self.password_file.as_deref(), self.password_fd)? {
            Some(password) => Ok(Some(password)),
            None => password::credential(),
        }
    }
}

fn ask_password(user: &UserName) -> Result<Secret, Failure> {
    password::ask(&format!("Password of {user}: "))
}

/// The engines that $HSM_ENGINES lists. A port is behind a colon, so that colons separate paths only.
fn listed_engines(listed: &OsStr) -> Result<Vec<EngineAddress>, Failure> {
    match listed.to_str().filter(|text| text.contains("tcp://")) {
        Some(text) => text
            .split(',')
            .filter(|address| !address.is_empty())
            .map(|address| {
                address
                    .parse()
                    .map_err(|error: AddressError| Failure::Usage(format!("$HSM_ENGINES: {error}")))
            })
            .collect(),
        None => Ok(std::env::split_paths(listed)
            .filter(|path| !path.as_os_str().is_empty())
            .map(EngineAddress::Unix)
            .collect()),
    }
}

/// The engines' sockets in a directory, by name; never none.
fn sockets_in(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let none = |source| Failure::NoSocket { directory: directory.to_owned(), source };
    let entries = std::fs::read_dir(directory).map_err(|error| none(Some(error)))?;
    let mut sockets: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sock"))
        .collect();
    sockets.sort_unstable();
    if sockets.is_empty() { Err(none(None)) } else { Ok(sockets) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_found_by_their_names() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["engine-1.sock", "engine-0.sock", "engine-0.pid"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        let names: Vec<_> = sockets_in(directory.path())
            .unwrap()
            .into_iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["engine-0.sock", "engine-1.sock"]);
    }

    #[test]
    fn listed_engines_are_separated_by_colons_or_where_ports_are_by_commas() {
        let shown = |text: &str| {
            let listed = listed_engines(OsStr::new(text)).unwrap();
            listed.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown("/a.sock:/b.sock:"), "/a.sock /b.sock");
        assert_eq!(shown("tcp://a:2223,tcp://b:2224,/c.sock"), "tcp://a:2223 tcp://b:2224 /c.sock");
        let failure = listed_engines(OsStr::new("tcp://a:2223:tcp://b:2223")).unwrap_err();
        assert_eq!(failure.exit_code(), Failure::USAGE);
    }

    #[test]
    fn no_socket_is_a_failure_that_says_where_one_was_looked_for() {
        let directory = tempfile::tempdir().unwrap();
        for looked_in in [directory.path().to_owned(), directory.path().join("none")] {
            let failure = sockets_in(&looked_in).unwrap_err();
            assert_eq!(failure.exit_code(), Failure::NO_ENGINE);
            assert!(failure.to_string().contains(&looked_in.display().to_string()), "{failure}");
        }
    }
}
