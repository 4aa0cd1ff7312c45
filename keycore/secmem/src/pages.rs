//! Whole pages for one secret, between two guard pages.

use core::ffi::c_void;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use rustix::mm::{
    Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mlock, mmap_anonymous, mprotect, munmap,
};
use zeroize::Zeroize;

/// No memory for a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecmemError {
    /// The operating system gives no memory.
    #[error("no memory for a secret of {len} bytes: {source}")]
    NoMemory {
        /// Bytes that were wanted.
        len: usize,
        /// What the operating system said.
        source: Errno,
    },
}

/// Whether some pages could not be locked.
static UNLOCKED: AtomicBool = AtomicBool::new(false);

/// Whether a secret had to be put into memory that may be swapped out, because RLIMIT_MEMLOCK is used up.
pub(crate) fn some_are_unlocked() -> bool {
    UNLOCKED.load(Ordering::Relaxed)
}

/// `guard page | data pages | guard page`, zeroed, private, not dumped, zero in a forked child, locked if the
/// limit allows. Wiped before it is unmapped.
pub(crate) struct Pages {
    /// The first data page.
    data: NonNull<u8>,
    /// Length of the data pages.
    len: usize,
    /// Length of a guard page.
    page: usize,
}

// SAFETY: the pages are owned by this value alone and have no tie to a thread.
unsafe impl Send for Pages {}
// SAFETY: shared access only reads; writing needs `&mut`.
unsafe impl Sync for Pages {}

impl Pages {
    /// Room for `len` bytes.
    pub(crate) fn new(len: usize) -> Result<Self, SecmemError> {
        let no_memory = |source| SecmemError::NoMemory { len, source };
        let page = rustix::param::page_size();
        let data_len = len.max(1).checked_next_multiple_of(page).ok_or(no_memory(Errno::NOMEM))?;
        let whole = data_len.checked_add(2 * page).ok_or(no_memory(Errno::NOMEM))?;

        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no memory in use.
        let base = unsafe {
            mmap_anonymous(
                core::ptr::null_mut(),
                whole,
                ProtFlags::empty(),
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }
        .map_err(no_memory)?;
        // SAFETY: `page` is inside of the mapping of `whole` bytes that begins at `base`.
        let data = unsafe { base.cast::<u8>().add(page) };
        let Some(data) = NonNull::new(data) else { return Err(no_memory(Errno::NOMEM)) };
        // From here on dropping unmaps.
        let pages = Self { data, len: data_len, page };

        let start = data.as_ptr().cast::<c_void>();
        // SAFETY: the data pages are within the mapping, which nobody else knows of.
        unsafe { mprotect(start, data_len, MprotectFlags::READ | MprotectFlags::WRITE) }
            .map_err(no_memory)?;
        // Not fatal: an old kernel, or a limit that a test or a container sets. The lockdown reports what is open.
        // SAFETY: as above; the advice changes what dumps and forks see, and nothing in this process.
        let _ = unsafe { madvise(start, data_len, Advice::LinuxDontDump) };
        // SAFETY: as above.
        let _ = unsafe { madvise(start, data_len, Advice::LinuxWipeOnFork) };
        // SAFETY: as above; locking does not change the content.
        if unsafe { mlock(start, data_len) }.is_err() {
            UNLOCKED.store(true, Ordering::Relaxed);
        }
        Ok(pages)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the data pages are mapped, readable and initialized (to zero, by the kernel) for as long as `self`.
        unsafe { core::slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and writable; `&mut self` makes it the only reference.
        unsafe { core::slice::from_raw_parts_mut(self.data.as_ptr(), self.len) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // A page that could not be made accessible in `new` holds nothing; its value is dropped before it gets out,
        // and wiping would fault. Such a mapping is told by the protection, which a second mprotect asks for.
        let start = self.data.as_ptr().cast::<c_void>();
        // SAFETY: the data pages are this value's own.
        let accessible =
            unsafe { mprotect(start, self.len, MprotectFlags::READ | MprotectFlags::WRITE) }.is_ok();
        if accessible {
            self.bytes_mut().zeroize();
        }
        // SAFETY: the mapping began one guard page before the data and ends one behind it; no reference outlives it.
        let _ =
            unsafe { munmap(self.data.as_ptr().sub(self.page).cast::<c_void>(), self.len + 2 * self.page) };
    }
}
