//! Tasks and threads with a name and an owner, who ends them: the one place that spawns.

mod handover;
mod thread;

use std::any::Any;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tracing::{Instrument, Span, debug_span};

pub(crate) use thread::{RuntimeThread, block_on, detach};

/// Why a thread has no result.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TaskError {
    /// A bug of ours.
    #[error("{name} panicked: {message}")]
    Panicked { name: &'static str, message: String },
    /// Its owner ended it.
    #[error("{name} was ended early")]
    Aborted { name: &'static str },
    /// The owner has stopped waiting for it.
    #[error("{name} had not ended in time")]
    Late { name: &'static str },
}

impl TaskError {
    fn from_panic(name: &'static str, payload: &(dyn Any + Send)) -> Self {
        let message = match (payload.downcast_ref::<String>(), payload.downcast_ref::<&str>()) {
            (Some(message), _) => message.clone(),
            (None, Some(message)) => (*message).to_owned(),
            (None, None) => "no message".to_owned(),
        };
        Self::Panicked { name, message }
    }
}

/// The tasks of one owner. Dropping it aborts them.
///
/// They run on the runtime in which the set was made, whoever spawns them.
#[derive(Debug)]
pub(crate) struct Tasks {
    runtime: Handle,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    running: Mutex<Running>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct Running {
    last_id: u64,
    tasks: HashMap<u64, (&'static str, AbortHandle)>,
    panics: u64,
}

impl Tasks {
    /// An empty set on the current runtime.
    pub(crate) fn new() -> Self {
        Self { runtime: Handle::current(), shared: Arc::default() }
    }

    /// Starts a task. A panic in it ends this task alone, and is logged and counted.
    pub(crate) fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_in(span(name), name, task);
    }

    /// The same in a span of the caller's, which says which of many this task is, and should be a root: what
    /// happens to spawn a task is no part of it.
    #[allow(clippy::disallowed_methods)] // this is the one place
    pub(crate) fn spawn_in(
        &self,
        span: Span,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let mut running = self.shared.lock();
        running.last_id += 1;
        let id = running.last_id;
        let entry = Entry { shared: Arc::clone(&self.shared), id, name, is_polled: false };
        let handle = self.runtime.spawn(Listed { task, entry }.instrument(span));
        running.tasks.insert(id, (name, handle.abort_handle()));
    }

    /// Aborts the tasks with this name. They are gone once [`join`](Self::join) says so.
    pub(crate) fn cancel(&self, name: &str) {
        for (_, (_, task)) in self.shared.lock().tasks.iter().filter(|(_, (of, _))| *of == name) {
            task.abort();
        }
    }

    /// Aborts every task.
    pub(crate) fn cancel_all(&self) {
        for (_, task) in self.shared.lock().tasks.values() {
            task.abort();
        }
    }

    /// Waits until no task is left.
    pub(crate) async fn join(&self) {
        loop {
            let ended = self.shared.ended.notified();
            if self.shared.lock().tasks.is_empty() {
                return;
            }
            ended.await;
        }
    }

    /// How many tasks are left.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.shared.lock().tasks.len()
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.cancel_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pin_project! {
    /// A task on the list. An async block around it would take twice its memory: what is awaited is moved.
    struct Listed<T> {
        #[pin]
        task: T,
        entry: Entry, // dropped last
    }
}

impl<T: Future<Output = ()>> Future for Listed<T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let listed = self.project();
        listed.entry.is_polled = true;
        let poll = listed.task.poll(cx);
        listed.entry.is_polled = false;
        poll
    }
}

/// Takes its task off the list however that ends, so that its memory is free at once.
struct Entry {
    shared: Arc<Shared>,
    id: u64,
    name: &'static str,
    /// Stays when the task panics.
    is_polled: bool,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut running = self.shared.lock();
        // A task that ended before its handle was listed cannot be: the list is locked while it is spawned.
        let entry = running.tasks.remove(&self.id);
        if self.is_polled || std::thread::panicking() {
            running.panics += 1;
            tracing::error!(task = self.name, "task panicked");
        }
        drop(running);
        drop(entry);
        self.shared.ended.notify_waiters();
    }
}

fn span(name: &'static str) -> Span {
    debug_span!(parent: None, "task", name)
}

#[cfg(test)]
mod tests {
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::*;

    #[tokio::test]
    async fn a_task_that_ended_or_panicked_is_off_the_list() {
        let tasks = Tasks::new();
        tasks.spawn("ends", async {});
        tasks.spawn("panics", async { panic!("on purpose") });
        tasks.join().await;
        assert_eq!(tasks.count(), 0);
        assert_eq!(tasks.shared.lock().panics, 1);
    }

    /// Hears which spans have a parent.
    #[derive(Default)]
    struct Spans(Arc<Mutex<Vec<(&'static str, bool)>>>);

    impl Subscriber for Spans {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, span: &Attributes<'_>) -> Id {
            self.0.lock().unwrap().push((span.metadata().name(), span.is_root()));
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, _: &Event<'_>) {}

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    #[tokio::test]
    async fn a_tasks_span_is_a_root_whoever_spawned_it() {
        let spans = Spans::default();
        let seen = Arc::clone(&spans.0);
        let _listening = tracing::subscriber::set_default(spans);
        let tasks = Arc::new(Tasks::new());
        let spawns = Arc::clone(&tasks);
        tasks.spawn("outer", async move { spawns.spawn("inner", async {}) });
        tasks.join().await;
        assert_eq!(*seen.lock().unwrap(), [("task", true), ("task", true)]);
    }

    #[tokio::test]
    async fn cancelling_a_name_leaves_the_others() {
        let tasks = Tasks::new();
        tasks.spawn("one", std::future::pending());
        tasks.spawn("other", std::future::pending());
        tasks.cancel("one");
        while tasks.count() > 1 {
            tokio::task::yield_now().await;
        }
        tasks.cancel_all();
        tasks.join().await;
    }

    #[test]
    fn a_listed_task_is_held_once() {
        let held = [0_u8; 4096];
        let task = async move {
            std::future::pending::<()>().await;
            std::hint::black_box(&held);
        };
        let alone = size_of_val(&task);
        let entry = Entry { shared: Arc::default(), id: 1, name: "large", is_polled: false };
        let listed = Listed { task, entry };
        assert!(size_of_val(&listed) < alone + 100, "{} for {alone}", size_of_val(&listed));
    }

    #[tokio::test]
    async fn dropping_the_set_drops_what_its_tasks_hold() {
        let held = Arc::new(());
        let tasks = Tasks::new();
        let theirs = Arc::clone(&held);
        tasks.spawn("holds", async move {
            std::future::pending::<()>().await;
            drop(theirs);
        });
        drop(tasks);
        while Arc::strong_count(&held) > 1 {
            tokio::task::yield_now().await;
        }
    }
}
