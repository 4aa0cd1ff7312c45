use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::ptr;
use std::task::{Context, Poll, Waker};
use std::thread;

use corosensei::Yielder;

thread_local! {
    /// The fiber whose code this thread executes now; null outside of all fibers.
    ///
    /// Only [`Running::enter`] sets it to something, and whoever switches to a fiber ([`Outside`]) restores it when
    /// control comes back. So while it isn't null, the fiber's stack is the one we stand on, and its `Running`,
    /// in the lowest frame of that stack, is alive.
    static CURRENT: Cell<*const Running<'static>> = const { Cell::new(ptr::null()) };
}

/// [`wait`] was called by code that runs in no fiber. It hands the future back, so that the caller can block on it, or
/// do without.
pub struct NotInFiber<F>(pub F);

impl<F> fmt::Debug for NotInFiber<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NotInFiber(…)")
    }
}

impl<F> fmt::Display for NotInFiber<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("called by code that runs in no fiber")
    }
}

impl<F> std::error::Error for NotInFiber<F> {}

/// Whether the calling code runs in a [`Fiber`](crate::Fiber), so that [`wait`] works.
pub fn in_fiber() -> bool {
    !CURRENT.get().is_null() && !thread::panicking()
}

/// Waits for `future` without blocking the thread: for synchronous code that runs inside a [`Fiber`](crate::Fiber).
///
/// The poll of the fiber returns `Pending` until `future` is ready. If the fiber is dropped meanwhile, this function
/// does not return: its stack is unwound, as by a panic that no hook sees, and `future` is dropped with it.
/// Callers must therefore not catch unwinding around it and carry on.
///
/// # Errors
///
/// [`NotInFiber`] with the untouched future. Also in destructors that run while a dropped fiber is unwound, or a panic
/// passes.
pub fn wait<F: Future>(future: F) -> Result<F::Output, NotInFiber<F>> {
    // A stack that is being unwound can't be unwound once more: to drop the fiber would abort the process.
    if thread::panicking() {
        return Err(NotInFiber(future));
    }
    // SAFETY: not null means that we stand on that fiber's stack (see `CURRENT`), whose lowest frame holds `Running`
    // and outlives ours. The reference is used within this call only. Only this thread can reach it: the pointer is
    // in a thread-local.
    let Some(running) = (unsafe { CURRENT.get().as_ref() }) else { return Err(NotInFiber(future)) };
    Ok(running.drive(pin!(future)))
}

/// A fiber seen from its own stack.
pub(crate) struct Running<'y> {
    yielder: &'y Yielder<Waker, ()>,
    /// Whom to wake: that of the latest poll.
    waker: RefCell<Waker>,
}

impl<'y> Running<'y> {
    pub(crate) fn new(yielder: &'y Yielder<Waker, ()>, waker: Waker) -> Self {
        Self { yielder, waker: RefCell::new(waker) }
    }

    /// Makes this the fiber that [`wait`] suspends. Called on its own stack, each time that control arrives there.
    pub(crate) fn enter(&self) {
        // The lifetime is erased here; `CURRENT` says why nobody uses the pointer too late.
        CURRENT.set(ptr::from_ref(self).cast());
    }

    /// Polls `future` until it is ready, and suspends the fiber in between.
    ///
    /// The context of a poll must live as long as the poll, and that may be suspended in the middle, by a [`wait`]
    /// inside. So each poll gets a waker that is on this stack, never the context of the executor.
    pub(crate) fn drive<F: Future>(&self, mut future: Pin<&mut F>) -> F::Output {
        loop {
            let waker = self.waker.borrow().clone();
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return output;
            }
            // A `wait` inside that poll may have been resumed by another task than it was suspended by; then
            // the future has given its readiness to the old one, and must hear of the new one before we sleep.
            if self.waker.borrow().will_wake(&waker) {
                self.suspend();
            }
        }
    }

    fn suspend(&self) {
        let waker = self.yielder.suspend(());
        self.enter();
        *self.waker.borrow_mut() = waker;
    }
}

/// While it lives, this thread is in no fiber, until a fiber enters; then everything is as before.
///
/// Whoever switches to a fiber's stack holds one. The fiber may be polled, or dropped, by code of another fiber: that one
/// must not be suspended from the stack of this one, and is current again afterwards, also after a panic.
pub(crate) struct Outside {
    before: *const Running<'static>,
}

impl Outside {
    pub(crate) fn new() -> Self {
        Self { before: CURRENT.replace(ptr::null()) }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        CURRENT.set(self.before);
    }
}
