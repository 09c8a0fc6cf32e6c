//! What Kotlin and Swift see, by UniFFI: conversions only, and the rules that the border between languages asks for.
//!
//! - **Descriptors** are taken over when a call's arguments are read, so that every way out closes them.
//! - **Callbacks** return a `Result`: an exception in the app's code is an error here. Events and log batches come
//!   each on one thread of ours, [`Platform`]'s questions on the thread that has them; never under a lock.
//! - **Panics** become [`TunnelError::Internal`], and a tunnel that panics ends as [`TunnelState::Failed`].
//! - **Futures** only wait: what they wait for runs on threads of ours. A start that is dropped is undone; a
//!   stop that is dropped goes on.
//! - **Stop** takes a second at most, and no callback begins after it has returned.

mod callbacks;
mod config;
mod descriptor;
mod error;
mod events;
mod life;
mod logging;
mod shield;
mod state;
mod stats;
mod tunnel;

pub use callbacks::{CallbackError, EventListener, PacketFlow, Platform};
pub use config::{
    ConfigProblem, ConfigSummary, InterfaceAddress, PoolPreset, ServerUri, Severity, TunSettings, build_uri,
    parse_config, parse_uri, presets,
};
pub use descriptor::{Descriptor, find_tun};
pub use error::{Failure, TunnelError};
pub use events::Event;
pub use logging::{LogLevel, LogOptions, LogRecord, LogSink, set_log_level, set_logger};
pub use state::{MemoryPressure, Power, TunnelState};
pub use stats::{
    ConnectionInfo, ConnectionKind, ConnectionPhase, DnsStats, LatencyReport, MemoryStats, PacketStats,
    PoolStats, SessionInfo, TrafficStats, TunnelStats,
};
pub use tunnel::Tunnel;

/// The version of this library, as in `Cargo.toml`.
#[uniffi::export]
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}
