//! The configuration file: TOML, kebab-case, unknown keys refused.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use keycore_wire::ZoneName;
use serde::Deserialize;

use crate::sandbox::Sandbox;

mod audit_retention;
mod backup;
mod error;
mod value;

pub use audit_retention::AuditRetention;
pub use backup::BackupConfig;
pub use error::ConfigError;

/// What the file says, complete with defaults. Each value is within its bounds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Holds `store.db` and `audit/`; made with mode 0700 if it is absent.
    #[serde(deserialize_with = "value::path")]
    pub state_dir: PathBuf,
    /// Holds `engine-<n>.sock`, `engine-<n>.pid` and `supervisor.pid`; made if it is absent.
    #[serde(deserialize_with = "value::path")]
    pub socket_dir: PathBuf,
    /// Who may open the socket directory and its sockets, before the peer's uid is looked at.
    pub socket_access: SocketAccess,
    /// Processes that serve, each with a socket of its own; 1 to 64.
    #[serde(deserialize_with = "value::between::<1, 64, _, _>")]
    pub replicas: u16,
    /// Where this machine stands, for `hsm cluster info`: a rack, a room, a zone of a provider.
    pub zone: Option<ZoneName>,
    /// Where what unseals the cluster comes from.
    pub unseal: Unseal,
    /// The unseal secret: at least 16 bytes, readable by the owner only. Without it `$CREDENTIALS_DIRECTORY/unseal`.
    #[serde(deserialize_with = "value::some_path")]
    pub unseal_file: Option<PathBuf>,
    /// Users whose processes may connect, besides root and the engine's own user.
    pub allow_uids: Vec<u32>,
    /// Addresses for clients on other machines, over TLS: replica n listens at the n-th. None, or as many as replicas.
    pub listen_tcp: Vec<SocketAddr>,
    /// Threads for slow operations in each replica; 1 to 256. By default one for each core, but two at least: a
    /// password that is hashed must not hold up an RSA signature.
    #[serde(deserialize_with = "value::between::<1, 256, _, _>")]
    pub worker_threads: NonZeroUsize,
    /// Slow operations that may wait for a thread before more are refused as `Overloaded`; 1 to 65,536. One
    /// user may have as many waiting as there is room left, so half of them at most.
    #[serde(deserialize_with = "value::between::<1, 65_536, _, _>")]
    pub max_queue: NonZeroUsize,
    /// Connections that one replica keeps; 1 to 65,536. An eighth, eight at most, is for root and the engine's own user.
    #[serde(deserialize_with = "value::between::<1, 65_536, _, _>")]
    pub max_connections: NonZeroUsize,
    /// Requests without an answer that one connection may have; 1 to 4,096.
    #[serde(deserialize_with = "value::between::<1, 4_096, _, _>")]
    pub max_in_flight: u16,
    /// Unsealed keys that one replica keeps in memory; 1 to 16,777,216.
    #[serde(deserialize_with = "value::between::<1, 16_777_216, _, _>")]
    pub key_cache: NonZeroUsize,
    /// How long a login lasts, from one minute to 30 days: `"90s"`, `"15m"`, `"12h"`, `"7d"`.
    #[serde(deserialize_with = "value::duration_between::<60, 2_592_000, _>")]
    pub session_lifetime: Duration,
    /// How long a login lasts that is not used, from one minute to 30 days; without effect from `session_lifetime` on.
    #[serde(deserialize_with = "value::duration_between::<60, 2_592_000, _>")]
    pub session_idle: Duration,
    /// Users in the cluster; 2 to 65,536. This and the next three are the cluster's: the same on every machine.
    #[serde(deserialize_with = "value::between::<2, 65_536, _, _>")]
    pub max_users: u64,
    /// Keys in the cluster; 1 to 16,777,216.
    #[serde(deserialize_with = "value::between::<1, 16_777_216, _, _>")]
    pub max_keys: u64,
    /// Keys of one user, session keys not counted; 1 to 16,777,216.
    #[serde(deserialize_with = "value::between::<1, 16_777_216, _, _>")]
    pub max_user_keys: u64,
    /// Users that a key is shared with; 1 to 64.
    #[serde(deserialize_with = "value::between::<1, 64, _, _>")]
    pub max_key_shares: NonZeroUsize,
    /// Sessions of one user that have connections to one replica; 1 to 65,536. A login that would be one more is refused.
    #[serde(deserialize_with = "value::between::<1, 65_536, _, _>")]
    pub max_user_sessions: NonZeroUsize,
    /// How a replica confines itself: `"best-effort"`, `"required"` or `"off"`.
    pub sandbox: Sandbox,
    /// Audit logs that end before their anchor in the store and are to go on: `["REPLICA@RECORD"]`, as the engine that refuses
    /// to start names it. Of no effect once the log has gone on.
    pub accept_audit_loss: Vec<AuditLoss>,
    /// What is logged: `"error"`, `"warn"`, `"info"`, `"debug"`, or a filter such as `"info,hsm_engine=debug"`.
    #[serde(deserialize_with = "value::log_filter")]
    pub log: String,
    /// How it is logged.
    pub log_format: LogFormat,
    /// How much of the audit log is kept.
    pub audit_retention: AuditRetention,
    /// Where backups go, for whom, how often.
    pub backup: BackupConfig,
}

