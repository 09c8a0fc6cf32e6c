//! One timer for whatever comes next.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::Sleep;

use crate::proto::timers::Moment;

/// The one timer of the loop.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
    at: Option<Moment>,
}

impl Alarm {
    /// Ready at `next`, or earlier: an alarm that moves to later rings in vain once, which costs less than
    /// setting it anew with every packet. Without `next` there is no timer.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, next: Option<Moment>, now: Moment) -> Poll<()> {
        let Some(next) = next else {
            *self = Self::default();
            return Poll::Pending;
        };
        if self.at.is_none_or(|at| next < at) {
            let sleep = tokio::time::sleep(next.since(now));
            match &mut self.sleep {
                Some(armed) => armed.as_mut().set(sleep),
                None => self.sleep = Some(Box::pin(sleep)),
            }
            self.at = Some(next);
        }
        let Some(sleep) = &mut self.sleep else { return Poll::Pending };
        ready!(sleep.as_mut().poll(cx));
        self.at = None;
        Poll::Ready(())
    }
}
