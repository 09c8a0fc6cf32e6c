//! What a session is made of.

use std::sync::Arc;
use std::time::Duration;

use crate::budget::Account;
use crate::proto::padding::Scheme;
use crate::proto::settings::PeerVersion;

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Opens streams, pads what it sends.
    Client,
    /// Accepts streams, never pads.
    Server,
}

/// What a session is told about its peer when it starts.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Client: what this side pads by. Server: what clients are to pad by.
    pub scheme: Arc<Scheme>,
    /// The peer's version where earlier sessions showed it.
    pub peer: Option<PeerVersion>,
    /// The round trip measured while connecting.
    pub round_trip: Duration,
    /// How long the server may take to answer a stream; `None` follows the round trip.
    pub synack_timeout: Option<Duration>,
    /// Send a Fin for a stream that the peer has ended, too. The protocol asks for none, but anytls-server
    /// counts a stream until it has come, and takes no other on the session before.
    pub answers_fin: bool,
    /// What all sessions may hold together.
    pub account: Arc<Account>,
}
