//! `hsm-proxy run` gets another certificate and another configuration while it serves.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use hsm_e2e::front::{configuration, replace};
use hsm_e2e::{Front, Stack, Upstream, tool, wait};
use rustix::process::Signal;

#[test]
fn a_change_is_served_by_signal_and_by_itself_and_a_mistake_changes_nothing() {
    let Some(curl) = tool::find("curl") else { return };
    let (stack, directory) = (Stack::start(), tempfile::tempdir().unwrap());
    let (one, other) = (Upstream::start(), Upstream::start());
    let mut proxy = Front::start(&stack, directory.path(), &one.url());
    assert!(!proxy.get(&stack, &curl).is_empty());
    let seen = one.requests();

    // By SIGHUP: another upstream.
    replace(&proxy.file, configuration(&stack, &proxy.certificate, proxy.address, &other.url()));
    proxy.program().signal(Signal::HUP);
    assert_eq!(proxy.reloaded(), "READY=1\nSTATUS=reloaded");
    proxy.get(&stack, &curl);
    assert_eq!((one.requests(), other.requests()), (seen, 1));

    // By itself: the certificate is renewed. A restart would lose tickets; the proxy is the same process.
    let intermediate = std::fs::read_to_string(&proxy.certificate).unwrap();
    replace(&proxy.certificate, format!("{intermediate}\n"));
    assert_eq!(proxy.reloaded(), "READY=1\nSTATUS=reloaded");

    // A mistake in the file, and in the certificate of a site that is new.
    replace(&proxy.file, "[proxy]\nlisten = 5\n");
    let said = proxy.reloaded();
    assert!(said.contains("the last reload failed") && said.contains("proxy.toml:2:"), "{said}");
    let missing = directory.path().join("missing.pem");
    replace(&proxy.file, configuration(&stack, &missing, proxy.address, &one.url()));
    let said = proxy.reloaded();
    assert!(said.contains("the last reload failed") && said.contains("missing.pem"), "{said}");
    proxy.get(&stack, &curl);
    assert_eq!(other.requests(), 2);

    // The certificate comes: that is enough.
    replace(&missing, intermediate);
    assert_eq!(proxy.reloaded(), "READY=1\nSTATUS=reloaded");
    wait::until("the first upstream is asked again", Duration::from_secs(10), || {
        proxy.get(&stack, &curl);
        (one.requests() > seen).then_some(())
    });
}
