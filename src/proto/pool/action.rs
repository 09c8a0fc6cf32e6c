//! What is asked of the pool, and what it has the runner do.

#[cfg(doc)]
use super::Pool;

/// A session's number within its tunnel; rises with every session made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionSeq(pub u64);

/// One request for a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(super) u64);

/// One dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialId(pub(super) u64);

/// What a request accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// The newest idle session, or else a new one, or a share of one when there may be no more.
    Any,
    /// The same, but not a share.
    Alone,
    /// A session that is dialled for it: for the one retry after a pooled session failed.
    Fresh,
}

/// What the runner has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Dial one session, and report it with [`Pool::handle_dialed`] or [`Pool::handle_dial_failed`].
    Dial(DialId),
    /// Give up on the dials under way; nothing is reported of them.
    CancelDials,
    /// The request has its session.
    Grant {
        /// Who asked.
        ticket: Ticket,
        /// The session, to be returned when its stream has ended.
        seq: SessionSeq,
        /// Whether it has served another stream before, or does so now.
        reused: bool,
        /// Whether it may have died unnoticed: it was not dialled just now.
        is_pooled: bool,
        /// Whether other streams are on it. What becomes of this one is then to be reported with
        /// [`Pool::handle_shared`](super::Pool::handle_shared),
        /// [`handle_refused_sharing`](super::Pool::handle_refused_sharing) or
        /// [`handle_unclear_sharing`](super::Pool::handle_unclear_sharing).
        is_shared: bool,
    },
    /// The request has failed.
    Fail {
        /// Who asked.
        ticket: Ticket,
        /// Why.
        why: Refusal,
    },
    /// Ask the session for a heartbeat.
    Beat(SessionSeq),
    /// Find out whether the session lives, and report it with [`Pool::handle_alive`].
    Probe(SessionSeq),
    /// Close an idle session.
    Close {
        /// Which.
        seq: SessionSeq,
        /// Why.
        reason: CloseReason,
    },
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The dial failed, with the error reported last.
    Dial,
    /// There is no network.
    Offline,
    /// There are as many sessions as there may be, and all serve others.
    Busy,
    /// The pool was closed.
    Closed,
}

/// Why the pool closes a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// Idle for longer than `idle_session_timeout`.
    IdleTimeout,
    /// Older than its own lifetime.
    Age,
    /// Idle for almost as long as the server allows.
    ServerIdleLimit,
    /// `reuse` is off, and its stream has ended.
    NoReuse,
    /// The phone has left the network that it was made on.
    PathChange,
    /// Memory is short.
    Memory,
    /// Another had to be dialled, and there may be no more.
    MakeRoom,
    /// The pool was closed.
    Shutdown,
}
