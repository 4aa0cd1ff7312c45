use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult};

use crate::stack::StackPool;
use crate::wait::{Outside, Running};

/// A future that runs on a stack of its own; inside it, [`wait`](crate::wait) works.
///
/// It is neither `Send` nor lazy about its thread: it stays where it was made. Dropping a fiber that waits unwinds its
/// stack, so that everything on it is dropped, and gives the stack back to the pool; that needs `panic = "unwind"`.
/// A panic inside reaches whoever polls the fiber.
///
/// ```compile_fail
/// fn send<T: Send>(_: T) {}
/// send(handshake_fiber::Fiber::new(&handshake_fiber::StackPool::new(1), async {}).unwrap());
/// ```
pub struct Fiber<F: Future + 'static> {
    /// `None` once the future has returned. The result is boxed because it is passed between the stacks
    /// by value.
    coroutine: Option<Coroutine<Waker, (), Box<F::Output>>>,
    stacks: StackPool,
}

impl<F: Future + 'static> Fiber<F> {
    /// A fiber that will run `future`; nothing runs before it is polled.
    ///
    /// # Errors
    ///
    /// The kernel has no memory, or no mapping left (`vm.max_map_count`), for another stack.
    pub fn new(stacks: &StackPool, future: F) -> io::Result<Self> {
        let stack = stacks.take()?;
        // Boxed here, because the closure is copied by value to the new stack and must be small for that.
        let mut future = Box::pin(future);
        let coroutine = Coroutine::with_stack(stack, move |yielder, waker| {
            let running = Running::new(yielder, waker);
            running.enter();
            Box::new(running.drive(future.as_mut()))
        });
        Ok(Self { coroutine: Some(coroutine), stacks: stacks.clone() })
    }
}

impl<F: Future + 'static> Future for Fiber<F> {
    type Output = F::Output;

    /// # Panics
    ///
    /// If the future inside panics, with its payload; and if the fiber is polled after it has returned or panicked.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        let Some(coroutine) = &mut this.coroutine else { panic!("fiber polled after it had finished") };
        let resumed = {
            let _outside = Outside::new();
            // A panic passes through here; `drop` then finds a coroutine that is done.
            coroutine.resume(context.waker().clone())
        };
        match resumed {
            CoroutineResult::Yield(()) => Poll::Pending,
            CoroutineResult::Return(output) => {
                this.finish();
                Poll::Ready(*output)
            }
        }
    }
}

// The future lives in a box of its own, and the coroutine is only a handle to its stack.
impl<F: Future + 'static> Unpin for Fiber<F> {}

impl<F: Future + 'static> Fiber<F> {
    /// Ends the coroutine, by unwinding its stack if something lives on it, and gives the stack back.
    fn finish(&mut self) {
        let Some(mut coroutine) = self.coroutine.take() else { return };
        {
            let _outside = Outside::new();
            coroutine.force_unwind();
        }
        let stack: DefaultStack = coroutine.into_stack();
        self.stacks.put(stack);
    }
}

impl<F: Future + 'static> Drop for Fiber<F> {
    fn drop(&mut self) {
        self.finish();
    }
}
