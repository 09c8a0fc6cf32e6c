//! A thread with a runtime, which runs one future.

use std::convert::Infallible;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::oneshot;
use tracing::Instrument;

use super::handover::{NoValue, Taker, handover};
use super::{TaskError, span};
use crate::budget::{MAX_LOOKUPS, STACK_BYTES};

/// Runs `work`, which ends by itself, on a thread that nobody waits for.
///
/// # Errors
/// When the OS has no thread left; `work` has not run then.
pub(crate) fn detach(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(work).map(drop)
}

/// Runs a future that needs no timer and no I/O of a runtime to its end on this thread.
///
/// # Errors
/// When the OS refuses what waiting takes.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> io::Result<T> {
    Ok(Builder::new_current_thread().build()?.block_on(future))
}

/// An OS thread that runs one future and its tasks to the end of the future.
///
/// Dropping this ends the future at its next await, and waits for nothing.
#[derive(Debug)]
#[must_use = "the future is ended when its owner drops this"]
pub(crate) struct RuntimeThread<T> {
    name: &'static str,
    thread: JoinHandle<()>,
    outcome: Taker<Result<T, TaskError>>,
    /// Never sent to: the future is ended when it closes.
    _owner: oneshot::Sender<Infallible>,
}

impl<T: Send + 'static> RuntimeThread<T> {
    /// Starts a thread; `make` makes the future on it, so that neither the future nor its tasks need to be
    /// `Send`. Returns once the runtime stands.
    ///
    /// # Errors
    /// When the OS has no thread or no descriptors left.
    pub(crate) fn spawn<F: Future<Output = T>>(
        name: &'static str,
        make: impl FnOnce() -> F + Send + 'static,
    ) -> io::Result<Self> {
        let (started, start) = handover();
        let (ended, outcome) = handover();
        let (owner, owner_gone) = oneshot::channel();
        let main = move || match runtime(name) {
            Ok(runtime) => {
                started.give(Ok(()));
                ended.give(run(name, runtime, make, owner_gone));
            }
            Err(error) => {
                drop(make); // and all that it owns, before anybody hears of it
                started.give(Err(error));
            }
        };
        let thread = thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(main)?;
        start
            .take(Duration::MAX)
            .unwrap_or_else(|_| Err(io::Error::other("the thread panicked at its start")))?;
        Ok(Self { name, thread, outcome, _owner: owner })
    }

    /// Waits until the future has ended and all it owned and spawned is dropped, and the thread is gone.
    /// Blocks the calling thread.
    ///
    /// # Errors
    /// [`TaskError::Late`] after `limit`: the thread then ends at its next await, if it comes to one.
    pub(crate) fn join(self, limit: Duration) -> Result<T, TaskError> {
        match self.outcome.take(limit) {
            Ok(outcome) => {
                // It has nothing left to do, and no panic to report.
                let _ = self.thread.join();
                outcome
            }
            Err(NoValue::Late) => Err(TaskError::Late { name: self.name }),
            Err(NoValue::Gone) => Err(TaskError::Aborted { name: self.name }),
        }
    }

    /// The same without blocking, in any runtime or none: the waiting is done by a thread of its own,
    /// since the timer of a runtime that hangs is no help.
    ///
    /// # Errors
    /// As [`join`](Self::join); also [`TaskError::Late`] when the OS has no thread left.
    ///
    /// # Cancel safety
    /// Dropped, it leaves the waiting thread to its `limit`.
    pub(crate) async fn join_async(self, limit: Duration) -> Result<T, TaskError> {
        let name = self.name;
        let (joined, outcome) = oneshot::channel();
        let waiter = move || {
            let _ = joined.send(self.join(limit));
        };
        // Without a thread the closure is dropped, and the channel with it.
        let _ = detach(&format!("{name}-join"), waiter);
        outcome.await.unwrap_or(Err(TaskError::Late { name }))
    }
}

fn runtime(name: &'static str) -> io::Result<LocalRuntime> {
    Builder::new_current_thread()
        .enable_all()
        .thread_name(format!("{name}-block"))
        .thread_stack_size(STACK_BYTES)
        .max_blocking_threads(MAX_LOOKUPS) // the only calls that block
        .build_local(LocalOptions::default())
}

