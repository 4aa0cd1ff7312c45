//! nginx: with its keys in files, and with one in SoftHSM by OpenSSL's PKCS#11 engine.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Kind, Peer, Program, Setting, free_address, home, write};
use crate::bench::cores::version_of;
use crate::bench::scenario::Site;
use crate::error::Error;
use crate::process::{find, output_of};

/// Where the private keys are.
pub(super) enum Keys {
    Files,
    /// The P-256 key is in a token; the paths are those of the configurations that lead to it.
    Softhsm {
        softhsm: PathBuf,
        openssl: PathBuf,
    },
}

/// The places where Debian and others have what OpenSSL and its engine need.
const ENGINES: [&str; 3] =
    ["/usr/lib/x86_64-linux-gnu/engines-3", "/usr/lib/aarch64-linux-gnu/engines-3", "/usr/lib64/engines-3"];
const MODULES: [&str; 3] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
];

/// Not secret: the token lives as long as the benchmark.
const PIN: &str = "1234";

pub(super) fn start(program: &Path, setting: &Setting<'_>, keys: &Keys) -> Result<Peer, Error> {
    let (kind, name) = match keys {
        Keys::Files => (Kind::Nginx, "nginx"),
        Keys::Softhsm { .. } => (Kind::Softhsm, "nginx-softhsm"),
    };
    let (address, home) = (free_address()?, home(setting, name)?);
    let config = home.join("nginx.conf");
    // Workers of a root's nginx would be nobody's, who can't read the scratch directory.
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let environment = match keys {
        Keys::Files => "",
        Keys::Softhsm { .. } => "env OPENSSL_CONF; env SOFTHSM2_CONF;",
    };
    let (connections, keepalive) =
        if setting.patient { (19_000, "keepalive_timeout 1h;") } else { (4096, "") };
    let mut text = format!(
        "daemon off; worker_processes 1; {user} {environment} pid nginx.pid; error_log stderr error;\n\
         events {{ worker_connections {connections}; }}\n\
         http {{\n  access_log access.log combined; {keepalive}\n\
         client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;\n\
         uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
         keepalive_requests 1000000000;\n\
         upstream origin {{ server {origin}; keepalive 512; keepalive_requests 1000000000; }}\n",
        origin = setting.origin.address(),
    );
    for site in keys.sites() {
        let certificate = setting.certificates.of(*site);
        text.push_str(&format!(
            "server {{\n  listen {address} ssl http2;\n  server_name {host};\n\
             ssl_certificate {chain};\n  ssl_certificate_key {key};\n\
             ssl_protocols TLSv1.2 TLSv1.3;\n  ssl_ecdh_curve X25519:prime256v1;\n\
             ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256;\n\
             ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;\n\
             ssl_conf_command NumTickets 1;\n\
             location / {{\n    proxy_pass http://origin;\n    proxy_http_version 1.1;\n    proxy_set_header Connection \"\";\n\
             proxy_set_header Host $host;\n    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
             proxy_max_temp_file_size 0;\n  }}\n}}\n",
            host = site.host(),
            chain = certificate.chain.display(),
            key = keys.key(&certificate.key),
        ));
    }
    text.push_str("}\n");
    write(&config, &text)?;
    let mut command = Command::new(program);
    command.arg("-p").arg(&home).arg("-c").arg(&config).args(["-e", "stderr"]);
    if let Keys::Softhsm { softhsm, openssl } = keys {
        command.env("SOFTHSM2_CONF", softhsm).env("OPENSSL_CONF", openssl);
    }
    let version = version_of(program, "-v");
    let nginx = Program::start("nginx", command, setting, &home.join("log"))?;
    let ca = setting.certificates.ca.clone();
    Peer { kind, version, programs: vec![nginx], address, ca }.ready()
}

impl Keys {
    /// A token with the P-256 key, if everything for it is installed.
    pub(super) fn softhsm(setting: &Setting<'_>) -> Result<Option<Self>, Error> {
        let first = |places: &[&str], file: &str| {
            places.iter().map(|place| Path::new(place).join(file)).find(|path| path.exists())
        };
        let module = MODULES.iter().map(PathBuf::from).find(|path| path.exists());
        let engine = first(&ENGINES, "pkcs11.so").or_else(|| first(&ENGINES, "libpkcs11.so"));
        let (Some(util), Some(module), Some(engine)) = (find("softhsm2-util"), module, engine) else {
            return Ok(None);
        };
        let home = home(setting, "softhsm")?;
        let (softhsm, openssl, tokens) =
            (home.join("softhsm2.conf"), home.join("openssl.cnf"), home.join("tokens"));
        std::fs::create_dir(&tokens).map_err(Error::file(&tokens))?;
        write(&softhsm, &format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display()))?;
        write(
            &openssl,
            &format!(
                "openssl_conf = init\n[init]\nengines = engines\n[engines]\npkcs11 = pkcs11\n[pkcs11]\n\
                 engine_id = pkcs11\ndynamic_path = {}\nMODULE_PATH = {}\ninit = 1\n",
                engine.display(),
                module.display()
            ),
        )?;
        let util = |arguments: &[&str]| {
            let mut command = Command::new(&util);
            command.args(arguments).env("SOFTHSM2_CONF", &softhsm);
            output_of(command)
        };
        util(&["--init-token", "--free", "--label", "bench", "--so-pin", PIN, "--pin", PIN])?;
        let key = setting.certificates.p256.key.display().to_string();
        util(&["--import", &key, "--token", "bench", "--label", "tls", "--id", "01", "--pin", PIN])?;
        Ok(Some(Self::Softhsm { softhsm, openssl }))
    }

    fn sites(&self) -> &'static [Site] {
        match self {
            Self::Files => &Site::ALL,
            Self::Softhsm { .. } => &[Site::P256],
        }
    }

    fn key(&self, file: &Path) -> String {
        match self {
            Self::Files => file.display().to_string(),
            Self::Softhsm { .. } => {
                format!("\"engine:pkcs11:pkcs11:token=bench;object=tls;type=private?pin-value={PIN}\"")
            }
        }
    }
}
