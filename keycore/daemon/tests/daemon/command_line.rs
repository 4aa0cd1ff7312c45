//! What happens before anything runs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use keycore_wire::InitializeCluster;

use crate::fixture::{Daemon, Site};

#[test]
fn check_accepts_a_good_configuration_and_opens_nothing() {
    let site = Site::new("replicas = 3");
    let (status, _) = site.run_to_end("check");
    assert_eq!(status.code(), Some(0));
    assert!(!site.path("state").exists() && !site.path("run").exists());
}

#[test]
fn an_unknown_key_ends_every_command_with_64_and_a_suggestion_before_anything_is_opened() {
    for command in ["check", "run"] {
        let site = Site::new("replica = 2");
        let (status, said) = site.run_to_end(command);
        assert_eq!(status.code(), Some(64), "{said}");
        let at =
            format!("{}: line 5: unknown key `replica`; did you mean `replicas`?", site.config().display());
        assert!(said.contains(&at), "{said}");
        assert!(!site.path("state").exists() && !site.path("run").exists());
    }
}

#[test]
fn a_configuration_that_is_not_there_ends_with_64() {
    let site = Site::new("");
    fs::remove_file(site.config()).unwrap();
    assert_eq!(site.run_to_end("check").0.code(), Some(64));
}

#[test]
fn a_missing_unseal_secret_ends_with_70_and_says_so() {
    let site = Site::new("");
    fs::remove_file(site.path("unseal")).unwrap();
    let (status, said) = site.run_to_end("run");
    assert_eq!(status.code(), Some(70), "{said}");
    assert!(said.contains("can't read the unseal secret"), "{said}");
    assert!(!site.path("run/supervisor.pid").exists());
}

#[test]
fn directories_that_others_may_enter_are_refused() {
    for name in ["state", "run"] {
        let site = Site::new("");
        fs::create_dir(site.path(name)).unwrap();
        fs::set_permissions(site.path(name), Permissions::from_mode(0o755)).unwrap();
        let (status, said) = site.run_to_end("run");
        assert_eq!(status.code(), Some(70), "{said}");
        assert!(said.contains("chmod 0700"), "{said}");
    }
}

#[test]
fn another_unseal_secret_than_the_clusters_ends_with_70() {
    let mut daemon = Daemon::start("replicas = 1");
    daemon.connect(0).greet().call(&InitializeCluster).unwrap();
    daemon.let_go();
    assert!(daemon.await_end().success());
    daemon.site().write_unseal("another unseal secret");
    let (status, said) = daemon.site().run_to_end("run");
    assert_eq!(status.code(), Some(70), "{said}");
    assert!(said.contains("unseal"), "{said}");
}
