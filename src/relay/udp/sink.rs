//! Where the server's bytes go.

use std::task::{Context, Waker};

use super::{Association, bytes};
use crate::proto::target::{Target, TargetError};
use crate::proto::uot::{Datagram, Decoder};

/// Where the server's bytes go in one poll.
pub(super) struct Sink<'a, A> {
    pub(super) association: &'a mut A,
    pub(super) decoder: &'a mut Decoder,
    pub(super) destination: &'a Target,
    pub(super) waker: &'a Waker,
    /// How many datagrams more.
    pub(super) left: usize,
    /// Bytes of datagrams that were taken.
    pub(super) bytes: u64,
    pub(super) is_answered: bool,
    pub(super) stop: Option<SinkStop>,
}

/// Why no more is taken.
pub(super) enum SinkStop {
    /// The app has no room.
    Full,
    /// It is the turn of others.
    Turn,
    Malformed(TargetError),
}

impl<A: Association> Sink<'_, A> {
    /// Takes the datagrams that end in `input`, and gives how many bytes were used.
    pub(super) fn take(&mut self, input: &[u8]) -> usize {
        let Self { association, decoder, destination, waker, left, bytes: moved, is_answered, stop } = self;
        let used = decoder.decode(input, |Datagram { source, payload }| {
            *is_answered = true;
            if *left == 0 {
                *stop = Some(SinkStop::Turn);
                return false;
            }
            let from = source.as_ref().unwrap_or(destination);
            if association.poll_send(&mut Context::from_waker(waker), from, payload).is_pending() {
                *stop = Some(SinkStop::Full);
                return false;
            }
            *left -= 1;
            *moved += bytes(payload.len());
            true
        });
        used.unwrap_or_else(|error| {
            *stop = Some(SinkStop::Malformed(error));
            0
        })
    }
}
