//! The border to Kotlin and Swift, called from Rust as their bindings call it: on threads without a runtime, with
//! descriptors that are handed over and callbacks that fail.
#![cfg(feature = "testserver")]
#![allow(clippy::disallowed_methods)] // a test's threads live as long as it does

mod callbacks;
mod configs;
mod descriptors;
mod events;
mod lifecycle;
mod packets;
mod stopping;
mod support;
