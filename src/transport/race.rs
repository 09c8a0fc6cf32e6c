//! Happy eyeballs (RFC 8305): addresses raced with a head start for each before the next.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;

use super::error::{DialError, DialStage};

/// The head start that each address has before the next one is tried as well (RFC 8305, section 5).
pub(super) const STAGGER: Duration = Duration::from_millis(250);

/// Connects to `addresses` in their order, and returns the first connection that is made.
///
/// An attempt that fails starts the next one at once, except that a refusal to protect ends them all. When
/// all have failed, the error is the last one. Losers, and on a drop all of them, are dropped where they
/// are.
///
/// # Errors
/// [`DialError::Timeout`] when nothing was decided within `limit`.
pub(super) async fn race<T, F: Future<Output = Result<T, DialError>>>(
    addresses: Vec<SocketAddr>,
    limit: Duration,
    mut connect: impl FnMut(SocketAddr) -> F,
) -> Result<T, DialError> {
    let race = async {
        let mut waiting = addresses.into_iter();
        let mut running: Vec<Pin<Box<F>>> = Vec::new();
        loop {
            let outcome = match waiting.next() {
                Some(address) => {
                    running.push(Box::pin(connect(address)));
                    let Ok(outcome) = timeout(STAGGER, first(&mut running)).await else { continue };
                    outcome
                }
                None => first(&mut running).await,
            };
            match outcome {
                Err(error) if !running.is_empty() || waiting.len() > 0 => {
                    if matches!(error, DialError::Protect(_)) {
                        return Err(error);
                    }
                }
                last => return last,
            }
        }
    };
    let late = DialError::Timeout { stage: DialStage::Connect, limit };
    timeout(limit, race).await.unwrap_or(Err(late))
}

/// Waits for one of `running` to end, and takes it out.
async fn first<F: Future>(running: &mut Vec<Pin<Box<F>>>) -> F::Output {
    poll_fn(|cx| {
        for index in 0..running.len() {
            if let Poll::Ready(output) = running[index].as_mut().poll(cx) {
                drop(running.remove(index));
                return Poll::Ready(output);
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io;
    use std::sync::Arc;

    use tokio::time::{Instant, sleep};

    use super::super::protect::ProtectError;
    use super::*;

    /// What one address does, and after how many milliseconds.
    #[derive(Clone, Copy)]
    enum Does {
        Connect(u64),
        Refuse(u64),
        FailToProtect,
        Hang,
    }

    struct Outcome {
        result: Result<u16, DialError>,
        took: Duration,
        /// Each address that was tried, and when.
        tried: Vec<(u16, u64)>,
        /// Connects that neither ended nor were dropped.
        alive: usize,
    }

    /// Races addresses whose port is their place in `script`.
    async fn run(script: &[Does]) -> Outcome {
        let start = Instant::now();
        let alive = Arc::new(());
        let tried = RefCell::new(Vec::new());
        let ports = 0..u16::try_from(script.len()).unwrap();
        let addresses = ports.map(|port| SocketAddr::from(([192, 0, 2, 1], port))).collect();
        let result = race(addresses, Duration::from_secs(5), |address| {
            let millis = u64::try_from(start.elapsed().as_millis()).unwrap();
            tried.borrow_mut().push((address.port(), millis));
            let (does, alive) = (script[usize::from(address.port())], Arc::clone(&alive));
            async move {
                let _alive = alive;
                match does {
                    Does::Connect(millis) => {
                        sleep(Duration::from_millis(millis)).await;
                        Ok(address.port())
                    }
                    Does::Refuse(millis) => {
                        sleep(Duration::from_millis(millis)).await;
                        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
                        Err(DialError::Connect { address, source: Arc::new(refused) })
                    }
                    Does::FailToProtect => Err(DialError::Protect(ProtectError::Refused)),
                    Does::Hang => std::future::pending().await,
                }
            }
        })
        .await;
        let alive = Arc::strong_count(&alive) - 1;
        Outcome { result, took: start.elapsed(), tried: tried.into_inner(), alive }
    }

    #[tokio::test(start_paused = true)]
    async fn a_quick_first_address_is_the_only_one_tried() {
        let outcome = run(&[Does::Connect(249), Does::Connect(0)]).await;
        assert_eq!(outcome.result.unwrap(), 0);
        assert_eq!(outcome.tried, [(0, 0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn each_address_has_a_head_start_and_the_first_to_connect_wins() {
        let outcome = run(&[Does::Hang, Does::Connect(400), Does::Connect(100), Does::Hang]).await;
        assert_eq!(outcome.result.unwrap(), 2);
        assert_eq!(outcome.tried, [(0, 0), (1, 250), (2, 500)]);
        assert_eq!(outcome.alive, 0, "the losers were dropped");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_first_address_still_wins_while_the_second_runs() {
        let outcome = run(&[Does::Connect(300), Does::Connect(100)]).await;
        assert_eq!(outcome.result.unwrap(), 0);
        assert_eq!(outcome.tried, [(0, 0), (1, 250)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_starts_the_next_address_at_once() {
        let outcome = run(&[Does::Refuse(10), Does::Refuse(0), Does::Connect(5)]).await;
        assert_eq!(outcome.result.unwrap(), 2);
        assert_eq!(outcome.tried, [(0, 0), (1, 10), (2, 10)]);
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_fail_the_last_failure_is_told() {
        let outcome = run(&[Does::Refuse(600), Does::Refuse(0), Does::Refuse(10)]).await;
        let Err(DialError::Connect { address, .. }) = outcome.result else { panic!("{:?}", outcome.result) };
        assert_eq!(address.port(), 0);
        assert_eq!(outcome.took, Duration::from_millis(600));
    }

    #[tokio::test(start_paused = true)]
    async fn one_unprotected_socket_ends_the_race() {
        let outcome = run(&[Does::Hang, Does::FailToProtect, Does::Connect(0)]).await;
        assert!(matches!(outcome.result, Err(DialError::Protect(ProtectError::Refused))));
        assert_eq!(outcome.tried, [(0, 0), (1, 250)]);
        assert_eq!(outcome.alive, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_a_timeout_of_the_connect() {
        let outcome = run(&[Does::Hang, Does::Refuse(0), Does::Hang]).await;
        assert!(matches!(outcome.result, Err(DialError::Timeout { stage: DialStage::Connect, .. })));
        assert_eq!(outcome.took, Duration::from_secs(5));
        assert_eq!(outcome.alive, 0);
    }
}
