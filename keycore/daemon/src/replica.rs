//! One replica: what it opens, in order, and how it ends.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use keycore_engine::{Engine, LifeEvent, Options};
use keycore_store::SqliteStore;
use mio::{Poll, Waker};
use rustix::process::{Resource, Rlimit, Signal};

mod chores;
mod unseal;

use chores::Chores;

use crate::backups;
use crate::clock::Clock;
use crate::config::Config;
use crate::directory::{self, Lock, PidFile};
use crate::event_loop::{self, EventLoop, Limits};
use crate::exit::StartError;
use crate::listener::{self, Listener, Listeners};
use crate::peer::PeerFilter;
use crate::priority;
use crate::sandbox;
use crate::shutdown::Shutdown;
use crate::timed_job::{TimedJob, TimedResult};
use crate::worker_pool::WorkerPool;

/// Of a busy processor the start of a replica gets a quarter at most if others serve: they, and a proxy beside them, have the load of the one
/// that is gone, too.
const NICE: i32 = 5;

/// Serves as replica `index` until a signal or the end of standard input. If it is to `give_way`, others go first while it opens
/// what it needs.
///
/// # Errors
///
/// If something that the configuration names can't be used, or the kernel's event queue fails.
pub(crate) fn run(config: &Config, index: u16, give_way: bool) -> Result<(), StartError> {
    if index >= config.replicas {
        return Err(StartError::NoSuchReplica { index, replicas: config.replicas });
    }
    lock_down(index, config.max_connections.get());
    directory::prepare(&config.state_dir, 0o700)?;
    directory::prepare(&config.socket_dir, config.socket_access.directory_mode())?;
    if let Some(directory) = &config.backup.directory {
        directory::prepare(directory, 0o700)?;
    }
    sandbox::confine_files(config, index)?;
    let clock = Clock::start();
    let shutdown = Shutdown::install().map_err(StartError::system("can't catch signals"))?;
    shutdown.follow_stdin().map_err(StartError::system("can't start a thread"))?;
    // A replica that was stopped (SIGSTOP) when its supervisor died has to wake up to see the end of its input.
    rustix::process::set_parent_process_death_signal(Some(Signal::CONT))
        .map_err(|error| StartError::system("can't follow the supervisor's death")(error.into()))?;

    let lock_path = config.socket_dir.join(format!("engine-{index}.lock"));
    let _only_one = Lock::take(&lock_path, &format!("replica {index}"))?;
    let open = || open_engine(config, index, clock);
    let engine = Arc::new(if give_way { behind_others(open)? } else { open()? });

    let poll = Poll::new().map_err(StartError::system("can't make an event queue"))?;
    let pool = start_workers(config, &engine, clock, &poll)?;
    engine.note_life(LifeEvent::Started, clock.now())?;
    let chores = Chores::start(&engine, clock).map_err(StartError::system("can't start a thread"))?;
    let listeners = Listeners {
        unix: Listener::bind(&config.socket_path(index), config.socket_access.socket_mode())?,
        tcp: config.tcp_address(index).map(listener::bind_tcp).transpose()?,
    };
    let limits = Limits {
        max_connections: config.max_connections.get(),
        max_in_flight: usize::from(config.max_in_flight),
        max_frame: keycore_wire::frame::MAX_FRAME,
        peers: PeerFilter::new(rustix::process::geteuid().as_raw(), &config.allow_uids),
    };
    let event_loop = EventLoop::new(poll, clock, shutdown, listeners, Arc::clone(&engine), pool, limits)
        .map_err(StartError::system("can't watch the socket"))?;
    let pid_file = PidFile::write(config.pid_path(index))?;
    sandbox::confine_system_calls(config)?;
    // Whoever started this by hand may have closed it.
    let _nobody_listens = std::io::stdout().write_all(b"ready\n").and_then(|()| std::io::stdout().flush());

    let served = event_loop.run().map_err(StartError::system("the event queue failed"));
    chores.stop();
    if let Err(error) = engine.note_life(LifeEvent::Stopped, clock.now()) {
        tracing::error!("the end of the replica could not be recorded: {error}");
    }
    if let Err(error) = engine.checkpoint_audit(clock.now()) {
        tracing::error!("the end of the audit log could not be signed: {error}");
    }
    if let Err(error) = engine.sync_audit() {
        tracing::error!("the end of the audit log could not be written: {error}");
    }
    drop(pid_file);
    served
}

