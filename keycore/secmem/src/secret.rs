//! Secrets that live in pages of their own.

use core::fmt;

use zeroize::Zeroize;

use crate::pages::{Pages, SecmemError};

/// Secret bytes of a fixed length: locked in memory, left out of core dumps, zero in a forked child, wiped when
/// dropped.
///
/// Costs whole pages and a few system calls, so it is for the few long-lived secrets. No `Clone`, no comparison, and a
/// `Debug` that shows nothing.
pub struct SecretBytes {
    pages: Pages,
    len: usize,
}

impl SecretBytes {
    /// `len` zero bytes, to be filled in place.
    ///
    /// # Errors
    ///
    /// [`SecmemError`] if there is no memory. Memory that can't be locked is no error:
    /// [`lockdown::secrets_may_be_swapped`](crate::lockdown::secrets_may_be_swapped) tells.
    pub fn zeroed(len: usize) -> Result<Self, SecmemError> {
        Ok(Self { pages: Pages::new(len)?, len })
    }

    /// Moves a secret in: copies `bytes` and wipes the source, also when it fails.
    ///
    /// # Errors
    ///
    /// As [`SecretBytes::zeroed`].
    pub fn copy_from(bytes: &mut [u8]) -> Result<Self, SecmemError> {
        let secret = Self::zeroed(bytes.len()).map(|mut secret| {
            secret.expose_mut().copy_from_slice(bytes);
            secret
        });
        bytes.zeroize();
        secret
    }

    /// The bytes, for the one place that needs them.
    pub fn expose(&self) -> &[u8] {
        &self.pages.bytes()[..self.len]
    }

    /// The bytes, to be filled.
    pub fn expose_mut(&mut self) -> &mut [u8] {
        &mut self.pages.bytes_mut()[..self.len]
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({} bytes)", self.len)
    }
}

/// A key of 32 bytes.
pub struct Key32(SecretBytes);

impl Key32 {
    /// A key that `fill` writes in place, so that no copy is left anywhere.
    ///
    /// # Errors
    ///
    /// Whatever `fill` returns, or [`SecmemError`] converted to it.
    pub fn fill_with<E: From<SecmemError>>(
        fill: impl FnOnce(&mut [u8; 32]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut key = Self(SecretBytes::zeroed(32)?);
        fill(key.expose_mut())?;
        Ok(key)
    }

    /// Moves a key in and wipes the source.
    ///
    /// # Errors
    ///
    /// As [`SecretBytes::zeroed`].
    pub fn copy_from(bytes: &mut [u8; 32]) -> Result<Self, SecmemError> {
        SecretBytes::copy_from(bytes).map(Self)
    }

    /// The key, for the one place that needs it.
    pub fn expose(&self) -> &[u8; 32] {
        let Some(key) = self.0.expose().first_chunk() else { unreachable!("made with 32 bytes") };
        key
    }

    fn expose_mut(&mut self) -> &mut [u8; 32] {
        let Some(key) = self.0.expose_mut().first_chunk_mut() else { unreachable!("made with 32 bytes") };
        key
    }
}

impl fmt::Debug for Key32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key32(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The field of the mapping that contains `address`, from /proc/self/smaps.
    fn smaps_field(address: usize, field: &str) -> String {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        for line in smaps.lines() {
            let range = line.split(' ').next().unwrap().split_once('-');
            if let Some((from, to)) = range
                && let (Ok(from), Ok(to)) = (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16))
            {
                inside = (from..to).contains(&address);
            } else if inside && let Some(value) = line.strip_prefix(field) {
                return value.trim_start_matches(':').trim().to_owned();
            }
        }
        panic!("{field} of {address:#x} not found");
    }

    #[test]
    fn moving_in_wipes_the_source() {
        let mut source = *b"correct horse battery staple....";
        let key = Key32::copy_from(&mut source).unwrap();
        assert_eq!(key.expose(), b"correct horse battery staple....");
        assert_eq!(source, [0; 32]);
        assert_eq!(format!("{key:?}"), "Key32(…)");
    }

    #[test]
    fn any_length_is_zero_at_first_and_writable_to_its_end() {
        for len in [0, 1, 32, 4095, 4096, 4097, 100_000] {
            let mut secret = SecretBytes::zeroed(len).unwrap();
            assert!(secret.expose().iter().all(|&byte| byte == 0));
            secret.expose_mut().fill(0xa5);
            assert_eq!(secret.expose(), vec![0xa5; len]);
        }
    }

    #[test]
    fn pages_are_not_dumped_wiped_on_fork_and_locked() {
        let secret = SecretBytes::copy_from(&mut [7; 32]).unwrap();
        let flags = smaps_field(secret.expose().as_ptr().addr(), "VmFlags");
        let has = |flag| flags.split(' ').any(|word| word == flag);
        assert!(has("dd") && has("wf"), "{flags}");
        assert!(has("lo") || crate::lockdown::secrets_may_be_swapped(), "{flags}");
    }

    #[test]
    fn the_neighbours_are_guard_pages() {
        let secret = SecretBytes::zeroed(1).unwrap();
        let page = rustix::param::page_size();
        let address = secret.expose().as_ptr().addr();
        for guard in [address - 1, address + page] {
            let flags = smaps_field(guard, "VmFlags");
            assert!(!flags.split(' ').any(|word| word == "rd" || word == "wr"), "{flags}");
        }
    }

    #[test]
    fn a_failed_fill_gives_its_own_error() {
        #[derive(Debug, PartialEq)]
        enum Error {
            Memory(SecmemError),
            NoRandom,
        }
        impl From<SecmemError> for Error {
            fn from(error: SecmemError) -> Self {
                Self::Memory(error)
            }
        }
        assert_eq!(Key32::fill_with(|_| Err(Error::NoRandom)).unwrap_err(), Error::NoRandom);
        assert!(matches!(SecretBytes::zeroed(usize::MAX), Err(SecmemError::NoMemory { .. })));
    }
}
