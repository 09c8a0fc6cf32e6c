//! The one place that reads a clock.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use tokio::time::Sleep;

use crate::platform;
use crate::proto::timers::Moment;

/// Tells what time it is on the tunnel's clock.
///
/// Ages and idle times must count the hours a phone sleeps, which `std::time::Instant` and tokio's
/// timers do not, so the real clock is the one that runs in suspend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The OS clock that also runs in suspend (`CLOCK_BOOTTIME`, `mach_continuous_time`).
    Boot,
    /// tokio's clock, which a paused runtime moves by hand: for tests in virtual time.
    Tokio,
}

impl Clock {
    /// The present moment.
    #[allow(clippy::disallowed_methods)] // this is the one place
    pub fn now(self) -> Moment {
        match self {
            Self::Boot => Moment::from_origin(platform::boot_time()),
            Self::Tokio => {
                static ORIGIN: std::sync::OnceLock<tokio::time::Instant> = std::sync::OnceLock::new();
                let now = tokio::time::Instant::now();
                // Another runtime's paused clock may stand before the first one's origin.
                let origin = *ORIGIN.get_or_init(|| now - Duration::from_secs(3600));
                Moment::from_origin(now.saturating_duration_since(origin))
            }
        }
    }
}

/// The wall clock's time, for people to read: it jumps.
#[allow(clippy::disallowed_methods)] // this is the one place
pub(crate) fn wall_time() -> SystemTime {
    SystemTime::now()
}

/// A timer for one deadline that moves: the async shells' only way to wait.
#[derive(Debug, Default)]
pub struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
    deadline: Option<Moment>,
}

impl Alarm {
    /// What the alarm was last set to.
    pub fn deadline(&self) -> Option<Moment> {
        self.deadline
    }

    /// Sets the alarm, and is ready once `deadline` has passed on `clock`. Without a deadline it is never
    /// ready and costs no timer.
    #[allow(clippy::disallowed_methods)] // tokio's timers go by its own clock
    pub fn poll(&mut self, cx: &mut Context<'_>, deadline: Option<Moment>, clock: Clock) -> Poll<()> {
        let Some(due) = deadline else {
            *self = Self::default();
            return Poll::Pending;
        };
        loop {
            if clock.now() >= due {
                *self = Self::default(); // be it that tokio's clock has not got there: the device may have slept
                return Poll::Ready(());
            }
            if self.deadline != deadline || self.sleep.is_none() {
                let wait = due.since(clock.now());
                match &mut self.sleep {
                    Some(sleep) => sleep.as_mut().reset(tokio::time::Instant::now() + wait),
                    None => self.sleep = Some(Box::pin(tokio::time::sleep(wait))),
                }
                self.deadline = deadline;
            }
            let Some(sleep) = &mut self.sleep else { return Poll::Pending };
            ready!(sleep.as_mut().poll(cx));
            self.deadline = None;
        }
    }
}
