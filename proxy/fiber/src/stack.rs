use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use corosensei::stack::DefaultStack;

/// Stacks for the fibers of one thread, used again and again.
///
/// A stack is [`StackPool::STACK_SIZE`] of address space, of which the kernel backs what was touched, and a guard page
/// below it: code that needs more dies by SIGSEGV instead of overwriting its neighbour. Cloning shares the pool.
#[derive(Clone)]
pub struct StackPool {
    shared: Rc<Shared>,
}

struct Shared {
    idle: RefCell<Vec<DefaultStack>>,
    keep: usize,
}

impl StackPool {
    /// Usable bytes of each stack. A TLS handshake with X25519MLKEM768 touches 60 KiB of it in a debug build.
    pub const STACK_SIZE: usize = 128 * 1024;

    /// A pool that keeps at most `keep` stacks that no fiber uses; it starts with none.
    pub fn new(keep: usize) -> Self {
        Self { shared: Rc::new(Shared { idle: RefCell::new(Vec::new()), keep }) }
    }

    /// How many stacks wait to be used again.
    pub fn idle(&self) -> usize {
        self.shared.idle.borrow().len()
    }

    /// An idle stack, or a new one.
    pub(crate) fn take(&self) -> io::Result<DefaultStack> {
        let idle = self.shared.idle.borrow_mut().pop();
        idle.map_or_else(|| DefaultStack::new(Self::STACK_SIZE), Ok)
    }

    /// Takes back a stack on which nothing lives any more.
    pub(crate) fn put(&self, stack: DefaultStack) {
        let mut idle = self.shared.idle.borrow_mut();
        if idle.len() < self.shared.keep {
            idle.push(stack);
        }
    }
}
