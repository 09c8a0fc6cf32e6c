//! The AnyTLS protocol as pure logic: bytes, moments and a random generator in, bytes and decisions out.

pub mod auth;
pub mod command;
pub mod frame;
pub mod padding;
pub mod pool;
pub mod pulse;
pub mod session;
pub mod settings;
pub mod target;
pub mod timers;
pub mod uot;
