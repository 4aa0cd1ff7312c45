use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::{ProptestConfig, any, prop_assert, proptest};

use super::{Config, ConfigError, HostPattern, Limits, Timeouts};

fn error(text: &str) -> String {
    Config::parse(text).unwrap_err().to_string()
}

#[test]
fn an_empty_file_is_all_defaults() {
    let config = Config::parse("").unwrap();
    assert_eq!(config.timeouts, Timeouts::default());
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.hsm.user.as_str(), "web");
    assert!(config.sites.is_empty());
}

#[test]
fn a_site_is_three_lines() {
    let config = Config::parse(
        "[[site]]\nhost = \"WWW.example.org\"\ncert = \"/c.pem\"\nto = \"http://127.0.0.1:3000\"\n\
         [[site]]\nhost = [\"a.example\", \"*.b.example\"]\ncert = \"/d.pem\"\nto = \"http://b\"\n\
         [timeouts]\nsign = \"250ms\"\n[limits]\nheader-bytes = \"32KiB\"",
    )
    .unwrap();
    assert_eq!(config.sites[0].host[0].as_str(), "www.example.org");
    assert_eq!(config.sites[1].host[1].wildcard_suffix(), Some("b.example"));
    assert_eq!(config.timeouts.sign, Duration::from_millis(250));
    assert_eq!(config.limits.header_bytes, 32 * 1024);
}

