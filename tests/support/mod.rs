//! What the integration tests share; each of them uses a part.
#![allow(dead_code)]

pub mod asker;
pub mod capture;
pub mod dig;
pub mod echo;
pub mod lab;
pub mod netns;
pub mod resolver;
pub mod servers;
pub mod target;
pub mod uplinks;
