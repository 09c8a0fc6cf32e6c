//! Where log lines go: to the system's log, and to the app in batches.
//!
//! One for the process, since `tracing` has one: installed by the first [`set`], changed by the next ones.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::budget::LOG_BYTES;
use crate::clock;
use crate::platform::{self, Lines};
use crate::private::show_private;
use crate::task::RuntimeThread;

/// What is logged, and where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The most talkative level that is shown.
    pub level: LevelFilter,
    /// To logcat, the unified log, or standard error.
    pub to_system: bool,
    /// Lines name destinations and servers.
    pub shows_destinations: bool,
}

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The wall clock's time.
    pub time: SystemTime,
    /// How grave it is.
    pub level: Level,
    /// Where it comes from: `anytls_mobile::client`.
    pub target: &'static str,
    /// The line, without these.
    pub message: String,
}

/// Takes batches of lines, on a thread of its own.
pub trait Sink: Send + Sync + 'static {
    /// The next lines; `dropped` more of them had to go, the oldest, since it took too long.
    fn log(&self, batch: Vec<Record>, dropped: u64);
}

/// Why nothing is logged.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// This process logs elsewhere: another part of it was first.
    #[error("another subscriber of tracing is installed")]
    Taken,
    /// No thread for the sink.
    #[error("no thread for the log")]
    Thread(#[source] io::Error),
}

/// How long lines are gathered before the app is woken for them.
const GATHER: Duration = Duration::from_millis(100);

/// What a line costs besides its text.
const RECORD_BYTES: usize = size_of::<Record>();

static LOGGING: OnceLock<Option<Logging>> = OnceLock::new();

struct Logging {
    filter: reload::Handle<Targets, Registry>,
    levels: Mutex<Levels>,
    to_system: Arc<AtomicBool>,
    to_sink: Arc<AtomicBool>,
    /// What waits for the sink of now.
    ring: Arc<Mutex<Arc<Ring>>>,
    /// Brings the ring's lines to the sink.
    courier: Mutex<Option<RuntimeThread<()>>>,
}

struct Levels {
    app: LevelFilter,
    /// That of the config that is in effect, until the app says another.
    config: Option<LevelFilter>,
}

/// Logs as told from now on. Without a sink, lines go to the system only. The last sink hears of no line that
/// comes after this.
///
/// # Errors
/// See [`LoggingError`].
pub fn set(options: Options, sink: Option<Arc<dyn Sink>>) -> Result<(), LoggingError> {
    let logging = LOGGING.get_or_init(Logging::install).as_ref().ok_or(LoggingError::Taken)?;
    let mut courier = lock(&logging.courier);
    logging.to_sink.store(false, Ordering::Relaxed);
    *courier = None;
    if let Some(sink) = sink {
        let ring = Arc::<Ring>::default();
        *lock(&logging.ring) = Arc::clone(&ring);
        let deliver = move || async move { ring.deliver(&*sink).await };
        *courier = Some(RuntimeThread::spawn("anytls-log", deliver).map_err(LoggingError::Thread)?);
        logging.to_sink.store(true, Ordering::Relaxed);
    }
    show_private(options.shows_destinations);
    logging.to_system.store(options.to_system, Ordering::Relaxed);
    set_level(options.level);
    Ok(())
}

/// Changes the level alone, that of the config in effect included. Before [`set`], it has no effect.
pub fn set_level(level: LevelFilter) {
    change_levels(|levels| *levels = Levels { app: level, config: None });
}

/// Goes by a config's level, if it has one, and otherwise by the app's.
pub fn set_config_level(level: Option<LevelFilter>) {
    change_levels(|levels| levels.config = level);
}

fn change_levels(change: impl FnOnce(&mut Levels)) {
    let Some(Some(logging)) = LOGGING.get() else { return };
    let mut levels = lock(&logging.levels);
    change(&mut levels);
    let level = levels.config.unwrap_or(levels.app);
    let _it_lives_as_long_as_the_process = logging.filter.reload(ours_from(level));
}

impl Logging {
    /// `None` when this process logs elsewhere.
    fn install() -> Option<Self> {
        let (layer, filter) = reload::Layer::new(ours_from(LevelFilter::OFF));
        let (to_system, to_sink) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let ring = Arc::<Mutex<Arc<Ring>>>::default();
        let current = Arc::clone(&ring);
        let sink_log = Lines::new(move |metadata, line| {
            let ring = Arc::clone(&*lock(&current));
            ring.push(metadata, line);
        });
        let subscriber = Registry::default()
            .with(layer)
            .with(Switched { layer: platform::system_log(), is_on: Arc::clone(&to_system) })
            .with(Switched { layer: sink_log, is_on: Arc::clone(&to_sink) });
        tracing::subscriber::set_global_default(subscriber).ok()?;
        let levels = Mutex::new(Levels { app: LevelFilter::OFF, config: None });
        Some(Self { filter, levels, to_system, to_sink, ring, courier: Mutex::default() })
    }
}

/// Our own lines only: those of libraries name what they like.
fn ours_from(level: LevelFilter) -> Targets {
    Targets::new().with_target(env!("CARGO_CRATE_NAME"), level)
}

/// A layer that can be turned off while the process runs; spans are recorded all the same.
struct Switched<L> {
    layer: L,
    is_on: Arc<AtomicBool>,
}

impl<S: Subscriber, L: Layer<S>> Layer<S> for Switched<L> {
    fn on_new_span(
        &self,
        attributes: &tracing::span::Attributes<'_>,
        id: &tracing::span::Id,
        context: tracing_subscriber::layer::Context<'_, S>,
    ) {
        self.layer.on_new_span(attributes, id, context);
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: tracing_subscriber::layer::Context<'_, S>) {
        if self.is_on.load(Ordering::Relaxed) {
            self.layer.on_event(event, context);
        }
    }
}

/// The lines that wait for the sink, the oldest of which go when there are too many.
#[derive(Default)]
struct Ring {
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Default)]
struct Waiting {
    records: VecDeque<Record>,
    bytes: usize,
    dropped: u64,
}

impl Ring {
    fn push(&self, metadata: &'static Metadata<'static>, message: String) {
        let record =
            Record { time: clock::wall_time(), level: *metadata.level(), target: metadata.target(), message };
        lock(&self.waiting).push(record);
        self.news.notify_one();
    }

    async fn deliver(&self, sink: &dyn Sink) {
        loop {
            self.news.notified().await;
            tokio::time::sleep(GATHER).await;
            let (batch, dropped) = lock(&self.waiting).take();
            if !batch.is_empty() {
                sink.log(batch, dropped);
            }
        }
    }
}

impl Waiting {
    fn push(&mut self, record: Record) {
        self.bytes += RECORD_BYTES + record.message.len();
        self.records.push_back(record);
        while self.bytes > LOG_BYTES
            && let Some(oldest) = self.records.pop_front()
        {
            self.bytes -= RECORD_BYTES + oldest.message.len();
            self.dropped += 1;
        }
    }

    fn take(&mut self) -> (Vec<Record>, u64) {
        self.bytes = 0;
        (mem::take(&mut self.records).into(), mem::take(&mut self.dropped))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
