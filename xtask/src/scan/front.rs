//! What is scanned: two engines, and for each target a proxy with one site, as docs/operations.md sets them up.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::ValueEnum;
use tempfile::TempDir;

use super::Target;
use crate::bench::free_address;
use crate::engine_directory::EngineDirectory;
use crate::error::Error;
use crate::process::{Server, find, run};

const STARTING: Duration = Duration::from_secs(60);

/// Nothing here is secret: the cluster lives in a temporary directory for as long as the scan.
const PASSWORD: &str = "the scan's password";

/// The name of every site.
const HOST: &str = "localhost";

/// What an operator adds for browsers, so that a scanner sees it arrive.
const HEADERS: &str = r#"hsts = "max-age=31536000; includeSubDomains"
add-headers = ["X-Content-Type-Options: nosniff", "X-Frame-Options: DENY", "Content-Security-Policy: default-src 'none'",
  "Referrer-Policy: no-referrer"]
"#;

/// Ended when dropped: proxies first.
pub(super) struct Front {
    proxies: Vec<(Target, SocketAddr, Server)>,
    _engines: Server,
    ca: PathBuf,
    // The last: what is in it has ended before.
    _directory: TempDir,
}

impl Front {
    pub(super) fn start(programs: &Path) -> Result<Self, Error> {
        let directory = tempfile::Builder::new().prefix("hsm-scan-").tempdir()?;
        let engine = EngineDirectory::at(directory.path());
        engine.prepare("")?;
        engine.write_secret("password", PASSWORD)?;
        let mut command = Command::new(programs.join("hsm-engine"));
        command.args(["run", "--config"]).arg(engine.configuration());
        let mut engines = Server::start(command, &engine.path("engine.log"))?;
        engine.await_ready(&mut engines, 2)?;

        let hsm = |arguments: &[&str]| {
            let mut command = Command::new(programs.join("hsm"));
            command.arg("--engine").arg(engine.socket(0)).args(arguments);
            // What it says when all is well is for people who keep the keys.
            let output = command.output()?;
            if output.status.success() {
                return Ok(());
            }
            eprint!("{}", String::from_utf8_lossy(&output.stderr));
            Err(Error::Failed { what: "hsm".to_owned(), status: output.status })
        };
        let password = engine.path("password").display().to_string();
        let by = |user: &'static str| ["--user", user, "--password-file", &password];
        hsm(&["cluster", "init"])?;
        hsm(&["cluster", "activate", "--admin", "admin", "--new-password-file", &password])?;
        let user = ["user", "create", "web", "--role", "crypto-user", "--new-password-file", &password];
        hsm(&[&by("admin")[..], &user].concat())?;

        let openssl = find("openssl").ok_or(Error::MissingTool("openssl"))?;
        let ca = Pair::authority(&openssl, directory.path())?;
        let origin = answer()?;
        let mut proxies = Vec::new();
        for target in Target::value_variants() {
            let pair = Pair::site(&openssl, directory.path(), *target, &ca)?;
            let key = pair.key.display().to_string();
            let import = ["key", "import", "--label", target.name(), "--usage", "tls-server", "--file", &key];
            hsm(&[&by("web")[..], &import].concat())?;
            let address = free_address()?;
            let config = engine.path(&format!("{}.toml", target.name()));
            let text = format!(
                "[proxy]\nlisten = [\"{address}\"]\n[tls]\npreset = \"{preset}\"\ndefault-site = \"{HOST}\"\n\
                 [hsm]\nuser = \"web\"\npassword-file = {password:?}\nengines = {sockets:?}\n\
                 [[site]]\nhost = \"{HOST}\"\ncert = {chain:?}\nto = \"http://{origin}\"\n{HEADERS}",
                preset = target.preset(),
                sockets = [engine.socket(0), engine.socket(1)],
                chain = pair.certificate,
            );
            std::fs::write(&config, text).map_err(Error::file(&config))?;
            let mut command = Command::new(programs.join("hsm-proxy"));
            command.args(["run", "--config"]).arg(&config);
            let log = engine.path(&format!("{}.log", target.name()));
            let mut proxy = Server::start(command, &log)?;
            let accepts = || TcpStream::connect(address).is_ok();
            proxy.await_ready("hsm-proxy", &address, STARTING, accepts)?;
            proxies.push((*target, address, proxy));
        }
        Ok(Self { proxies, _engines: engines, ca: ca.certificate, _directory: directory })
    }

    /// Where a scanner connects to.
    pub(super) fn server(&self, target: Target) -> String {
        let found = self.proxies.iter().find(|(of, ..)| *of == target);
        found.map_or_else(String::new, |(_, address, _)| format!("{HOST}:{}", address.port()))
    }

    pub(super) fn ca(&self) -> &Path {
        &self.ca
    }
}

/// A certificate and its key, in files.
struct Pair {
    certificate: PathBuf,
    key: PathBuf,
}

impl Pair {
    fn authority(openssl: &Path, directory: &Path) -> Result<Self, Error> {
        let extensions = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign"];
        Self::make(openssl, directory, "ca", "/CN=CA of a scan", &P256, &extensions, None)
    }

    /// As public authorities make them: for ninety days, with the address of a list of revocations.
    fn site(openssl: &Path, directory: &Path, target: Target, ca: &Self) -> Result<Self, Error> {
        let name = format!("subjectAltName=DNS:{HOST}");
        let extensions = [
            "basicConstraints=critical,CA:FALSE",
            "keyUsage=critical,digitalSignature",
            "extendedKeyUsage=serverAuth",
            "crlDistributionPoints=URI:http://localhost/ca.crl",
            &name,
        ];
        let algorithm = if target == Target::Rsa { &RSA_2048 } else { &P256 };
        let subject = format!("/CN={HOST}");
        Self::make(openssl, directory, target.name(), &subject, algorithm, &extensions, Some(ca))
    }

    fn make(
        openssl: &Path,
        directory: &Path,
        name: &str,
        subject: &str,
        algorithm: &[&str],
        extensions: &[&str],
        issuer: Option<&Self>,
    ) -> Result<Self, Error> {
        let file = |suffix: &str| directory.join(format!("{name}.{suffix}"));
        let (made, config) = (Self { certificate: file("pem"), key: file("key") }, file("cnf"));
        // Without the system's configuration, which would add extensions of its own.
        std::fs::write(&config, "[req]\ndistinguished_name = dn\n[dn]\n").map_err(Error::file(&config))?;
        let mut command = Command::new(openssl);
        command.args(["req", "-x509", "-nodes", "-days", "90", "-subj", subject]).args(algorithm);
        command.arg("-config").arg(config).arg("-keyout").arg(&made.key).arg("-out").arg(&made.certificate);
        for extension in extensions {
            command.args(["-addext", extension]);
        }
        if let Some(issuer) = issuer {
            command.arg("-CA").arg(&issuer.certificate).arg("-CAkey").arg(&issuer.key);
        }
        command.stdout(Stdio::null()).stderr(Stdio::null());
        run(command, "openssl req")?;
        Ok(made)
    }
}

const P256: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
const RSA_2048: [&str; 4] = ["-newkey", "rsa", "-pkeyopt", "rsa_keygen_bits:2048"];

/// A web server behind, which says the same to everybody. Its thread ends with the process.
fn answer() -> Result<SocketAddr, Error> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // One at a time: whoever breaks off is no concern here.
            let _ = say_hello(stream);
        }
    });
    Ok(address)
}

fn say_hello(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut head = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while head.read_line(&mut line)? > 2 {
        line.clear();
    }
    stream.write_all(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello",
    )
}
