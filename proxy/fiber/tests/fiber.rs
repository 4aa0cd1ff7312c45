//! The fiber's contract: it waits, wakes, ends, panics and is dropped as a future does.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use handshake_fiber::{Fiber, NotInFiber, StackPool, in_fiber, wait};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

/// The synchronous callback of the real thing: no `await` here.
fn callback<T>(receiver: oneshot::Receiver<T>) -> T {
    wait(receiver).unwrap().unwrap()
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn outside_of_a_fiber_the_future_comes_back() {
    assert!(!in_fiber());
    let NotInFiber(future) = wait(async { 7 }).unwrap_err();
    assert_eq!(poll_once(pin!(future)), Poll::Ready(7));
}

#[test]
fn a_future_that_is_ready_never_suspends() {
    let stacks = StackPool::new(4);
    let fiber = Fiber::new(&stacks, async { (in_fiber(), wait(async { 7 }).unwrap()) }).unwrap();
    assert_eq!(poll_once(pin!(fiber)), Poll::Ready((true, 7)));
    assert!(!in_fiber());
    assert_eq!(stacks.idle(), 1, "the stack came back");
}

#[test]
fn results_larger_than_a_register_pass_between_the_stacks() {
    let stacks = StackPool::new(1);
    let fiber = Fiber::new(&stacks, async { [7u8; 8000] }).unwrap();
    assert_eq!(poll_once(pin!(fiber)), Poll::Ready([7; 8000]));
}

#[tokio::test]
async fn a_thousand_fibers_wait_interleaved_and_each_gets_its_own_answer() {
    let stacks = StackPool::new(1000);
    let sum = Rc::new(Cell::new(0));
    LocalSet::new()
        .run_until(async {
            let mut senders = Vec::new();
            let mut tasks = Vec::new();
            for i in 0..1000u32 {
                let (first_sender, first) = oneshot::channel();
                let (second_sender, second) = oneshot::channel();
                senders.push((i, first_sender, second_sender));
                let sum = Rc::clone(&sum);
                let fiber = Fiber::new(&stacks, async move {
                    let first = callback(first);
                    tokio::task::yield_now().await; // the other way to be pending
                    sum.set(sum.get() + first + callback(second));
                });
                tasks.push(tokio::task::spawn_local(fiber.unwrap()));
            }
            tokio::task::yield_now().await; // all of them are suspended now
            for (i, first, second) in senders.into_iter().rev() {
                second.send(1000 * i).unwrap();
                if i % 7 == 0 {
                    tokio::task::yield_now().await;
                }
                first.send(i).unwrap();
            }
            for task in tasks {
                task.await.unwrap();
            }
        })
        .await;
    assert_eq!(sum.get(), (0..1000).map(|i| 1001 * i).sum());
    assert_eq!(stacks.idle(), 1000);
}

#[test]
fn ten_thousand_suspended_fibers_are_dropped_and_share_one_stack() {
    struct Tally(Rc<Cell<usize>>);
    impl Drop for Tally {
        fn drop(&mut self) {
            assert!(!in_fiber(), "a destructor of a dropped fiber can't wait");
            self.0.set(self.0.get() + 1);
        }
    }

    let stacks = StackPool::new(8);
    let dropped = Rc::new(Cell::new(0));
    for _ in 0..10_000 {
        let (in_the_future, on_the_stack) = (Tally(Rc::clone(&dropped)), Rc::clone(&dropped));
        let mut fiber = Fiber::new(&stacks, async move {
            let _in_the_future = in_the_future;
            let callback = move || {
                let _on_the_stack = Tally(on_the_stack);
                wait(std::future::pending::<()>()).is_ok()
            };
            callback();
            unreachable!("nothing wakes it");
        })
        .unwrap();
        assert!(poll_once(Pin::new(&mut fiber)).is_pending());
        assert_eq!(stacks.idle(), 0);
        drop(fiber);
        assert_eq!(stacks.idle(), 1);
    }
    assert_eq!(dropped.get(), 20_000);
}

#[test]
fn destructors_run_on_the_stack_of_the_fiber() {
    struct Where(Rc<Cell<usize>>);
    impl Drop for Where {
        fn drop(&mut self) {
            let here = 0u8;
            self.0.set((&raw const here).addr());
        }
    }
    let stacks = StackPool::new(1);
    let (inside, at_drop) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let (inside_too, at_drop_too) = (Rc::clone(&inside), Rc::clone(&at_drop));
    let mut fiber = Fiber::new(&stacks, async move {
        let _where = Where(at_drop_too);
        let here = 0u8;
        inside_too.set((&raw const here).addr());
        let _ = wait(std::future::pending::<()>());
    })
    .unwrap();
    assert!(poll_once(Pin::new(&mut fiber)).is_pending());
    drop(fiber);
    assert!(inside.get().abs_diff(at_drop.get()) < StackPool::STACK_SIZE);
}

#[test]
fn a_fiber_that_never_ran_gives_its_stack_and_future_back() {
    let stacks = StackPool::new(1);
    let kept = Rc::new(());
    let inside = Rc::clone(&kept);
    drop(Fiber::new(&stacks, async move { drop(inside) }).unwrap());
    assert_eq!((Rc::strong_count(&kept), stacks.idle()), (1, 1));
}

#[test]
fn a_panic_reaches_the_poller_and_the_stack_comes_back() {
    let stacks = StackPool::new(1);
    let mut fiber = Fiber::new(&stacks, async {
        let mut polls = 0;
        let twice = poll_fn(|_| {
            polls += 1;
            if polls == 2 { Poll::Ready(()) } else { Poll::Pending }
        });
        wait(twice).unwrap();
        std::panic::panic_any("boom");
    })
    .unwrap();
    assert!(poll_once(Pin::new(&mut fiber)).is_pending());
    let payload = catch_unwind(AssertUnwindSafe(|| poll_once(Pin::new(&mut fiber)))).unwrap_err();
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"boom"));
    assert!(!in_fiber(), "the panic left no trace");
    drop(fiber);
    assert_eq!(stacks.idle(), 1);
}

