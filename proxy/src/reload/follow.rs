use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::{Path, PathBuf};

use rustix::time::{ClockId, clock_gettime};
use tokio::signal::unix::Signal;
use tokio::time::sleep;

use super::Reloader;
use super::files::Files;
use crate::config::Config;
use crate::http_policy::page_files;
use crate::notify::notify;

/// Reloads the configuration when `hangup` (SIGHUP) comes, and when its file or one that it names has changed. Never ends.
///
/// Files are read on another thread: this one has signals to hear.
pub(crate) async fn follow(reloader: Reloader, mut watched: Watched, mut hangup: Signal) -> Infallible {
    loop {
        let why = tokio::select! {
            Some(()) = hangup.recv() => "SIGHUP",
            () = sleep(watched.named.interval) => {
                let looked = tokio::task::spawn_blocking(move || (watched.look(), watched)).await;
                let Ok((changed, back)) = looked else { return std::future::pending().await };
                watched = back;
                if !changed {
                    continue;
                }
                "a file has changed"
            }
        };
        announce_reload();
        let reloading = reloader.clone();
        let reload = move || {
            let status = reload(&reloading, &mut watched, why);
            (status, watched)
        };
        let Ok((status, back)) = tokio::task::spawn_blocking(reload).await else {
            tracing::error!("a reload panicked, see above: there will be no further one");
            notify("READY=1\nSTATUS=can't reload any more");
            return std::future::pending().await;
        };
        watched = back;
        notify(&format!("READY=1\nSTATUS={}", status.replace('\n', " ")));
    }
}

/// A configuration file and what it names, in the state in which they were read.
pub(crate) struct Watched {
    path: PathBuf,
    configuration: Files,
    /// What it named when it was last good.
    named: Files,
}

impl Watched {
    /// To be called before the file is read: what is written from now on is noticed.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { configuration: Files::new(vec![path.clone()]), path, named: Files::new(Vec::new()) }
    }

    /// Looks at what `config` names as well. To be called before that is read.
    pub(crate) fn named_by(self, config: &Config) -> Self {
        Self { named: named(config), ..self }
    }

    fn look(&mut self) -> bool {
        // Both, so that both know what they saw.
        self.configuration.look() | self.named.look()
    }
}

/// What the service manager is told of the outcome. Nothing that is written meanwhile is missed: all files are looked at
/// before they are read.
fn reload(reloader: &Reloader, watched: &mut Watched, why: &str) -> String {
    watched.configuration.read_again();
    let outcome = match Config::load(&watched.path) {
        Ok(config) => {
            watched.named = named(&config);
            reloader.reload(&config).map_err(|error| error.to_string())
        }
        Err(error) => {
            watched.named.read_again();
            reloader.is_unusable();
            Err(error.to_string())
        }
    };
    match outcome {
        Ok(restart) if restart.is_empty() => {
            tracing::info!(why, "reloaded");
            "reloaded".to_owned()
        }
        Ok(restart) => {
            let keys = restart.join(", ");
            tracing::warn!(why, keys, "reloaded, but for these keys: their change takes a restart");
            format!("reloaded; the change of {keys} takes a restart")
        }
        Err(error) => {
            tracing::error!(why, %error, "not reloaded: the configuration from before is kept");
            format!("the last reload failed: {error}")
        }
    }
}

fn named(config: &Config) -> Files {
    // Often one file serves many sites.
    let pages: BTreeSet<&Path> = config.sites.iter().filter_map(|site| site.error_pages.as_deref()).collect();
    let pages = pages.into_iter().flat_map(page_files);
    let paths: BTreeSet<PathBuf> = config.files().chain(pages).collect();
    Files::new(paths.into_iter().collect())
}

/// See `sd_notify(3)`: with the time, the service manager knows which of its requests this answers.
fn announce_reload() {
    let now = clock_gettime(ClockId::Monotonic);
    let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
    notify(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_while_the_process_starts_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let [file, cert] = ["proxy.toml", "cert.pem"].map(|name| directory.path().join(name));
        let text = format!("[[site]]\nhost = \"a.example\"\ncert = {cert:?}\nto = \"http://b\"\n");
        for changed in [&file, &cert] {
            std::fs::write(&file, &text).unwrap();
            std::fs::write(&cert, "one").unwrap();
            let watched = Watched::new(file.clone());
            let config = Config::load(&file).unwrap();
            let mut watched = watched.named_by(&config);
            std::fs::write(changed, format!("{text}\n# another")).unwrap();
            assert!(watched.look() || watched.look(), "{}", changed.display());
        }
    }

    #[test]
    fn error_pages_that_come_change_or_go_are_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let pages = directory.path().join("pages");
        std::fs::create_dir(&pages).unwrap();
        std::fs::write(pages.join("502.html"), "one").unwrap();
        let site = "[[site]]\nhost = \"a.example\"\ncert = \"/c\"\nto = \"http://b\"\n";
        let config = Config::parse(&format!("{site}error-pages = {pages:?}")).unwrap();
        let changes = |change: &dyn Fn()| {
            let mut named = named(&config);
            change();
            named.look() || named.look()
        };
        assert!(!changes(&|| {}));
        assert!(changes(&|| std::fs::write(pages.join("502.html"), "another").unwrap()), "changed");
        assert!(changes(&|| std::fs::write(pages.join("503.html"), "new").unwrap()), "came");
        assert!(changes(&|| std::fs::remove_file(pages.join("503.html")).unwrap()), "went");
    }
}
