//! Passwords: from the terminal, a file, a file descriptor or systemd's credentials. Never from arguments or the
//! environment, where others see them.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::Args;
use keycore_client::{IdentityError, read_password, read_password_file};
use keycore_wire::{MAX_PASSWORD, MAX_UNSEAL_PART, MIN_PASSWORD, Secret};

use crate::failure::Failure;
use crate::file;

/// Where the password of a new user, or the new one of a user, comes from.
#[derive(Debug, Args)]
pub(crate) struct NewPassword {
    /// File with the new password, readable by its owner only; without it, it is asked for twice
    #[arg(long = "new-password-file", value_name = "FILE", conflicts_with = "new_password_fd")]
    new_password_file: Option<PathBuf>,

    /// Open file descriptor to read the new password from
    #[arg(long = "new-password-fd", value_name = "N")]
    new_password_fd: Option<u32>,
}

impl NewPassword {
    /// Whether the options name one.
    pub(crate) fn is_given(&self) -> bool {
        self.new_password_file.is_some() || self.new_password_fd.is_some()
    }

    /// Reads it, or asks for it twice.
    pub(crate) fn read(&self, whose: &str) -> Result<Secret, Failure> {
        let password = match given(self.new_password_file.as_deref(), self.new_password_fd)? {
            Some(password) => password,
            None => ask_twice(whose)?,
        };
        let length = password.expose().len();
        if (MIN_PASSWORD..=MAX_PASSWORD).contains(&length) {
            Ok(password)
        } else {
            Err(Failure::Usage(format!(
                "a password has {MIN_PASSWORD} to {MAX_PASSWORD} bytes, not {length}"
            )))
        }
    }
}

/// A new unseal secret from a file, or asked for twice.
pub(crate) fn new_unseal_secret(file: Option<&Path>) -> Result<Secret, Failure> {
    let nobody = |failure| match failure {
        Failure::NotLoggedIn { .. } => Failure::Usage(
            "there is no terminal to ask for the new secret on: give --new-secret-file".to_owned(),
        ),
        other => other,
    };
    if let Some(path) = file {
        let private = |found: &std::fs::Metadata| match found.mode() & 0o077 {
            0 => Ok(()),
            _ => Err(Failure::Exposed {
                problem: format!("holds an unseal secret and has mode {:04o}", found.mode() & 0o7777),
                advice: format!("only its owner may read it: chmod 600 {}", path.display()),
                path: path.to_owned(),
            }),
        };
        return read_unseal(path, private);
    }
    let first = ask("New unseal secret: ").map_err(nobody)?;
    let second = ask("Once more: ").map_err(nobody)?;
    if first.expose() == second.expose() {
        Ok(first)
    } else {
        Err(Failure::Usage("the two secrets differ; nothing was done".to_owned()))
    }
}

/// What unseals, from a file, or from standard input (`-`): as the engines read theirs.
pub(crate) fn unseal_file(path: &Path) -> Result<Secret, Failure> {
    read_unseal(path, |_any| Ok(()))
}

fn read_unseal(
    path: &Path,
    check: impl FnOnce(&std::fs::Metadata) -> Result<(), Failure>,
) -> Result<Secret, Failure> {
    // Room for the line end.
    let text = file::read_checked(path, MAX_UNSEAL_PART + 2, check)?;
    Ok(Secret::new(without_line_ends(&text).to_vec()))
}

/// Line ends behind it are not part of what unseals; blanks are.
fn without_line_ends(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |at| at + 1);
    &text[..end]
}

/// The password in a file or behind a file descriptor, if either is named.
pub(crate) fn given(file: Option<&Path>, fd: Option<u32>) -> Result<Option<Secret>, Failure> {
    match (file, fd) {
        (Some(path), _) => from_file(path).map(Some),
        (None, Some(fd)) => from_fd(fd).map(Some),
        (None, None) => Ok(None),
    }
}

/// The password in systemd's credentials (`LoadCredential=hsm-password:…`), if there is one.
pub(crate) fn credential() -> Result<Option<Secret>, Failure> {
    let Some(directory) = std::env::var_os("CREDENTIALS_DIRECTORY") else { return Ok(None) };
    let path = Path::new(&directory).join("hsm-password");
    if path.exists() { from_file(&path).map(Some) } else { Ok(None) }
}

/// Asks on the terminal. A refusal if there is nobody to see the question.
pub(crate) fn ask(question: &str) -> Result<Secret, Failure> {
    let nobody = || Failure::NotLoggedIn {
        what: "no password is given, and there is no terminal to ask on".to_owned(),
        advice: "give one with --password-file or --password-fd, or log in first: hsm login --user NAME"
            .to_owned(),
    };
    if !io::stderr().is_terminal() {
        return Err(nobody());
    }
    let answer = rpassword::prompt_password(question).map_err(|_| nobody())?;
    Ok(Secret::new(answer.into_bytes()))
}

