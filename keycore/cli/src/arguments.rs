use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::audit::AuditCommand;
use crate::backup::BackupCommand;
use crate::cert::CertCommand;
use crate::cluster::ClusterCommand;
use crate::connection::Connection;
use crate::crypto::CryptoCommand;
use crate::key::KeyCommand;
use crate::login::LogIn;
use crate::output::Format;
use crate::quorum::QuorumCommand;
use crate::sessions::SessionCommand;
use crate::user::UserCommand;

/// Manages an HSM cluster: users, keys, certificates and the audit log.
///
/// Passwords are asked for on the terminal, or read from a file or a file descriptor; never from the command line.
#[derive(Parser)]
#[command(name = "hsm", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) connection: Connection,

    /// table for people; json for programs: {"error_code":0,"data":…} on standard output, also for errors
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Format,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Set up the cluster, or see how its engines are
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Log in and keep the session for the next commands
    Login(LogIn),
    /// End the session that `hsm login` keeps
    Logout,
    /// See who is logged in, and end sessions
    #[command(subcommand)]
    Session(SessionCommand),
    /// Manage users
    #[command(subcommand)]
    User(UserCommand),
    /// Gather other admins' approvals, and set what needs them
    #[command(subcommand)]
    Quorum(QuorumCommand),
    /// Make, import, find and delete keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Use keys
    #[command(subcommand)]
    Crypto(CryptoCommand),
    /// Make certificates and requests for keys in the engine
    #[command(subcommand)]
    Cert(CertCommand),
    /// Save the cluster, and bring it back
    #[command(subcommand)]
    Backup(BackupCommand),
    /// Read and verify the audit log
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Print a completion script for a shell
    #[command(hide = true)]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages
    #[command(hide = true)]
    Man {
        /// Where to
        directory: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn accepts(line: &str) -> bool {
        Cli::try_parse_from(line.split(' ')).is_ok()
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn lines_of_the_manual_parse() {
        for line in [
            "hsm cluster init",
            "hsm cluster init --unseal passphrase",
            "hsm cluster init --custodians 2/3 --share-out /x",
            "hsm cluster unseal",
            "hsm --user alice cluster change-unseal --custodians 3/5",
            "hsm --user alice cluster change-unseal --custodians 3/5 --share-out /x",
            "hsm --user alice cluster change-unseal --confirm",
            "hsm --user alice cluster change-unseal --confirm --share-file /a --share-file /b",
            "hsm --user alice cluster change-unseal --unseal passphrase --new-secret-file /x",
            "hsm --user alice cluster rotate-key",
            "hsm --user alice quorum token-sign generate -- cluster rotate-key",
            "hsm --engine /a cluster unseal --share-file -",
            "hsm cluster activate --admin alice --new-password-file /x",
            "hsm --engine /a --engine /b cluster info --output json",
            "hsm cluster self-test --output json",
            "hsm login --user alice --password-fd 3",
            "hsm --user alice user create web --role crypto-user",
            "hsm user change-password web --new-password-fd 3",
            "hsm user change-password",
            "hsm --user alice user create web --role crypto-user --peer-uid 990",
            "hsm --user alice user set-peer-uid web --none",
            "hsm --user alice user logout web",
            "hsm session list",
            "hsm --user alice session list --all",
            "hsm --user alice session list --of web --output json",
            "hsm --user alice session end 00112233445566778899aabbccddeeff",
            "hsm --user web --peer key list",
            "hsm login --user alice --mfa-key /x",
            "hsm login --user alice --mfa-sign-with ./token",
            "hsm login --user alice --mfa-challenge-out challenge",
            "hsm login --user alice --mfa-challenge challenge --mfa-signature signature",
            "hsm --user alice user change-mfa register --key /x",
            "hsm --user alice user change-mfa remove bob",
            "hsm --user alice user change-quorum token-sign register --public-key p --signature s",
            "hsm --user alice user change-quorum token-sign remove bob",
            "hsm --user alice quorum token-sign generate -- user delete web",
            "hsm --user bob quorum approve 00112233445566778899aabbccddeeff --key /x",
            "hsm quorum token-sign list",
            "hsm quorum token-sign list-quorum-values",
            "hsm --user alice quorum token-sign set-quorum-value --service user --value 2",
            "hsm --user alice quorum token-sign set-timeout --time 900",
            "hsm --user alice quorum token-sign set-self-approval on",
            "hsm key generate-asymmetric-pair rsa --modulus-size-bits 3072 --label r",
            "hsm key generate-asymmetric-pair ec --curve p256 --label www --usage tls-server",
            "hsm key generate-asymmetric-pair ed25519 --label e",
            "hsm key generate-asymmetric-pair ed25519 --label e --share-with ann,ben --quorum-usage 2",
            "hsm key import --label l --file /x --usage tls-server",
            "hsm key generate-symmetric aes --key-length-bytes 16 --label a --usage encrypt --with extractable",
            "hsm key generate-symmetric generic-secret --key-length-bytes 20 --label g",
            "hsm key set-attribute www --off extractable",
            "hsm key set-attribute www --label old-www",
            "hsm key share www --with app",
            "hsm key unshare www --with app",
            "hsm key shares www",
            "hsm key rotate www --grace 12h",
            "hsm --user root key zeroize --owner web --yes",
            "hsm cluster zeroize --cluster 00112233445566778899aabbccddeeff",
            "hsm key delete www --yes",
            "hsm key public id:00112233445566778899aabbccddeeff --out /x",
            "hsm crypto sign --key www --scheme rsa_pss_rsae_sha256 --data-file -",
            "hsm crypto sign --key www --mechanism ecdsa-sha512-fixed --prehashed --data-file d --out s",
            "hsm crypto verify --key www --data-file d --signature-file s",
            "hsm crypto verify --public-key p.pem --mechanism rsa-pss-sha256 --data-file d --signature-file s",
            "hsm crypto mac --key m --mechanism hmac-sha512 --data-file -",
            "hsm crypto encrypt --key a --mechanism aes-cbc-pad --data-file d --out c",
            "hsm crypto decrypt --key a --aad-file h --data-file c --out d",
            "hsm crypto digest --hash sha384 --data-file d",
            "hsm crypto random --length 16",
            "hsm crypto derive --key e --mechanism ecdh-x963 --peer-key p.pem --label d --usage encrypt",
            "hsm crypto derive --key g --mechanism hkdf --salt-file s --key-type generic-secret --label h",
            "hsm key wrap s --wrapping-key w --mechanism aes-kwp --out x",
            "hsm key unwrap --wrapping-key w --mechanism rsa-aes-sha256 --form aes --label n --file x",
            "hsm cert csr --key www --dns www.example.org --ip ::1 --out x",
            "hsm cert self-signed --key www --dns localhost",
            "hsm cert ca-init --key root --cn Root --days 3650 --path-length 1",
            "hsm cert ca-init --key sub --cn Sub --issuer root.pem --issuer-key root",
            "hsm cert issue --csr w.csr --issuer sub.pem --issuer-key sub --out w.pem",
            "hsm cert issue --key www --dns a.org --dns b.org --issuer sub.pem --issuer-key sub",
            "hsm backup create",
            "hsm backup list --output json",
            "hsm backup verify /x --identity /y",
            "hsm backup restore /x --share /1 --share /2",
            "hsm backup restore /x --share /1 --share /2 --custodians 2/3 --share-out /s",
            "hsm backup keygen --out /x --shares 2/3",
            "hsm audit verify --dir /x",
            "hsm audit tail --count 5",
            "hsm audit tail -f -n 0 --refused --user web --output json",
            "hsm audit export --format cloudtrail --since 2026-11-01 --until 2026-11-25T10:00:00Z --replica 0",
            "hsm audit export --format syslog --hostname hsm1.example.org --since 12h --operation TlsSign",
            "hsm completions bash",
        ] {
            assert!(accepts(line), "{line}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "hsm login --password-file a --password-fd 3",
            "hsm --password secret login",
            "hsm user create web --role root",
            "hsm user create no!name --role admin",
            "hsm key generate-asymmetric-pair rsa --label r --modulus-size-bits 1024",
            "hsm key generate-asymmetric-pair ec --label r --curve p224",
            "hsm cert issue --issuer sub.pem --issuer-key sub",
            "hsm cert issue --csr a --key b --issuer sub.pem --issuer-key sub",
            "hsm cert ca-init --key sub --cn Sub --issuer root.pem",
            "hsm cert csr --key www",
            "hsm cert csr --key www --dns -bad-",
            "hsm cert self-signed --key www --dns a.org --days 0",
            "hsm session end www",
            "hsm session list --all --of web",
            "hsm backup restore /x",
            "hsm backup restore /x --identity /y --share /1",
            "hsm backup keygen --out /x --shares 4/3",
            "hsm backup keygen --out /x --shares 1/1",
            "hsm crypto sign --key www --scheme sha1 --data-file x",
            "hsm audit export",
            "hsm audit export --format xml",
            "hsm audit export --format syslog --hostname hsm\u{e4}",
            "hsm audit tail --since yesterday",
        ] {
            assert!(!accepts(line), "{line}");
        }
    }
}
