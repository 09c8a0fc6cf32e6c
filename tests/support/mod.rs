//! What the integration tests share; each of them uses a part.
#![allow(dead_code)]

pub mod lab;
pub mod netns;
pub mod servers;
pub mod target;
pub mod uplinks;