fn run<T, F: Future<Output = T>>(
    name: &'static str,
    runtime: LocalRuntime,
    make: impl FnOnce() -> F,
    owner_gone: oneshot::Receiver<Infallible>,
) -> Result<T, TaskError> {
    let main = async {
        tokio::select! {
            biased; // a result that is there counts, even when nobody waits for it any more
            result = make() => Ok(result),
            _ = owner_gone => Err(TaskError::Aborted { name }),
        }
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(main.instrument(span(name)))));
    // Drops the tasks, but does not wait for a name look-up that hangs.
    runtime.shutdown_background();
    outcome.unwrap_or_else(|payload| Err(TaskError::from_panic(name, &*payload)))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs;
    use std::future::pending;
    use std::process::Command;
    use std::rc::Rc;
    use std::sync::mpsc::{self, RecvTimeoutError};

    use tokio::net::UdpSocket;

    use super::*;
    use crate::task::Tasks;

    /// Longer than any machine needs: only a hang reaches it.
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn future_need_not_be_send() {
        let thread = RuntimeThread::spawn("local", || {
            let shared = Rc::new(Cell::new(1));
            async move {
                let inner = Rc::clone(&shared);
                inner.set(2);
                tokio::task::yield_now().await;
                40 + shared.get()
            }
        });
        assert_eq!(thread.unwrap().join(LONG), Ok(42));
    }

    #[test]
    fn panic_of_the_future_is_an_error() {
        let thread = RuntimeThread::spawn("unlucky", || async { panic!("out of luck") });
        let outcome: Result<(), TaskError> = thread.unwrap().join(LONG);
        let message = "out of luck".to_owned();
        assert_eq!(outcome, Err(TaskError::Panicked { name: "unlucky", message }));
    }

    #[test]
    fn everything_is_dropped_before_join_returns() {
        let (held, dropped) = mpsc::sync_channel::<()>(1);
        let thread = RuntimeThread::spawn("holder", move || async move {
            let tasks = Tasks::new();
            tasks.spawn("forever", async move {
                let _held = held;
                pending::<()>().await;
            });
            tokio::task::yield_now().await;
            std::mem::forget(tasks);
        });
        thread.unwrap().join(LONG).unwrap();
        assert_eq!(dropped.try_recv(), Err(mpsc::TryRecvError::Disconnected));
    }

    #[test]
    fn stuck_thread_is_late_and_ends_at_its_next_await() {
        let (release, stuck) = mpsc::sync_channel::<()>(1);
        let (held, dropped) = mpsc::sync_channel::<()>(1);
        let thread = RuntimeThread::spawn("stuck", move || async move {
            let _held = held;
            stuck.recv().unwrap();
            pending::<()>().await;
        });
        assert_eq!(thread.unwrap().join(Duration::ZERO), Err(TaskError::Late { name: "stuck" }));
        release.send(()).unwrap();
        assert_eq!(dropped.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
    }

    #[test]
    fn dropped_thread_ends_its_future() {
        let (held, dropped) = mpsc::sync_channel::<()>(1);
        let thread = RuntimeThread::spawn("forever", move || async move {
            let _held = held;
            pending::<()>().await;
        });
        drop(thread.unwrap());
        assert_eq!(dropped.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
    }

    #[test]
    fn blocking_call_that_hangs_does_not_hold_the_thread() {
        let (release, hang) = mpsc::sync_channel::<()>(1);
        let thread = RuntimeThread::spawn("hanging", move || async move {
            let call = tokio::task::spawn_blocking(move || hang.recv());
            tokio::task::yield_now().await;
            drop(call);
        });
        thread.unwrap().join(LONG).unwrap();
        drop(release);
    }

    #[tokio::test]
    async fn join_without_blocking_gives_the_same() {
        let thread = RuntimeThread::spawn("quick", || async { 7 }).unwrap();
        assert_eq!(thread.join_async(LONG).await, Ok(7));
        let (_release, stuck) = mpsc::sync_channel::<()>(1);
        let thread = RuntimeThread::spawn("stuck", move || async move { stuck.recv() }).unwrap();
        assert_eq!(thread.join_async(Duration::ZERO).await, Err(TaskError::Late { name: "stuck" }));
    }

    /// Counts in a process of its own, since other tests open descriptors and threads too.
    #[test]
    fn thousand_threads_leave_no_descriptor_and_no_thread_behind() {
        const ALONE: &str = "COUNTING_ALONE";
        let count = |what: &str| fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
        if std::env::var_os(ALONE).is_none() {
            let this = "task::thread::tests::thousand_threads_leave_no_descriptor_and_no_thread_behind";
            let output = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", this])
                .env(ALONE, "1")
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
            return;
        }
        let cycle = || {
            let thread = RuntimeThread::spawn("cycle", || async {
                let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                let tasks = Tasks::new();
                tasks.spawn("reader", async move { drop(socket.readable().await) });
                tokio::task::yield_now().await;
            });
            thread.unwrap().join(LONG).unwrap();
        };
        // The first leaves what tokio makes once a process.
        cycle();
        // The kernel lists a thread for a moment after it has been joined.
        let threads = || (0..10_000).map(|_| count("task")).inspect(|_| thread::yield_now()).min();
        let before = (count("fd"), threads());
        (0..1000).for_each(|_| cycle());
        assert_eq!((count("fd"), threads()), before);
    }
}
