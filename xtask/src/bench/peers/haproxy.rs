//! HAProxy, with its keys in files.

use std::path::Path;
use std::process::Command;

use super::{Kind, Peer, Program, Setting, free_address, home, write};
use crate::bench::cores::version_of;
use crate::error::Error;

pub(super) fn start(program: &Path, setting: &Setting<'_>) -> Result<Peer, Error> {
    let home = home(setting, "haproxy")?;
    let (address, config) = (free_address()?, home.join("haproxy.cfg"));
    let text = format!(
        "global\n  nbthread 1\n  maxconn 4096\n  log stdout format raw local0 info\n  ssl-default-bind-curves X25519:P-256\n\
         ssl-default-bind-ciphers ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256\n\
         ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256\n\
         defaults\n  mode http\n  log global\n  option httplog\n  option dontlognull\n  option forwardfor\n  http-reuse always\n\
         timeout client 10s\n  timeout server 10s\n  timeout connect 10s\n\
         frontend tls\n  bind {address} ssl crt {p256} crt {rsa} alpn h2,http/1.1 ssl-min-ver TLSv1.2\n  default_backend origin\n\
         backend origin\n  server origin {origin}\n",
        p256 = setting.certificates.p256.both.display(),
        rsa = setting.certificates.rsa2048.both.display(),
        origin = setting.origin.address(),
    );
    write(&config, &text)?;
    let mut command = Command::new(program);
    command.arg("-db").arg("-f").arg(&config);
    let version = version_of(program, "-v");
    let haproxy = Program::start("haproxy", command, setting, &home.join("log"))?;
    let ca = setting.certificates.ca.clone();
    Peer { kind: Kind::Haproxy, version, programs: vec![haproxy], address, ca }.ready()
}
