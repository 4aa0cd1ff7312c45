//! The session that `hsm login` keeps for the next commands: one file for each user and cluster.

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::BASE64;
use keycore_wire::{ClusterId, Secret, SessionGrant, SessionToken, UserName};
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::failure::Failure;
use crate::file;

/// Longest session file that is read, in bytes.
const LONGEST: u64 = 4096;

/// How often another command's change of a file is waited for, and how long each time.
const TURNS: u32 = 200;
const TURN: Duration = Duration::from_millis(5);

/// A directory of sessions, private to the user of this machine who runs hsm.
pub(crate) struct Sessions {
    directory: PathBuf,
}

/// A login that is kept.
pub(crate) struct Session {
    pub(crate) user: UserName,
    pub(crate) token: SessionToken,
    expires_at: u64,
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    user: UserName,
    /// By this machine's clock, in seconds since 1970.
    expires_at: u64,
    token: String,
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.token.zeroize();
    }
}

impl Sessions {
    /// Where sessions are kept: `$XDG_RUNTIME_DIR/hsm`, which is memory and ends with the login to this machine;
    /// without it `$XDG_STATE_HOME/hsm` or `~/.local/state/hsm`.
    pub(crate) fn of_this_user() -> Option<Self> {
        let absolute =
            |name| std::env::var_os(name).map(PathBuf::from).filter(|directory| directory.is_absolute());
        let base = absolute("XDG_RUNTIME_DIR")
            .or_else(|| absolute("XDG_STATE_HOME"))
            .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
        Some(Self { directory: base.join("hsm") })
    }

    /// Keeps a login.
    pub(crate) fn keep(
        &self,
        cluster: ClusterId,
        user: &UserName,
        grant: &SessionGrant,
    ) -> Result<(), Failure> {
        self.make_directory()?;
        let _turn = Turn::wait(&self.directory);
        write(&self.path(cluster, user), user, now() + u64::from(grant.lifetime_secs), &grant.token)
    }

    /// The session of `user` at this cluster; without a user, the only one that there is.
    pub(crate) fn find(
        &self,
        cluster: ClusterId,
        user: Option<&UserName>,
    ) -> Result<Option<Session>, Failure> {
        if let Some(user) = user {
            return read(&self.path(cluster, user), user);
        }
        let Ok(entries) = std::fs::read_dir(&self.directory) else { return Ok(None) };
        let prefix = prefix(cluster);
        let mut found: Vec<Session> = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let user = name.to_str().and_then(|name| name.strip_prefix(&prefix)?.parse::<UserName>().ok());
            if let Some(user) = user
                && let Some(session) = read(&entry.path(), &user)?
            {
                found.push(session);
            }
        }
        if found.len() > 1 {
            let mut users: Vec<_> = found.iter().map(|session| session.user.as_str()).collect();
            users.sort_unstable();
            return Err(Failure::Usage(format!(
                "several users are logged in: say --user {}",
                users.join(" or ")
            )));
        }
        Ok(found.pop())
    }

    fn path(&self, cluster: ClusterId, user: &UserName) -> PathBuf {
        self.directory.join(format!("{}{user}", prefix(cluster)))
    }

    fn make_directory(&self) -> Result<(), Failure> {
        let path = &self.directory;
        let failed = |source| Failure::Write { path: path.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let metadata = path.symlink_metadata().map_err(failed)?;
        if metadata.is_dir() && is_private(&metadata) {
            return Ok(());
        }
        Err(Failure::Exposed {
            path: path.clone(),
            problem: "keeps sessions and must be a directory of yours with mode 0700".to_owned(),
            advice: format!("chmod 700 {}", path.display()),
        })
    }
}

impl Session {
    /// Keeps the token that using this one gave: where sessions end that are not used, it lasts longer.
    /// Only in the place of this one: a logout, a login and another command's renewal meanwhile count.
    pub(crate) fn renew(&self, renewed: &SessionToken) -> Result<(), Failure> {
        if renewed.0.expose() == self.token.0.expose() {
            return Ok(());
        }
        let _turn = Turn::wait(self.directory());
        if !self.is_kept()? {
            return Ok(());
        }
        write(&self.path, &self.user, self.expires_at, renewed)
    }

