//! What must hold for any bytes: the bodies of the fuzz targets, and of the test that replays their corpus.
#![allow(dead_code)] // each target runs one of them

pub mod dns;
pub mod packets;
mod records;
pub mod text;
pub mod wire;