#[test]
fn a_fiber_is_dropped_while_its_thread_panics() {
    let stacks = StackPool::new(1);
    let kept = Rc::new(());
    let inside = Rc::clone(&kept);
    let mut fiber = Fiber::new(&stacks, async move {
        let _inside = inside;
        let _ = wait(std::future::pending::<()>());
    })
    .unwrap();
    assert!(poll_once(Pin::new(&mut fiber)).is_pending());
    let outcome = catch_unwind(AssertUnwindSafe(move || {
        let _fiber = fiber;
        std::panic::panic_any("elsewhere");
    }));
    assert_eq!(outcome.unwrap_err().downcast_ref::<&str>(), Some(&"elsewhere"));
    assert_eq!((Rc::strong_count(&kept), stacks.idle()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_timeout_cancels_a_fiber_that_waits() {
    let stacks = StackPool::new(1);
    let (sender, receiver) = oneshot::channel::<()>();
    let fiber = Fiber::new(&stacks, async move { callback(receiver) }).unwrap();
    tokio::time::timeout(Duration::from_secs(5), fiber).await.unwrap_err();
    assert!(sender.is_closed(), "the future that it waited for is gone");
    assert_eq!(stacks.idle(), 1);
}

#[tokio::test(start_paused = true)]
async fn timers_work_inside() {
    let stacks = StackPool::new(1);
    let fiber = Fiber::new(&stacks, async {
        let sleep = tokio::time::sleep(Duration::from_secs(3));
        wait(sleep).unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
    });
    let start = tokio::time::Instant::now();
    fiber.unwrap().await;
    assert!(start.elapsed() >= Duration::from_secs(6));
}

#[test]
fn the_latest_task_is_woken_even_if_it_changed_in_the_middle_of_a_poll() {
    let stacks = StackPool::new(1);
    let (answer, receiver) = oneshot::channel::<()>();
    let (done, mut outer) = oneshot::channel::<()>();
    // Registers the waker of the poll first, then waits within that same poll.
    let mut receiver = Some(receiver);
    let fiber = Fiber::new(
        &stacks,
        poll_fn(move |context| {
            let outcome = Pin::new(&mut outer).poll(context);
            if let Some(receiver) = receiver.take() {
                callback(receiver);
            }
            outcome.map(Result::unwrap)
        }),
    );
    let mut fiber = pin!(fiber.unwrap());
    let (old, new) = (Arc::new(Count::default()), Arc::new(Count::default()));
    let (old_waker, new_waker) = (Waker::from(Arc::clone(&old)), Waker::from(Arc::clone(&new)));

    assert!(fiber.as_mut().poll(&mut Context::from_waker(&old_waker)).is_pending());
    answer.send(()).unwrap();
    assert_eq!(old.0.load(Ordering::Relaxed), 1);
    assert!(fiber.as_mut().poll(&mut Context::from_waker(&new_waker)).is_pending());
    done.send(()).unwrap();
    assert_eq!((old.0.load(Ordering::Relaxed), new.0.load(Ordering::Relaxed)), (1, 1));
    assert!(fiber.as_mut().poll(&mut Context::from_waker(&new_waker)).is_ready());
}

#[test]
fn a_fiber_within_a_fiber_waits_for_itself_only() {
    let stacks = StackPool::new(2);
    let inner_stacks = stacks.clone();
    let (inner_answer, inner_receiver) = oneshot::channel();
    let (outer_answer, outer_receiver) = oneshot::channel();
    let log = Rc::new(RefCell::new(Vec::new()));
    let entries = Rc::clone(&log);
    let mut fiber = Fiber::new(&stacks, async move {
        let inner_entries = Rc::clone(&entries);
        let inner = Fiber::new(&inner_stacks, async move {
            inner_entries.borrow_mut().push("inner waits");
            callback::<()>(inner_receiver);
            inner_entries.borrow_mut().push("inner done");
        });
        inner.unwrap().await;
        // The inner one is gone; we are current again.
        callback::<()>(outer_receiver);
        entries.borrow_mut().push("outer done");
    })
    .unwrap();
    assert!(poll_once(Pin::new(&mut fiber)).is_pending());
    outer_answer.send(()).unwrap();
    assert!(poll_once(Pin::new(&mut fiber)).is_pending());
    inner_answer.send(()).unwrap();
    assert!(poll_once(Pin::new(&mut fiber)).is_ready());
    assert_eq!(*log.borrow(), ["inner waits", "inner done", "outer done"]);
}

#[test]
fn a_suspended_fiber_is_dropped_by_another_one() {
    let stacks = StackPool::new(2);
    let mut victim = Fiber::new(&stacks, async {
        struct Waits;
        impl Drop for Waits {
            fn drop(&mut self) {
                // Would suspend the wrong fiber if it could.
                assert!(wait(std::future::pending::<()>()).is_err());
            }
        }
        let _waits = Waits;
        let _ = wait(std::future::pending::<()>());
    })
    .unwrap();
    assert!(poll_once(Pin::new(&mut victim)).is_pending());
    let fiber = Fiber::new(&stacks, async move {
        drop(victim);
        in_fiber()
    });
    assert_eq!(poll_once(pin!(fiber.unwrap())), Poll::Ready(true));
    assert_eq!(stacks.idle(), 2);
}

#[test]
fn a_destructor_does_not_wait_while_a_panic_passes() {
    let mut fiber = Fiber::new(&StackPool::new(1), async {
        struct Waits;
        impl Drop for Waits {
            fn drop(&mut self) {
                let _ = wait(std::future::pending::<()>());
            }
        }
        let _waits = Waits;
        panic!("on purpose");
    })
    .unwrap();
    let polled = catch_unwind(AssertUnwindSafe(|| poll_once(Pin::new(&mut fiber)).is_pending()));
    assert!(polled.is_err(), "suspended in the middle of a panic, it could not be dropped");
}

#[test]
fn the_pool_keeps_no_more_than_it_was_told() {
    let stacks = StackPool::new(2);
    let fibers: Vec<_> = (0..5).map(|_| Fiber::new(&stacks, async {}).unwrap()).collect();
    drop(fibers);
    assert_eq!(stacks.idle(), 2);
}