#[test]
fn unknown_keys_are_refused_with_line_and_suggestion() {
    let text = error("[proxy]\nlisten = [\"127.0.0.1:1\"]\n[timeouts]\nhandshke = \"1s\"\n");
    assert!(text.starts_with("configuration:4:1: unknown field `handshke`"), "{text}");
    assert!(text.ends_with("did you mean `handshake`?"), "{text}");
    let text = error("[[sites]]\nhost = \"a.example\"");
    assert!(text.ends_with("did you mean `site`?"), "{text}");
    let text = error("[proxy]\nzzzzzzzzzzzzzz = 1");
    assert!(!text.contains("did you mean"), "{text}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let path = std::path::Path::new("/nonexistent/hsm-proxy.toml");
    let text = Config::load(path).unwrap_err().to_string();
    assert!(text.starts_with("/nonexistent/hsm-proxy.toml: can't be read: No such file"), "{text}");
}

#[test]
fn rules_between_keys_are_checked() {
    let upstream = |keys: &str| format!("\n[[upstream]]\nname = \"a\"\n{keys}\n");
    let site = |host: &str| format!("[[site]]\nhost = {host}\ncert = \"/c\"\nto = \"http://b\"\n");
    let route = |site: &str, path: &str, more: &str| {
        format!("[[route]]\nsite = \"{site}\"\npath = \"{path}\"\nto = \"http://b\"\n{more}\n")
    };
    let acme = |host: &str, keys: &str| {
        site(&format!("\"{host}\"")).replace("\"/c\"", "\"acme\"") + &format!("[acme]\n{keys}\n")
    };
    for (text, expected) in [
        (site("\"a.example\"") + &site("\"A.example\""), ":5:1: host a.example belongs to site 1 already"),
        (site("[\"a.example\", \"a.example\"]"), ":1:1: host a.example belongs to this site already"),
        (site("[]"), "at least one host name"),
        (site("\"127.0.0.1\""), "IP address"),
        (site("\"a b\""), "labels have letters"),
        (site("\"a.*.b\""), "first label"),
        (site("\"a.example:443\""), "no port"),
        (site("\"ä.example\""), "xn--"),
        (site("\"a.example\"") + "hsts = \"1y\"", "write it as"),
        (site("\"a.example\"") + "add-headers = [\"Connection: x\"]", "the proxy's own"),
        (
            site("\"b.example\"") + &route("a.example", "/x", ""),
            ":5:1: route /x of a.example: no [[site]] has this host",
        ),
        (site("\"a.example\"") + &route("a.example", "x", ""), "begins with a slash"),
        (
            site("\"a.example\"") + &route("a.example", "/x", "strip-prefix = true\nrewrite = \"/\""),
            "exclude each other",
        ),
        (
            site("[\"a.example\", \"b.example\"]")
                + &route("a.example", "/x", "")
                + &route("b.example", "/x", ""),
            ":10:1: route /x of b.example: this path of the site has a route already",
        ),
        (
            site("\"a.b\"") + "[[passthrough]]\nhost = \"a.b\"\nto = \"tcp://b:1\"",
            ":5:1: host a.b belongs to a [[site]] already",
        ),
        (
            "[[passthrough]]\nhost = [\"a.b\", \"a.b\"]\nto = \"tcp://b:1\"".to_owned(),
            "belongs to passthrough 1 already",
        ),
        ("[[passthrough]]\nhost = \"a.b\"\nto = \"tcp://b\"".to_owned(), "write it as tcp://10.0.0.5:443"),
        ("[[passthrough]]\nhost = \"a.b\"\nto = \"https://b\"".to_owned(), "write it as tcp://10.0.0.5:443"),
        ("[[passthrough]]\nhost = \"a.b\"\nto = \"unix:x\"".to_owned(), "write it as tcp://10.0.0.5:443"),
        ("[proxy]\nlisten = []".to_owned(), "proxy.listen is empty"),
        ("[proxy]\nlisten = [\"[::1]:1\", \"[::1]:1\"]".to_owned(), "listened on twice"),
        ("[proxy]\nlisten = [\"[::1]:1\"]\nadmin-listen = \"[::1]:1\"".to_owned(), "listened on twice"),
        ("[proxy]\nlisten = [\"[::1]:1\"]\nredirect-listen = [\"[::1]:1\"]".to_owned(), "listened on twice"),
        ("[proxy]\nredirect-port = 0".to_owned(), "proxy.redirect-port is 0"),
        (
            "[proxy]\nlisten = [\"localhost:443\"]".to_owned(),
            "invalid socket address syntax: write an IP address and",
        ),
        ("[[site]]\ncert = []".to_owned(), "at least one file"),
        ("[[site]]\ncert = [\"/c\", \"/c\"]".to_owned(), "/c is named twice"),
        ("[[site]]\ncert = [\"/c\", \"acme\"]".to_owned(), "\"acme\" stands alone"),
        (acme("a.example", ""), ":1:1: cert = \"acme\" needs `terms-agreed = true` in [acme]"),
        (
            acme("*.a.example", "terms-agreed = true"),
            ":1:1: cert = \"acme\" can't prove the wildcard *.a.example",
        ),
        (acme("a_b.example", "terms-agreed = true"), "letters, digits and hyphens only"),
        (acme("a.example", "terms-agreed = true\nchallenge = \"http-01\""), "needs proxy.redirect-listen"),
        (acme("a.example", "challenge = \"dns-01\""), "expected `http-01` or `tls-alpn-01`"),
        (acme("a.example", "directory = \"http://a\""), "is no https:// address"),
        (
            acme("a.example", &format!("directory = \"https://a/{}\"", "x".repeat(2048))),
            "is no https:// address of at most 2048 characters",
        ),
        (acme("a.example", "contact = [\"ops@a.example\"]"), "\"mailto:operator@example.org\""),
        (acme("a.example", "eab-kid = \"k\""), "acme.eab-kid needs acme.eab-key-file"),
        (acme("a.example", "retry = \"10ms\""), "acme.retry is less than a second"),
        (site("\"a.example\"") + "client-auth = \"require\"", ":1:1: client-auth needs client-ca"),
        (site("\"a.example\"") + "client-ca = \"/ca\"", "client-ca needs client-auth"),
        (site("\"a.example\"") + "client-crl = \"/crl\"", "client-crl needs client-auth"),
        ("[tls]\npreset = \"old\"".to_owned(), "expected `intermediate` or `modern`"),
        (site("\"a.example\"") + "min-tls = \"1.1\"", "expected `1.2` or `1.3`"),
        (
            "[tls]\ndefault-site = \"b.example\"\n".to_owned() + &site("\"a.example\""),
            "tls.default-site is b.example, which is no [[site]]'s host",
        ),
        ("site = 3".to_owned(), "headed [[site]]"),
        ("[hsm]\nuser = \"no spaces\"".to_owned(), "user name"),
        ("[timeouts]\nsign = \"0s\"".to_owned(), "timeouts.sign is zero"),
        ("[timeouts]\nsign = 5".to_owned(), "durations and sizes have a unit"),
        ("[timeouts]\nsign = \"5\"".to_owned(), "is not a duration"),
        ("[limits]\nheader-bytes = \"1B\"".to_owned(), "limits.header-bytes is 1"),
        ("[limits]\nhandshakes = 1000000".to_owned(), "at most 30000"),
        ("[limits]\nconnections = -1".to_owned(), "invalid value"),
        (site("\"a.b\"").replace("http://b", "shop"), ":1:1: there is no [[upstream]] named shop"),
        (site("\"a.b\"").replace("http://b", "b:3000"), "write it as http://127.0.0.1:3000 or unix:"),
        (upstream("servers = []"), ":2:1: upstream a has no servers"),
        (upstream("servers = [\"http://b\", \"http://b\"]"), "has http://b twice"),
        (upstream("servers = [\"http://b\"]\nweights = [1, 2]"), "1 servers and 2 weights"),
        (upstream("servers = [\"http://b\"]\nweights = [0]"), "from 1 to 1000"),
        (upstream("servers = [\"http://b\"]\nhash-by = \"cookie:c\""), "goes with balance = \"hash\" only"),
        (upstream("servers = [\"http://b\"]\nhash-by = \"path\""), "header:NAME"),
        (upstream("servers = [\"http://b\"]\nsticky-cookie = \"a b\""), "not a cookie's name"),
        (upstream("servers = [\"http://b\"]\nhealth-check = \"/x\""), "write \"tcp\" or \"http:/path\""),
        (upstream("servers = [\"http://b\"]\nhealth-status = 600"), "from 100 to 599"),
        (upstream("servers = [\"http://b\"]\nhealth-status = 200"), "goes with health-check"),
        (upstream("servers = [\"http://b\"]\nhealth-fall = 0"), "at least 1"),
        (upstream("servers = [\"http://b\"]\ntls-ca = \"/c\""), "https:// servers only"),
        (upstream("servers = [\"http://b\"]\nclient-cert = \"/c\""), "https:// servers only"),
        (upstream("servers = [\"http://b\"]\nblance = \"hash\""), "did you mean `balance`?"),
        (upstream("servers = [\"http://b\"]") + &upstream("servers = [\"http://c\"]"), "two upstreams a"),
    ] {
        let found = error(&text);
        assert!(found.contains(expected), "{text}\ngave: {found}\nnot: {expected}");
    }
}

#[test]
fn hosts_are_dns_names() {
    for good in
        ["localhost", "a.b", "*.example.org", "xn--bcher-kva.example", "_dmarc.example", "1.example", "3com"]
    {
        assert!(good.parse::<HostPattern>().is_ok(), "{good}");
    }
    let long = format!("{}.example", "a".repeat(64));
    for bad in
        ["", "*.", ".", "a..b", "a.", "-a.b", "a-.b", "*a.b", "**.b", "a/b", "10.0.0.1", "[::1]", &long]
    {
        assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
    }
}

/// The keys of the table that `[section]` (or the file itself) holds, as serde knows them.
fn keys_of(prefix: &str, section: &str) -> BTreeSet<String> {
    let error = Config::parse(&format!("{section}\nno-such-key-at-all = 1\n")).unwrap_err().to_string();
    let (_, known) = error.split_once("expected ").unwrap_or_else(|| panic!("{error}"));
    known.split('`').skip(1).step_by(2).map(|key| format!("{prefix}{key}")).collect()
}

#[test]
fn the_manual_lists_exactly_the_keys_that_exist() {
    let manual =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md")).unwrap();
    // Rows of its tables: | `key` | default | meaning |, under a heading that names the section.
    let (mut section, mut documented) = (String::new(), BTreeSet::new());
    for line in manual.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = heading.trim_matches(|c| "`[]".contains(c)).to_owned();
        } else if let Some(row) = line.strip_prefix("| `") {
            documented.insert(format!("{section}.{}", row.split('`').next().unwrap()));
        }
    }
    let mut existing = BTreeSet::new();
    for section in keys_of("", "") {
        let is_list = matches!(section.as_str(), "site" | "route" | "upstream" | "passthrough");
        let table = if is_list { format!("[[{section}]]") } else { format!("[{section}]") };
        existing.extend(keys_of(&format!("{section}."), &table));
    }
    assert!(existing.len() > 20, "{existing:?}");
    assert_eq!(documented, existing);
}

