//! The one place that reads a clock.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, Sleep, sleep_until};

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
                static ORIGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
                let now = Instant::now();
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

thread_local! {
    static WHEEL_START: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Notes that this thread's runtime has just been made, from which its timers count.
pub(crate) fn start_wheel() {
    // They are rounded up to whole milliseconds: half of one for the time since.
    WHEEL_START.set(now_on_wheel().checked_sub(Duration::from_micros(500)));
}

#[allow(clippy::disallowed_methods)] // tokio's timers go by its own clock
fn now_on_wheel() -> Instant {
    Instant::now()
}

/// As far ahead as a timer is set. A sum with more could leave the clock's range.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// The moment from `due` on, and at most `slack` later, for which the thread is woken least.
///
/// tokio keeps timers in slots of 1 ms, 64 ms and 4096 ms, and wakes at the beginning of a slot to put them into
/// smaller ones: three times for a timer of 30 s, unless it is due when the first of these slots begins. Were
/// tokio to change that, timers would ring no later, only the thread would wake more often.
fn calm(due: Instant, slack: Duration) -> Instant {
    let Some(start) = WHEEL_START.get() else { return due };
    let due_ms = due.saturating_duration_since(start).as_nanos().div_ceil(1_000_000);
    [4096, 64]
        .into_iter()
        .filter_map(|slot| u64::try_from(due_ms.next_multiple_of(slot)).ok())
        .map(|ms| start + Duration::from_millis(ms))
        .find(|&later| later <= due + slack)
        .unwrap_or(due)
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
    pub fn poll(&mut self, cx: &mut Context<'_>, deadline: Option<Moment>, clock: Clock) -> Poll<()> {
        self.poll_within(cx, deadline, Duration::ZERO, clock)
    }

    /// The same for a deadline that can wait for up to `slack`: it does where that spares the thread a wake-up.
    pub fn poll_within(
        &mut self,
        cx: &mut Context<'_>,
        deadline: Option<Moment>,
        slack: Duration,
        clock: Clock,
    ) -> Poll<()> {
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
                let at = calm(now_on_wheel() + due.since(clock.now()).min(FAR), slack);
                match &mut self.sleep {
                    Some(sleep) => sleep.as_mut().reset(at),
                    None => self.sleep = Some(Box::pin(sleep_until(at))),
                }
                self.deadline = deadline;
            }
            let Some(sleep) = &mut self.sleep else { return Poll::Pending };
            ready!(sleep.as_mut().poll(cx));
            self.deadline = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(seconds: u64, slack: u64) -> Duration {
        let start = WHEEL_START.get().expect("a wheel");
        calm(start + Duration::from_secs(seconds), Duration::from_millis(slack)) - start
    }

    #[test]
    fn a_timer_waits_for_the_beginning_of_the_largest_slot_that_its_slack_allows() {
        let due = now_on_wheel() + Duration::from_secs(30);
        assert_eq!(calm(due, Duration::from_secs(4)), due, "where nobody knows the slots");
        start_wheel();
        assert_eq!(after(30, 3750), Duration::from_millis(8 * 4096));
        assert_eq!(after(30, 2000), Duration::from_millis(469 * 64));
        assert_eq!(after(30, 0), Duration::from_secs(30));
        assert_eq!(after(512, 0), Duration::from_millis(125 * 4096), "it is one");
    }
}
