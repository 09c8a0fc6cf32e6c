//! The AnyTLS client core for VPN apps on phones.
//!
//! A VPN extension hands over its TUN; packets become TCP streams and UDP datagrams, and those travel to one
//! AnyTLS server over a pool of reused TLS sessions. The folders are the layers, each importing only what
//! stands below it:
//!
//! | layer | job |
//! |---|---|
//! | [`budget`] | every bounded buffer in one place, and their sum; imports nothing |
//! | [`proto`] | the protocol, pure: no sockets, no clock, no OS randomness |
//! | [`config`] | text to a [`config::Config`] that cannot be wrong |
//! | [`transport`] | one dial: resolve, socket, protect, connect, TLS, authenticate |
//! | [`client`] | sessions driven over the network, and the pool's decisions carried out |
//! | [`tun`] | packets from and to the OS |
//! | [`netstack`] | packets to flows, TCP and UDP |
//! | [`relay`] | a flow and a stream, joined |
//! | [`dns`] | the apps' queries, answered through the tunnel |
//! | [`tunnel`] | the running whole: start, stop, state |
//! | [`ffi`] | the whole for Kotlin and Swift: conversions only |
//! | [`logging`] | where log lines go |
//! | [`uplink`] | which network the machine's traffic leaves by: Linux, for the program |
#![deny(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods))] // a test's tasks live as long as its runtime
#![warn(missing_docs)]

pub mod budget;
pub mod client;
pub mod clock;
pub mod config;
pub mod dns;
pub mod entropy;
pub mod error;
pub mod ffi;
pub mod logging;
pub mod netstack;
mod platform;
mod private;
pub mod proto;
pub mod relay;
mod stats;
mod task;
#[cfg(feature = "testserver")]
pub mod testserver;
pub mod transport;
pub mod tun;
pub mod tunnel;
pub mod uplink;

pub use private::show_private;

uniffi::setup_scaffolding!();

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