    /// Forgets it, unless another login or another command's renewal took its place.
    pub(crate) fn forget_if_kept(&self) -> Result<(), Failure> {
        let _turn = Turn::wait(self.directory());
        if self.is_kept()? { self.remove() } else { Ok(()) }
    }

    fn is_kept(&self) -> Result<bool, Failure> {
        let kept = parse_file(&self.path)?;
        Ok(kept.is_some_and(|kept| kept.user == self.user && kept.token.0.expose() == self.token.0.expose()))
    }

    fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    /// Overwrites the token and removes the file.
    pub(crate) fn forget(&self) -> Result<(), Failure> {
        let _turn = Turn::wait(self.directory());
        self.remove()
    }

    fn remove(&self) -> Result<(), Failure> {
        let failed = |source| Failure::Write { path: self.path.clone(), source };
        let wiped = open(&self.path, File::options().write(true)).and_then(|mut file| {
            let length = file.metadata()?.len().min(LONGEST);
            file.write_all(&vec![0; usize::try_from(length).unwrap_or(0)])?;
            file.sync_all()
        });
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.and(wiped).map_err(failed),
        }
    }
}

fn write(path: &Path, user: &UserName, expires_at: u64, token: &SessionToken) -> Result<(), Failure> {
    let stored = Stored { user: user.clone(), expires_at, token: BASE64.encode(token.0.expose()) };
    // Longer than any content, so that it is not moved while it grows.
    let mut content = Zeroizing::new(Vec::with_capacity(LONGEST as usize));
    serde_json::to_writer(&mut *content, &stored)
        .map_err(|error| Failure::Write { path: path.to_owned(), source: error.into() })?;
    file::write(path, &content, 0o600, true)
}

/// One command changes the directory's files at a time.
struct Turn {
    _directory: Option<File>,
}

impl Turn {
    /// Waits for the others, for [`TURNS`] at most: who stopped in between keeps nobody from working, nor does a file system without locks.
    fn wait(directory: &Path) -> Self {
        let Ok(file) = File::open(directory) else { return Self { _directory: None } };
        for _ in 0..TURNS {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK | Errno::INTR) => std::thread::sleep(TURN),
                _ => break,
            }
        }
        Self { _directory: Some(file) }
    }
}

fn prefix(cluster: ClusterId) -> String {
    format!("session-{cluster}-")
}

/// Reads the session of a user; one that is over is removed, and one of somebody else is none.
fn read(path: &Path, user: &UserName) -> Result<Option<Session>, Failure> {
    match parse_file(path)? {
        Some(session) if session.user != *user => Ok(None),
        Some(session) if now() >= session.expires_at => session.forget_if_kept().map(|()| None),
        found => Ok(found),
    }
}

/// Reads a session, over or not.
fn parse_file(path: &Path) -> Result<Option<Session>, Failure> {
    let failed = |source| Failure::Read { path: path.to_owned(), source };
    let file = match open(path, File::options().read(true)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() || !is_private(&metadata) {
        return Err(Failure::Exposed {
            path: path.to_owned(),
            problem: "holds a session and must be a file of yours with mode 0600".to_owned(),
            advice: format!("the session may be stolen: hsm logout, then rm {}", path.display()),
        });
    }
    let mut content = Zeroizing::new(Vec::with_capacity(LONGEST as usize + 1));
    file.take(LONGEST).read_to_end(&mut content).map_err(failed)?;
    let session = serde_json::from_slice::<Stored>(&content).ok().and_then(|stored| {
        let token = Zeroizing::new(BASE64.decode(stored.token.as_bytes()).ok()?);
        Some(Session {
            user: stored.user.clone(),
            token: SessionToken(Secret::from(token)),
            expires_at: stored.expires_at,
            path: path.to_owned(),
        })
    });
    session.map(Some).ok_or_else(|| Failure::Content {
        path: path.to_owned(),
        problem: "not a session file".to_owned(),
        advice: Some("remove it and log in again: hsm login --user NAME".to_owned()),
    })
}

/// Opens without following a link at the end of the path, nor waiting for a FIFO's other end.
fn open(path: &Path, options: &mut std::fs::OpenOptions) -> io::Result<File> {
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or(0);
    options.custom_flags(flags).open(path)
}

fn is_private(metadata: &std::fs::Metadata) -> bool {
    metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o077 == 0
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

#[cfg(test)]
mod tests;
