//! UDP as an app's kernel sees it, and as a relay does: packets on one side, flows on the other, in virtual
//! time.
#![allow(clippy::disallowed_methods)] // a test's tasks live as long as its runtime

#[path = "../tcp_packets/app.rs"]
#[allow(dead_code)] // shared with tcp_packets
mod app;
mod flows;
mod host;
mod life;
mod memory;
mod refusal;
mod replies;
#[path = "../tcp_packets/rig.rs"]
#[allow(dead_code)] // shared with tcp_packets
mod rig;
mod sending;
