//! What a configuration relies on besides its sites: upstreams that answer, and files that only the right people touch.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::config::{Config, Destination, UpstreamPlace};

/// How long all upstreams together may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long one address of one may take.
const CONNECT: Duration = Duration::from_secs(2);

/// Servers that are tried; with more of them, the others are not.
const TRIED: usize = 128;

/// Servers of upstreams that can't be connected to. A connection is made and closed, and nothing is sent.
pub(super) fn unreachable_upstreams(config: &Config) -> Vec<String> {
    let named = config.upstreams.iter().flat_map(|upstream| &upstream.servers);
    let by_themselves = config.destinations().filter_map(|to| match to {
        Destination::Server(url) => Some(url),
        Destination::Upstream(_) => None,
    });
    // Each once, in an order that does not change.
    let mut servers: BTreeMap<String, &UpstreamPlace> =
        named.chain(by_themselves).map(|url| (url.to_string(), url.place())).collect();
    servers.extend(config.passthroughs.iter().map(|passed| (passed.to.to_string(), passed.to.place())));
    let (answers, results) = mpsc::channel();
    let mut waiting = BTreeMap::new();
    for (name, &place) in servers.iter().take(TRIED) {
        let (place, answers, sent) = (place.clone(), answers.clone(), name.clone());
        // It may hang in the look-up of a name, and is left behind then.
        let started = thread::Builder::new().name("reach".to_owned()).spawn(move || {
            let _nobody_waits = answers.send((sent, reach(&place)));
        });
        match started {
            Ok(_left) => drop(waiting.insert(name.clone(), "no answer within 5 s".to_owned())),
            Err(error) => drop(waiting.insert(name.clone(), error.to_string())),
        }
    }
    drop(answers);
    let deadline = Instant::now() + PATIENCE;
    while let Ok((name, result)) = results.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        match result {
            Ok(()) => drop(waiting.remove(&name)),
            Err(reason) => drop(waiting.insert(name, reason)),
        }
    }
    let mut warnings: Vec<_> = waiting
        .into_iter()
        .map(|(name, reason)| format!("upstream {name} can't be reached: {reason}"))
        .collect();
    if let Some(more) = servers.len().checked_sub(TRIED).filter(|&more| more > 0) {
        warnings.push(format!("{more} more servers of upstreams were not tried"));
    }
    warnings
}

/// Any of the addresses is enough.
fn reach(place: &UpstreamPlace) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    match place {
        UpstreamPlace::Unix(path) => UnixStream::connect(path).map(drop).map_err(failed),
        UpstreamPlace::Tcp { authority, port } => {
            let host = authority.host().trim_start_matches('[').trim_end_matches(']');
            let addresses: Vec<SocketAddr> = (host, *port).to_socket_addrs().map_err(failed)?.collect();
            let mut last = "the name has no address".to_owned();
            for address in addresses {
                match TcpStream::connect_timeout(&address, CONNECT) {
                    Ok(_) => return Ok(()),
                    Err(error) => last = format!("{address}: {error}"),
                }
            }
            Err(last)
        }
    }
}

/// Files that others than their owner's group may write, and logs that they may read. Secrets that others may read are refused
/// before.
pub(super) fn open_files(config: &Config, file: &Path) -> Vec<String> {
    let sites = config.sites.iter().flat_map(|site| {
        let named = site.client_ca.iter().chain(&site.client_crl).chain(&site.error_pages);
        let directory = site.cert.directory().map(Path::to_owned);
        config.certificate_files(site).into_iter().chain(directory).chain(named.cloned())
    });
    let hsm =
        [&config.hsm.tls_ca, &config.hsm.tls_certificate, &config.hsm.password_file, &config.hsm.tls_key];
    let upstreams = config.upstreams.iter().filter_map(|upstream| upstream.tls_ca.as_ref());
    let mut relied_on = vec![file.to_owned()];
    relied_on.extend(sites.chain(hsm.into_iter().flatten().chain(upstreams).cloned()));
    relied_on.sort_unstable();
    relied_on.dedup();
    // A file that isn't there is somebody else's finding.
    let mode = |path: &Path| path.metadata().ok().map(|metadata| metadata.mode() & 0o7777);
    let mut warnings = Vec::new();
    for path in relied_on {
        if let Some(mode) = mode(&path).filter(|mode| mode & 0o002 != 0) {
            warnings.push(format!(
                "{} can be changed by everybody (mode {mode:04o}): chmod o-w it",
                path.display()
            ));
        }
    }
    if let Some(log) = config.log.access.as_deref().filter(|path| *path != Path::new("stdout"))
        && let Some(mode) = mode(log).filter(|mode| mode & 0o004 != 0)
    {
        warnings.push(format!(
            "the access log {} can be read by everybody (mode {mode:04o}): it tells who asked for what; chmod o-r it",
            log.display()
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::net::TcpListener;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn upstreams_that_nobody_listens_for_are_named_once_with_the_reason() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("app.sock");
        let _unix = UnixListener::bind(&socket).unwrap();
        let listening = TcpListener::bind("127.0.0.1:0").unwrap();
        let good = listening.local_addr().unwrap();
        let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = format!(
            "[[upstream]]\nname = \"app\"\nservers = [\"http://{good}\", \"http://{dead}\", \"unix:{}\", \"unix:/nonexistent.sock\"]\n\
             [[site]]\nhost = \"a.example\"\ncert = \"a.pem\"\nto = \"http://{dead}\"\n\
             [[site]]\nhost = \"b.example\"\ncert = \"a.pem\"\nto = \"http://localhost:{}\"\n",
            socket.display(),
            good.port()
        );
        let warnings = unreachable_upstreams(&Config::parse(&config).unwrap());
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(
            warnings[0].starts_with(&format!("upstream http://{dead}")) && warnings[0].contains("refused"),
            "{warnings:?}"
        );
        assert!(warnings[1].starts_with("upstream unix:/nonexistent.sock"), "{warnings:?}");
    }

    #[test]
    fn files_that_others_may_change_and_logs_that_they_may_read_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let config = format!(
            "[log]\naccess = \"{}\"\n[[site]]\nhost = \"a.example\"\ncert = [\"{}\", \"{}\"]\nto = \"http://127.0.0.1:1\"\n",
            path("access.log").display(),
            path("a.pem").display(),
            path("b.pem").display(),
        );
        for (name, mode) in [("proxy.toml", 0o646), ("a.pem", 0o666), ("b.pem", 0o664), ("access.log", 0o644)]
        {
            fs::write(path(name), &config).unwrap();
            fs::set_permissions(path(name), Permissions::from_mode(mode)).unwrap();
        }
        let parsed = Config::parse(&config).unwrap();
        let warnings = open_files(&parsed, &path("proxy.toml"));
        let named = |name: &str| warnings.iter().filter(|warning| warning.contains(name)).count();
        assert_eq!(
            (warnings.len(), named("proxy.toml"), named("a.pem"), named("access.log")),
            (3, 1, 1, 1),
            "{warnings:?}"
        );
        for name in ["proxy.toml", "a.pem", "access.log"] {
            fs::set_permissions(path(name), Permissions::from_mode(0o640)).unwrap();
        }
        assert_eq!(open_files(&parsed, &path("proxy.toml")), Vec::<String>::new());
    }
}
