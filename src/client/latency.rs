//! How long the server takes, step by step.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::driver::Driver;
use super::link::Link;
use super::runner::Runner;
use super::status::Latency;
use super::{OpenError, Stream};
use crate::clock::Alarm;
use crate::proto::session::{SessionError, StreamError};
use crate::proto::target::Target;
use crate::transport::{Dial, DialTimes};

/// How long a server may take to wind up the first stream: it sees the target's end of it, too. A guess.
const PATIENCE: Duration = Duration::from_secs(2);

/// The time between two attempts at a second stream.
const PAUSE: Duration = Duration::from_millis(20);

/// Dials a session that the pool does not see, and opens two streams on it: where the other sessions are dialled,
/// whoever asks. Dropping the future ends it.
pub(super) async fn measure<D: Dial>(runner: &Arc<Runner<D>>, target: &Target) -> Result<Latency, OpenError> {
    let (mut sender, latency) = oneshot::channel();
    let (theirs, target) = (Arc::clone(runner), target.clone());
    runner.spawn_measurement(async move {
        tokio::select! {
            () = sender.closed() => {} // nobody waits any more
            result = measure_here(&theirs, &target) => {
                let _gave_up = sender.send(result);
            }
        }
    });
    latency.await.unwrap_or(Err(OpenError::Stopped))
}

async fn measure_here<D: Dial>(runner: &Arc<Runner<D>>, target: &Target) -> Result<Latency, OpenError> {
    let (wire, DialTimes { connect, handshake }) = runner.connect().await.map_err(OpenError::Dial)?;
    let (link, generator) = runner.session(connect);
    let mut driver = Driver::new(wire, Arc::clone(&link), generator, |_| ());
    let streams = async {
        let first_stream = open(&link, target).await?;
        let warm_stream = open_warm(&link, target).await?;
        Ok(Latency { tcp: connect, tls: handshake, first_stream, warm_stream })
    };
    let result: Result<_, StreamError> = tokio::select! {
        result = streams => result,
        reason = &mut driver => return Err(StreamError::Session(reason).into()),
    };
    link.fail(SessionError::Closed);
    driver.await;
    result.map_err(OpenError::from)
}

/// Some servers take no stream while they wind up the one before.
async fn open_warm(link: &Arc<Link>, target: &Target) -> Result<Duration, StreamError> {
    let (clock, mut alarm) = (link.clock(), Alarm::default());
    let patience = clock.now() + PATIENCE;
    loop {
        match open(link, target).await {
            Err(StreamError::SessionFull(_)) if clock.now() < patience => {
                let due = clock.now() + PAUSE;
                poll_fn(|cx| alarm.poll(cx, Some(due), clock)).await;
            }
            result => return result,
        }
    }
}

async fn open(link: &Arc<Link>, target: &Target) -> Result<Duration, StreamError> {
    let clock = link.clock();
    let begin = clock.now();
    let stream = Stream::open(Arc::clone(link), target, &[])?;
    stream.opened().await?;
    Ok(clock.now().since(begin))
}
