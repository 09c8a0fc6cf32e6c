//! Datagrams through a client and a server, both real, over real sockets.
#![cfg(feature = "testserver")]
#![allow(clippy::disallowed_methods)] // a test's tasks live as long as its runtime

mod app;
#[path = "../client/support.rs"]
mod client;
mod modes;
mod relay;
#[path = "../support/mod.rs"]
mod support;

mod servers;
mod socks;
mod streams;