fn ask_twice(whose: &str) -> Result<Secret, Failure> {
    let no_new_password = |failure| match failure {
        Failure::NotLoggedIn { what, .. } => Failure::NotLoggedIn {
            what,
            advice: "give the new password with --new-password-file or --new-password-fd".to_owned(),
        },
        other => other,
    };
    let first = ask(&format!("New password of {whose}: ")).map_err(no_new_password)?;
    let second = ask("Once more: ").map_err(no_new_password)?;
    if first.expose() == second.expose() {
        Ok(first)
    } else {
        Err(Failure::Usage("the two passwords differ; nothing was done".to_owned()))
    }
}

fn from_file(path: &Path) -> Result<Secret, Failure> {
    read_password_file(path).map_err(|error| match error {
        IdentityError::TooOpen { path, mode } => Failure::Exposed {
            problem: format!("holds a password and has mode {mode:04o}"),
            advice: format!("only its owner may read it: chmod 600 {}", path.display()),
            path,
        },
        IdentityError::Unreadable { path, source } => Failure::Read { path, source },
        _ => Failure::Content {
            path: path.to_owned(),
            problem: "a password file is a regular file of 1 to 1,024 bytes".to_owned(),
            advice: Some("for a pipe use --password-fd".to_owned()),
        },
    })
}

/// Reads until the end of what is open under this number.
fn from_fd(fd: u32) -> Result<Secret, Failure> {
    let path = PathBuf::from(format!("/proc/self/fd/{fd}"));
    let opened = File::open(&path).or_else(|error| match error.kind() {
        // A pipe that another user made, as under sudo, can be read but not opened again.
        io::ErrorKind::PermissionDenied => duplicate(fd).map_err(|_| error),
        _ => Err(error),
    });
    from_reader(opened.map_err(|source| Failure::Read { path: path.clone(), source })?, &path)
}

fn duplicate(fd: u32) -> io::Result<File> {
    let fd = i32::try_from(fd).map_err(|_| io::ErrorKind::InvalidInput)?;
    let this = rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty())?;
    let copy = rustix::process::pidfd_getfd(this, fd, rustix::process::PidfdGetfdFlags::empty())?;
    Ok(File::from(copy))
}

fn from_reader(reader: impl Read, path: &Path) -> Result<Secret, Failure> {
    match read_password(reader) {
        Ok(Some(password)) => Ok(password),
        Ok(None) => Err(Failure::Content {
            path: path.to_owned(),
            problem: "a password has 1 to 1,024 bytes".to_owned(),
            advice: None,
        }),
        Err(source) => Err(Failure::Read { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_unseals_loses_its_line_ends_and_keeps_its_blanks() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("part");
        for (content, part) in
            [(&b" words \t \r\n\n"[..], &b" words \t "[..]), (b"\n\r\n", b""), (b"a\nb", b"a\nb")]
        {
            std::fs::write(&path, content).unwrap();
            assert_eq!(unseal_file(&path).unwrap().expose(), part);
        }
        std::fs::write(&path, [&[b'x'; MAX_UNSEAL_PART][..], b"\r\n"].concat()).unwrap();
        assert_eq!(unseal_file(&path).unwrap().expose().len(), MAX_UNSEAL_PART);
        std::fs::write(&path, [b'x'; MAX_UNSEAL_PART + 3]).unwrap();
        assert!(matches!(unseal_file(&path), Err(Failure::Content { .. })));
    }

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        (directory, path)
    }

    #[test]
    fn one_newline_is_cut_off() {
        let (_directory, path) = file(b"two words\n\n", 0o600);
        assert_eq!(from_file(&path).unwrap().expose(), b"two words\n");
    }

    #[test]
    fn files_that_others_read_are_refused() {
        for mode in [0o644, 0o604, 0o666] {
            let (_directory, path) = file(b"password", mode);
            let failure = from_file(&path).unwrap_err();
            assert_eq!(failure.exit_code(), Failure::PERMISSION);
            assert!(failure.text().contains("chmod 600"), "{}", failure.text());
        }
    }

    #[test]
    fn what_is_no_password_is_refused() {
        for content in [&b""[..], b"\n", &[b'x'; 1025]] {
            let (_directory, path) = file(content, 0o600);
            assert!(from_file(&path).is_err(), "{} bytes", content.len());
        }
        let directory = tempfile::tempdir().unwrap();
        assert!(from_file(directory.path()).is_err(), "a directory");
        assert_eq!(from_file(&directory.path().join("none")).unwrap_err().exit_code(), Failure::READ);
    }

    #[test]
    fn a_descriptor_is_read_to_its_end() {
        use std::os::fd::AsRawFd;
        let number = |reader: &io::PipeReader| u32::try_from(reader.as_raw_fd()).unwrap();
        for by in [from_fd, |fd| from_reader(duplicate(fd).unwrap(), Path::new("pipe"))] {
            let (reader, mut writer) = io::pipe().unwrap();
            io::Write::write_all(&mut writer, b"from a pipe\n").unwrap();
            drop(writer);
            assert_eq!(by(number(&reader)).unwrap().expose(), b"from a pipe");
        }
        assert!(from_fd(u32::MAX).is_err());
    }

    #[test]
    fn new_passwords_have_a_length() {
        let (_directory, path) = file(b"short", 0o600);
        let new = NewPassword { new_password_file: Some(path), new_password_fd: None };
        assert_eq!(new.read("x").unwrap_err().exit_code(), Failure::USAGE);
    }
}