#[test]
fn the_defaults_in_the_manual_are_the_defaults() {
    let manual =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md")).unwrap();
    let (mut section, mut text) = (String::new(), String::new());
    for line in manual.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = heading.trim_matches(|c| "`[]".contains(c)).to_owned();
            if matches!(section.as_str(), "timeouts" | "limits") {
                text += &format!("[{section}]\n");
            }
        } else if let Some(row) = line.strip_prefix("| `")
            && matches!(section.as_str(), "timeouts" | "limits")
        {
            let cells: Vec<&str> = row.split('`').collect();
            // `none` stands there without quotes: the key has no default.
            if let [key, " | ", default, ..] = cells[..] {
                text += &format!("{key} = {default}\n");
            }
        }
    }
    let config = Config::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!((config.timeouts, config.limits), (Timeouts::default(), Limits::default()));
}

#[test]
fn the_schema_in_the_manual_is_that_of_the_types() {
    let committed =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/hsm-proxy.schema.json"))
            .unwrap();
    assert!(
        committed == Config::json_schema(),
        "write it anew: cargo run -p hsm-proxy -- schema > docs/hsm-proxy.schema.json"
    );
}

#[test]
fn every_sample_is_valid() {
    let samples = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/samples")).unwrap();
    let mut count = 0;
    for sample in samples {
        let path = sample.unwrap().path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("hsm-proxy")) {
            let config = Config::load(&path).unwrap_or_else(|error| panic!("{error}"));
            assert!(!config.sites.is_empty(), "{}", path.display());
            count += 1;
        }
    }
    assert!(count >= 2);
}

