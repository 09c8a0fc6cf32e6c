//! Keeps a panic from reaching the app: in Swift, one that crosses the border ends the process.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use super::TunnelError;
use crate::private::Private;

/// Runs `call`; a panic in it is an error.
pub(super) fn shielded<T>(call: impl FnOnce() -> Result<T, TunnelError>) -> Result<T, TunnelError> {
    // Nothing that a panic left half done is used again without its lock, and locks recover.
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| Err(internal(&*panic)))
}

/// The same for a call that has no error to give.
pub(super) fn shielded_or<T>(fallback: T, call: impl FnOnce() -> T) -> T {
    shielded(|| Ok(call())).unwrap_or(fallback)
}

/// The same for a future.
pub(super) async fn shielded_async<T>(
    call: impl Future<Output = Result<T, TunnelError>>,
) -> Result<T, TunnelError> {
    let mut call = pin!(call);
    poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx)));
        polled.unwrap_or_else(|panic| Poll::Ready(Err(internal(&*panic))))
    })
    .await
}

fn internal(panic: &(dyn Any + Send)) -> TunnelError {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    let reason = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned();
    tracing::error!(reason = %Private(&reason), "panic in a call of the app's");
    TunnelError::Internal { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_message() {
        let Err(TunnelError::Internal { reason }) = shielded::<()>(|| panic!("out of luck")) else {
            panic!("no error");
        };
        assert_eq!(reason, "out of luck");
        assert_eq!(shielded_or(7, || panic!("out of {}", "luck")), 7);
    }

    #[tokio::test]
    async fn a_panic_of_a_future_is_an_error_whenever_it_comes() {
        let late = async {
            tokio::task::yield_now().await;
            panic!("out of luck")
        };
        let Err(TunnelError::Internal { reason }) = shielded_async::<()>(late).await else {
            panic!("no error");
        };
        assert_eq!(reason, "out of luck");
    }
}