/// Where what unseals the cluster comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unseal {
    /// From a file, or from the service manager's credentials.
    Secret,
    /// From people: replicas start sealed.
    Custodians,
}

/// Who may open the sockets, by file permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SocketAccess {
    /// Directory 0700, sockets 0600.
    Owner,
    /// Directory 0750, sockets 0660: for a proxy under another user that shares the group.
    Group,
}

impl SocketAccess {
    /// Mode of the directory.
    pub(crate) fn directory_mode(self) -> u32 {
        match self {
            Self::Owner => 0o700,
            Self::Group => 0o750,
        }
    }

    /// Mode of a socket.
    pub(crate) fn socket_mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Group => 0o660,
        }
    }
}

/// A lost end of an audit log that the operator knows of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct AuditLoss {
    /// Whose log.
    pub(crate) replica: u16,
    /// Last record of its anchor.
    pub(crate) anchored: u64,
}

impl TryFrom<String> for AuditLoss {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.split_once('@')
            .and_then(|(replica, anchored)| {
                Some(Self { replica: replica.parse().ok()?, anchored: anchored.parse().ok()? })
            })
            .ok_or_else(|| format!("expected \"REPLICA@RECORD\" with two numbers, got {text:?}"))
    }
}

/// Form of the log on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// One line of text for each event.
    Text,
    /// One JSON object for each event.
    Json,
}

const TWO: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1);

impl Default for Config {
    /// Every default, and the only place where they are.
    ///
    /// What the engine's rules have a default for is asked of them.
    fn default() -> Self {
        let engine = keycore_engine::Options::new(0, 0);
        Self {
            state_dir: "/var/lib/hsm-engine".into(),
            socket_dir: "/run/hsm-engine".into(),
            socket_access: SocketAccess::Owner,
            replicas: 2,
            zone: None,
            unseal: Unseal::Secret,
            unseal_file: None,
            allow_uids: Vec::new(),
            listen_tcp: Vec::new(),
            worker_threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN).max(TWO),
            max_queue: NonZeroUsize::MIN.saturating_add(4_095),
            max_connections: NonZeroUsize::MIN.saturating_add(1_023),
            max_in_flight: engine.max_in_flight,
            key_cache: engine.key_cache,
            session_lifetime: engine.session_lifetime,
            session_idle: engine.session_idle,
            max_users: engine.max_users,
            max_keys: engine.max_keys,
            max_user_keys: engine.max_user_keys,
            max_key_shares: NonZeroUsize::new(engine.max_key_shares).unwrap_or(NonZeroUsize::MIN),
            max_user_sessions: NonZeroUsize::new(engine.max_user_sessions).unwrap_or(NonZeroUsize::MIN),
            sandbox: Sandbox::BestEffort,
            accept_audit_loss: Vec::new(),
            log: "info".into(),
            log_format: LogFormat::Text,
            audit_retention: AuditRetention::default(),
            backup: BackupConfig::default(),
        }
    }
}