#[test]
fn all_names_need_a_directory_of_certificates() {
    let parse = |rest: &str| Config::parse(rest).map_err(|error| error.to_string());
    let site = |host: &str, cert: &str| {
        format!("[[site]]\nhost = \"{host}\"\ncert = {cert}\nto = \"http://127.0.0.1:1\"\n")
    };
    let config = parse(&site("*", "\"/certs/\"")).unwrap();
    assert!(config.sites[0].host[0].is_any());
    assert_eq!(config.sites[0].cert.directory(), Some(std::path::Path::new("/certs/")));
    let passthrough = "[[passthrough]]\nhost = \"*\"\nto = \"tcp://one:443\"\n";
    for (text, reason) in [
        (site("*", "\"/certs/a.pem\""), "needs a directory of certificates"),
        (site("*", "\"acme\""), "needs a directory of certificates"),
        (site("a.example", "[\"/certs/\", \"/a.pem\"]"), "stands alone"),
        (site("*", "\"/certs/\"") + "ocsp = \"/a.der\"\n", "have no stapled responses"),
        (format!("[tls]\ndefault-site = \"*\"\n{}", site("*", "\"/certs/\"")), "which one is meant?"),
        (passthrough.to_owned(), "for a [[site]] with a directory"),
        ("[proxy]\nadmin-hosts = [\"*\"]\n".to_owned(), "for a [[site]] with a directory"),
    ] {
        let error = parse(&text).unwrap_err();
        assert!(error.contains(reason), "{text}\n{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        let outcome: Result<Config, ConfigError> = Config::parse(&text);
        if let Err(error) = outcome {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn no_value_makes_the_parser_panic(key in "[a-z-]{1,20}", value in "[ -~]{0,40}") {
        for section in ["[proxy]", "[hsm]", "[timeouts]", "[limits]", "[[site]]", "[[upstream]]"] {
            let _ = Config::parse(&format!("{section}\n{key} = {value}"));
        }
    }
}
