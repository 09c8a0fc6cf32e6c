//! What the stack does with IP itself: fragments both ways, echoes, packets that are too big. In virtual time.
#![allow(clippy::disallowed_methods)] // a test's tasks live as long as its runtime

#[allow(dead_code)] // not all of it is of use here
#[path = "../tcp_packets/app.rs"]
mod app;
mod craft;
mod echo;
mod fragments;
#[allow(dead_code)] // not all of it is of use here
#[path = "../tcp_packets/rig.rs"]
mod rig;
mod too_big;