impl Config {
    /// Longest path of a Unix socket on Linux, in bytes (`sun_path` less its final zero).
    const MAX_SOCKET_PATH: usize = 107;

    /// Reads the text of a configuration file. Opens nothing.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with the line of what is wrong; an unknown key comes with the nearest valid one.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| ConfigError::new(text, &error))?;
        let longest = config.socket_path(config.replicas - 1).as_os_str().len();
        if longest > Self::MAX_SOCKET_PATH {
            return Err(ConfigError::SocketPathTooLong { length: longest, limit: Self::MAX_SOCKET_PATH });
        }
        let addresses = config.listen_tcp.len();
        if addresses != 0 && addresses != usize::from(config.replicas) {
            return Err(ConfigError::ListenTcpCount { addresses, replicas: config.replicas });
        }
        for (at, address) in config.listen_tcp.iter().enumerate() {
            if address.port() == 0 || config.listen_tcp[..at].contains(address) {
                return Err(ConfigError::ListenTcpAddress { address: *address });
            }
        }
        if config.unseal == Unseal::Custodians && config.unseal_file.is_some() {
            return Err(ConfigError::UnsealTwice);
        }
        if config.backup.directory.is_some() == config.backup.recipients.is_empty() {
            return Err(ConfigError::BackupIncomplete);
        }
        Ok(config)
    }

    /// Where replica `index` listens.
    pub(crate) fn socket_path(&self, index: u16) -> PathBuf {
        self.socket_dir.join(format!("engine-{index}.sock"))
    }

    /// Where replica `index` listens for clients on other machines.
    pub(crate) fn tcp_address(&self, index: u16) -> Option<SocketAddr> {
        self.listen_tcp.get(usize::from(index)).copied()
    }

    /// Where replica `index` says which process it is.
    pub(crate) fn pid_path(&self, index: u16) -> PathBuf {
        self.socket_dir.join(format!("engine-{index}.pid"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_defaults() {
        assert_eq!(Config::parse("").unwrap(), Config::default());
    }

    #[test]
    fn the_sample_shows_every_key_with_its_default() {
        let sample = include_str!("../engine.sample.toml");
        let every_key: String = sample
            .lines()
            .map(|line| line.strip_prefix("#= ").unwrap_or(line))
            .flat_map(|line| [line, "\n"])
            .collect();
        let mut config = Config::parse(&every_key).unwrap();
        // Those without a fixed default.
        assert_eq!(config.audit_retention.age.take(), Some(Duration::from_hours(24 * 400)));
        assert_eq!(config.audit_retention.mib.take().map(NonZeroUsize::get), Some(10_240));
        assert_eq!(config.backup.directory.take(), Some("/var/backups/hsm-engine".into()));
        assert_eq!(config.backup.recipients.drain(..).len(), 1);
        assert_eq!(config.unseal_file.take(), Some("/etc/hsm-engine/unseal".into()));
        assert_eq!(config.zone.take().unwrap().as_str(), "rack-1");
        config.worker_threads = Config::default().worker_threads;
        assert_eq!(config, Config::default());
        assert_eq!(Config::parse(sample).unwrap(), Config::default());
        let keys = every_key.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')).count();
        assert_eq!(keys, 31, "a key of the configuration is missing in the sample");
    }

    #[test]
    fn the_containers_configuration_is_valid() {
        Config::parse(include_str!("../../../docker/engine.toml")).unwrap();
    }

    #[test]
    fn every_key_is_read() {
        let config = Config::parse(
            r#"
            state-dir = "state"
            socket-dir = "run"
            socket-access = "group"
            replicas = 3
            zone = "room-2.rack-7"
            unseal-file = "unseal"
            allow-uids = [33, 1000]
            worker-threads = 4
            max-queue = 10
            max-connections = 20
            max-in-flight = 30
            key-cache = 40
            session-lifetime = "90m"
            session-idle = "15m"
            max-users = 50
            max-keys = 60
            max-user-keys = 70
            max-key-shares = 8
            max-user-sessions = 9
            log = "debug"
            log-format = "json"

            [backup]
            directory = "backups"
            recipients = ["age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"]
            every = "never"
            keep = 7
            "#,
        )
        .unwrap();
        assert_eq!(config.socket_path(2), PathBuf::from("run/engine-2.sock"));
        assert_eq!((config.replicas, config.max_in_flight), (3, 30));
        assert_eq!(config.zone.unwrap().as_str(), "room-2.rack-7");
        assert_eq!(config.session_lifetime, Duration::from_secs(5400));
        assert_eq!(config.session_idle, Duration::from_secs(900));
        assert_eq!((config.max_users, config.max_keys, config.max_user_keys), (50, 60, 70));
        assert_eq!((config.max_key_shares.get(), config.max_user_sessions.get()), (8, 9));
        assert_eq!(config.allow_uids, [33, 1000]);
        assert_eq!((config.backup.every, config.backup.keep.get()), (None, 7));
        assert_eq!((config.socket_access, config.log_format), (SocketAccess::Group, LogFormat::Json));
    }

    #[test]
    fn an_unknown_key_comes_with_the_nearest_one_and_its_line() {
        let error = Config::parse("replicas = 2\nworker_threads = 3\n").unwrap_err();
        assert_eq!(error.to_string(), "line 2: unknown key `worker_threads`; did you mean `worker-threads`?");
        let error = Config::parse("favourite-colour = 'blue'").unwrap_err().to_string();
        assert!(
            error.starts_with("line 1: unknown key `favourite-colour`; the keys are `state-dir`, "),
            "{error}"
        );
    }

    #[test]
    fn values_out_of_bounds_are_refused_with_their_line() {
        for (text, expected) in [
            ("\nreplicas = 0", "line 2: expected a whole number from 1 to 64, got 0 (key `replicas`)"),
            ("replicas = 65", "line 1: expected a whole number from 1 to 64, got 65 (key `replicas`)"),
            (
                "max-in-flight = -1",
                "line 1: expected a whole number from 1 to 4096, got -1 (key `max-in-flight`)",
            ),
            (
                "zone = 'Halle 3'",
                "line 1: a zone has 1 to 31 ASCII letters, digits, '-', '_' or '.' (key `zone`)",
            ),
            (
                "max-key-shares = 65",
                "line 1: expected a whole number from 1 to 64, got 65 (key `max-key-shares`)",
            ),
            (
                "session-lifetime = '5s'",
                "line 1: expected a duration from 60s to 2592000s (key `session-lifetime`)",
            ),
            (
                "session-lifetime = 'soon'",
                "line 1: expected a duration such as \"30s\", \"15m\", \"12h\" or \"7d\" (key `session-lifetime`)",
            ),
            ("state-dir = ''", "line 1: expected a path, got an empty text (key `state-dir`)"),
        ] {
            assert_eq!(Config::parse(text).unwrap_err().to_string(), expected, "{text}");
        }
        assert!(Config::parse("replicas = ").unwrap_err().to_string().starts_with("line 1: "));
        assert!(Config::parse("log = 'a=b=c'").is_err());
    }

    #[test]
    fn each_replica_has_a_port_of_its_own_or_none_has_one() {
        let parse = |addresses: &str| Config::parse(&format!("replicas = 2\nlisten-tcp = {addresses}"));
        let config = parse("['127.0.0.1:2223', '[::1]:2224']").unwrap();
        assert_eq!(config.tcp_address(1), Some("[::1]:2224".parse().unwrap()));
        assert_eq!(parse("[]").unwrap().tcp_address(0), None);
        for (addresses, expected) in [
            ("['127.0.0.1:2223']", "1 addresses for 2 replicas"),
            ("['127.0.0.1:2223', '127.0.0.1:2223']", "is there twice"),
            ("['127.0.0.1:2223', '127.0.0.1:0']", "127.0.0.1:0 has no port"),
            ("['localhost:2223', '127.0.0.1:2223']", "line 2: "),
        ] {
            let error = parse(addresses).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_socket_path_that_linux_would_cut_is_refused() {
        let error = Config::parse(&format!("socket-dir = '/{}'", "d".repeat(100))).unwrap_err();
        assert!(error.to_string().contains("107"), "{error}");
    }
}
