//! A phone's life over real sockets: networks that change, servers that fall silent, and what the system tells.
#![cfg(feature = "testserver")]
#![allow(clippy::disallowed_methods)] // a test's tasks live as long as its runtime, and its clock is the wall's

mod beats;
mod inputs;
mod paths;
mod rig;
mod sharing;
mod silence;
mod statistics;
#[path = "../support/mod.rs"]
mod support;
