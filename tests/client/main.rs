//! The client layer against the test server, over real sockets and real TLS.
#![cfg(feature = "testserver")]
#![allow(clippy::disallowed_methods)] // a test's tasks live as long as its runtime

mod cancel;
mod failures;
mod padding;
mod pool;
mod retry;
mod stop;
mod streams;
mod support;
