//! Reading the unseal secret.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use keycore_engine::UnsealSecret;
use keycore_secmem::SecretBytes;

use crate::config::{Config, Unseal};
use crate::exit::StartError;

/// Most bytes of a secret; a file above it is not one. The same as `hsm cluster unseal` may give.
const MAX: usize = keycore_wire::MAX_UNSEAL_PART;

/// Reads the secret from the configured file, else from the service manager's credentials directory
/// (systemd's `LoadCredential=unseal:…`). Trailing line ends are not part of it. None if people are to give it.
pub(super) fn read(config: &Config) -> Result<Option<UnsealSecret>, StartError> {
    match config.unseal {
        Unseal::Secret => read_file(config).map(Some),
        Unseal::Custodians => Ok(None),
    }
}

fn read_file(config: &Config) -> Result<UnsealSecret, StartError> {
    // Of a credential systemd gives the service's user access by an ACL, which shows as group bits.
    let (path, forbidden) = match &config.unseal_file {
        Some(path) => (path.clone(), 0o077),
        None => (credential().ok_or(StartError::NoUnsealFile)?, 0o007),
    };
    let failed = || StartError::at("read the unseal secret", &path);
    let mut file = File::open(&path).map_err(failed())?;
    let found = file.metadata().map_err(failed())?;
    if !found.is_file() {
        return Err(failed()(io::Error::other("it is not a regular file")));
    }
    if found.mode() & forbidden != 0 {
        return Err(StartError::TooOpen { path, mode: found.mode() & 0o7777, wanted: 0o600 });
    }
    // One byte more than allowed, to tell a file that is too long. Straight into locked memory, no buffer between.
    let mut buffer = SecretBytes::zeroed(MAX + 1)?;
    let mut length = 0;
    while length <= MAX {
        match file.read(&mut buffer.expose_mut()[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed()(error)),
        }
    }
    while length > 0 && matches!(buffer.expose()[length - 1], b'\n' | b'\r') {
        length -= 1;
    }
    let out_of_bounds = StartError::UnsealLength { path, length, min: UnsealSecret::MIN, max: MAX };
    if length > MAX {
        return Err(out_of_bounds);
    }
    let secret = SecretBytes::copy_from(&mut buffer.expose_mut()[..length])?;
    UnsealSecret::new(secret).map_err(|_too_short| out_of_bounds)
}

fn credential() -> Option<PathBuf> {
    let directory = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?);
    Some(directory.join("unseal"))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn read_content(content: &[u8], mode: u32) -> Result<Option<UnsealSecret>, StartError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("unseal");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        read(&Config { unseal_file: Some(path), ..Config::default() })
    }

    #[test]
    fn sixteen_bytes_are_enough_without_the_line_end() {
        assert!(read_content(b"0123456789abcdef\r\n", 0o600).is_ok());
        assert!(read_content(b"0123456789abcdef", 0o400).is_ok());
        assert!(matches!(
            read_content(b"0123456789abcde\n\n", 0o600),
            Err(StartError::UnsealLength { length: 15, .. })
        ));
        assert!(matches!(read_content(b"", 0o600), Err(StartError::UnsealLength { length: 0, .. })));
        assert!(read_content(&[b'x'; MAX], 0o600).is_ok());
        assert!(matches!(read_content(&[b'x'; MAX + 1], 0o600), Err(StartError::UnsealLength { .. })));
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        for mode in [0o640, 0o604, 0o644] {
            let error = read_content(b"0123456789abcdef", mode).err().unwrap().to_string();
            assert!(error.contains("chmod 0600"), "{error}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let config = Config { unseal_file: Some("/nonexistent/unseal".into()), ..Config::default() };
        assert!(read(&config).err().unwrap().to_string().contains("/nonexistent/unseal"));
    }
}