/// Does on a thread of its own, so that only that one has a lower priority from then on, what takes a start most of its time: tests of
/// the cryptography, the first random number, the end of the audit log.
fn behind_others<T: Send>(work: impl FnOnce() -> Result<T, StartError> + Send) -> Result<T, StartError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("start".into()).spawn_scoped(scope, || {
            priority::give_way(NICE);
            work()
        });
        let thread = thread.map_err(StartError::system("can't start a thread"))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// What comes before the first secret.
fn lock_down(index: u16, max_connections: usize) {
    for gap in keycore_secmem::lockdown::lock_down_process().gaps {
        tracing::warn!("lockdown: {gap}");
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    // The supervisor starts /proc/self/exe, which ps would show as "exe".
    if let Ok(name) = std::ffi::CString::new(format!("hsm-engine-{index}")) {
        let _cosmetic = rustix::thread::set_name(&name);
    }
    raise_file_limit(max_connections);
}

/// Each connection is a file descriptor; so are the store, the log and the rest.
fn raise_file_limit(max_connections: usize) {
    const OTHERS: u64 = 64;
    let wanted = u64::try_from(max_connections).unwrap_or(u64::MAX).saturating_add(OTHERS);
    let limit = rustix::process::getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let current = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let raised = Rlimit { current: Some(current), maximum: limit.maximum };
    if rustix::process::setrlimit(Resource::Nofile, raised).is_err() || current < wanted {
        tracing::warn!(
            "max-connections = {max_connections} needs {wanted} file descriptors; raise RLIMIT_NOFILE (systemd: LimitNOFILE)"
        );
    }
}

fn open_engine(config: &Config, index: u16, clock: Clock) -> Result<Engine, StartError> {
    let unseal = unseal::read(config)?;
    let store_path = config.state_dir.join("store.db");
    let (store, watch) = (SqliteStore::open(&store_path)?, SqliteStore::open(&store_path)?);
    let log = open_audit(&config.state_dir.join("audit"), index)?;
    let options = Options {
        zone: config.zone.clone(),
        max_in_flight: config.max_in_flight,
        key_cache: config.key_cache,
        session_lifetime: config.session_lifetime,
        session_idle: config.session_idle,
        max_users: config.max_users,
        max_keys: config.max_keys,
        max_user_keys: config.max_user_keys,
        max_key_shares: config.max_key_shares.get(),
        max_user_sessions: config.max_user_sessions.get(),
        accepted_audit_losses: config
            .accept_audit_loss
            .iter()
            .map(|loss| (loss.replica, loss.anchored))
            .collect(),
        audit_retention: config.audit_retention.retention(),
        ..Options::new(index, std::process::id())
    };
    let mut engine = Engine::open(Box::new(store), Box::new(watch), log, unseal, options, clock.now())?;
    let archive = SqliteStore::open(&store_path)?;
    engine.enable_backups(Box::new(archive), backups::plan(config, index));
    Ok(engine)
}

fn open_audit(dir: &Path, index: u16) -> Result<keycore_audit::Log, StartError> {
    let (chain, sink, recovery) = keycore_audit::file::open(dir, index)?;
    if let Some(cut) = recovery.cut {
        tracing::warn!(
            segment = %cut.segment.display(),
            bytes = cut.length,
            kept_in = %cut.kept_in.display(),
            "the audit log ended in an incomplete record, as after a crash; it goes on before it"
        );
    }
    Ok(keycore_audit::Log::new(chain, Box::new(sink)))
}

fn start_workers(
    config: &Config,
    engine: &Arc<Engine>,
    clock: Clock,
    poll: &Poll,
) -> Result<WorkerPool<TimedJob, TimedResult>, StartError> {
    let failed = "can't start the worker threads";
    let waker = Waker::new(poll.registry(), event_loop::RESULTS).map_err(StartError::system(failed))?;
    let engine = Arc::clone(engine);
    WorkerPool::start(
        config.worker_threads,
        config.max_queue,
        move |timed: TimedJob| timed.run(&engine, clock),
        move || {
            if let Err(error) = waker.wake() {
                tracing::error!("can't wake the event loop: {error}");
            }
        },
    )
    .map_err(StartError::system(failed))
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn what_is_done_behind_others_has_a_lower_priority_and_what_follows_has_not() {
        let own = getpriority_process(None).unwrap();
        let behind = behind_others(|| Ok(getpriority_process(None).unwrap())).unwrap();
        assert_eq!(behind, (own + NICE).min(19));
        assert_eq!(getpriority_process(None), Ok(own));
    }
}
