use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::{Path, PathBuf};

use rustix::time::{ClockId, clock_gettime};
use tokio::signal::unix::Signal;
use tokio::time::sleep;

use super::Reloader;
use super::files::Files;
use crate::config::Config;
use crate::notify::notify;

/// Reloads `config` when `hangup` (SIGHUP) comes, and when the file or one that it names has changed. Never ends.
///
/// Files are read on another thread: this one has signals to hear.
pub(crate) async fn follow(reloader: Reloader, config: PathBuf, mut hangup: Signal) -> Infallible {
    let first = reloader.first();
    let mut watched = Watched { named: named(&first), configuration: Files::new(vec![config.clone()]) };
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
        let (reloading, path) = (reloader.clone(), config.clone());
        let reload = move || {
            let status = reload(&reloading, &path, &mut watched, why);
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

struct Watched {
    configuration: Files,
    /// What it named when it was last good.
    named: Files,
}

impl Watched {
    fn look(&mut self) -> bool {
        // Both, so that both know what they saw.
        self.configuration.look() | self.named.look()
    }
}

/// What the service manager is told of the outcome. Nothing that is written meanwhile is missed: all files are looked at
/// before they are read.
fn reload(reloader: &Reloader, path: &Path, watched: &mut Watched, why: &str) -> String {
    watched.configuration.read_again();
    let outcome = match Config::load(path) {
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
    let paths: BTreeSet<&Path> = config.files().collect();
    Files::new(paths.into_iter().map(Path::to_owned).collect())
}

/// See `sd_notify(3)`: with the time, the service manager knows which of its requests this answers.
fn announce_reload() {
    let now = clock_gettime(ClockId::Monotonic);
    let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
    notify(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
}
