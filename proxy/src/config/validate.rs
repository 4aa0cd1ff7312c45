//! What no single key can know: values out of bounds, and rules between keys.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Spanned;

use super::{Config, HostPattern};

/// What is wrong, and with which site (by position) if with one.
type Fault = (Option<usize>, String);

pub(super) fn validate(config: &Config) -> Result<(), Fault> {
    listeners(config)?;
    bounds(config)?;
    hosts(config)?;
    directories(config)?;
    default_site(config)?;
    client_certificates(config)
}

fn client_certificates(config: &Config) -> Result<(), Fault> {
    for (at, site) in config.sites.iter().enumerate() {
        let reason = match (site.client_auth, &site.client_ca) {
            (Some(_), None) => "client-auth needs client-ca: which authorities' certificates are accepted?",
            (None, Some(_)) => "client-ca needs client-auth: \"require\" or \"request\"",
            (None, None) if !site.client_crl.is_empty() => "client-crl needs client-auth and client-ca",
            _ => continue,
        };
        return Err((Some(at), reason.to_owned()));
    }
    Ok(())
}

fn listeners(config: &Config) -> Result<(), Fault> {
    let proxy = &config.proxy;
    if proxy.listen.is_empty() {
        return Err((None, "proxy.listen is empty: name at least one address, like \"[::]:443\"".to_owned()));
    }
    let all = proxy.listen.iter().chain(&proxy.redirect_listen).chain(&proxy.admin_listen);
    for (at, address) in all.clone().enumerate() {
        if address.port() != 0 && all.clone().take(at).any(|other| other == address) {
            return Err((None, format!("{address} is listened on twice")));
        }
    }
    if let Some(wildcard) = proxy.admin_hosts.iter().find(|host| host.wildcard_suffix().is_some()) {
        let reason = format!("proxy.admin-hosts has {}: write each name out", wildcard.as_str());
        return Err((None, reason));
    }
    if proxy.redirect_port == 0 {
        return Err((
            None,
            "proxy.redirect-port is 0: it is the port of HTTPS, as clients see it".to_owned(),
        ));
    }
    let networks = proxy.accept_proxy_protocol_from.len();
    if networks > 1_000 {
        return Err((
            None,
            format!("proxy.accept-proxy-protocol-from has {networks} networks, at most 1000"),
        ));
    }
    if proxy.workers > 1024 {
        return Err((None, "proxy.workers is more than 1024; 0 means one for each core".to_owned()));
    }
    Ok(())
}

fn bounds(config: &Config) -> Result<(), Fault> {
    let timeouts = &config.timeouts;
    for (key, value) in [
        ("handshake", timeouts.handshake),
        ("sign", timeouts.sign),
        ("header", timeouts.header),
        ("idle", timeouts.idle),
        ("stall", timeouts.stall),
        ("upstream-connect", timeouts.upstream_connect),
        ("upstream-response", timeouts.upstream_response),
    ] {
        if value < Duration::from_millis(1) {
            return Err((None, format!("timeouts.{key} is zero: nothing could ever succeed")));
        }
    }
    let limits = &config.limits;
    for (key, value, least) in [
        ("connections", limits.connections, 1),
        ("handshakes", limits.handshakes, 1),
        ("signatures", limits.signatures, 1),
        ("signatures-per-site", limits.signatures_per_site, 1),
        // hyper's least buffer.
        ("header-bytes", limits.header_bytes, 8 * 1024),
        ("headers", limits.headers, 10),
        ("http2-streams", limits.http2_streams as usize, 1),
        ("http2-resets", limits.http2_resets as usize, 1),
        ("upstream-connections", limits.upstream_connections, 1),
    ] {
        if value < least {
            return Err((None, format!("limits.{key} is {value}, it must be at least {least}")));
        }
    }
    for (key, value, most) in [
        // Each suspended handshake has a stack, which is two mappings of the 65,530 that Linux allows by default.
        ("handshakes", limits.handshakes, 30_000),
        ("signatures", limits.signatures, 30_000),
        ("signatures-per-site", limits.signatures_per_site, 30_000),
        ("signature-queue", limits.signature_queue, 1_000_000),
        ("exempt", limits.exempt.len(), 1_000),
        ("connections", limits.connections, 10_000_000),
        ("header-bytes", limits.header_bytes, 1024 * 1024),
        ("headers", limits.headers, 10_000),
        ("http2-streams", limits.http2_streams as usize, 100_000),
        ("http2-resets", limits.http2_resets as usize, 1_000_000),
        ("upstream-connections", limits.upstream_connections, 10_000_000),
    ] {
        if value > most {
            return Err((None, format!("limits.{key} is {value}, it must be at most {most}")));
        }
    }
    Ok(())
}

fn hosts(config: &Config) -> Result<(), Fault> {
    let mut taken = HashMap::new();
    for (at, site) in config.sites.iter().enumerate() {
        for host in &site.host {
            if let Some(before) = taken.insert(host, at) {
                let of = if before == at { "this site".to_owned() } else { format!("site {}", before + 1) };
                return Err((Some(at), format!("host {host} belongs to {of} already")));
            }
        }
    }
    Ok(())
}

fn directories(config: &Config) -> Result<(), Fault> {
    for (at, site) in config.sites.iter().enumerate() {
        let any = site.host.iter().any(HostPattern::is_any);
        let reason = match site.cert.directory() {
            None if any => {
                "host \"*\" needs a directory of certificates, as in cert = \"/etc/hsm-proxy/certs/\": one certificate is not \
                 good for all names"
            }
            Some(_) if !site.ocsp.is_empty() => {
                "ocsp is for certificates that are named: those of a directory have no stapled responses"
            }
            _ => continue,
        };
        return Err((Some(at), reason.to_owned()));
    }
    let of_passthroughs = config.passthroughs.iter().flat_map(|passthrough| &passthrough.host);
    if of_passthroughs.chain(&config.proxy.admin_hosts).any(HostPattern::is_any) {
        return Err((None, "host \"*\" is for a [[site]] with a directory of certificates only".to_owned()));
    }
    Ok(())
}

fn default_site(config: &Config) -> Result<(), Fault> {
    let Some(name) = &config.tls.default_site else { return Ok(()) };
    let site = config.sites.iter().find(|site| site.host.contains(name));
    if site.is_some_and(|site| site.cert.directory().is_some()) {
        return Err((
            None,
            format!("tls.default-site is {name}, whose certificates are in a directory: which one is meant?"),
        ));
    }
    if site.is_some() {
        return Ok(());
    }
    Err((
        None,
        format!(
            "tls.default-site is {name}, which is no [[site]]'s host: name one of its hosts as it stands there"
        ),
    ))
}

/// Where the site at this position is in the text.
pub(super) fn site_span(text: &str, site: usize) -> Option<Range<usize>> {
    #[derive(Deserialize)]
    struct Sites {
        site: Vec<Spanned<IgnoredAny>>,
    }

    let sites: Sites = toml::from_str(text).ok()?;
    sites.site.get(site).map(Spanned::span)
}
