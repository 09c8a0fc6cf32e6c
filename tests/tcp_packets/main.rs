//! The stack as an app's kernel sees it: packets in, packets out, in virtual time.
#![allow(clippy::disallowed_methods)] // a test's tasks live as long as its runtime

mod app;
mod close;
mod demux;
mod device;
mod handshake;
mod memory;
mod peer;
mod pressure;
#[allow(dead_code)] // shared with udp_packets
mod rig;
mod window;
