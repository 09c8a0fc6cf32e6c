//! Padding: how the first writes of a session are cut into records of drawn sizes.
//!
//! A [`Scheme`] is the parsed text; a [`Shaper`] walks through the plan of one write and decides the
//! sizes of its records. Neither touches the bytes: the session writes them, each [`Record`] as one TLS
//! record, written and flushed on its own.
//!
//! # Example
//! Write 2 of the default scheme, `400-500,c,500-1000,c,500-1000,c,500-1000,c,500-1000`, with 1 100 bytes
//! of frames (their headers included), when the generator draws 450 and 800:
//!
//! | entry | left before | record |
//! |---|---|---|
//! | 400-500 → 450 | 1 100 | 450 of payload |
//! | c | 650 | none: something is left, go on |
//! | 500-1000 → 800 | 650 | 650 of payload, and a Waste frame of 7 + 143: 800 in all |
//! | c | 0 | none: nothing is left, stop |
//!
//! With 5 000 bytes every entry would be a record full of payload, and what is left after the last one
//! would go out directly. Write 3, `9-9,500-1000`, is a record of 9 bytes and then one that is filled up
//! to its size; when the write has only 9 bytes, the second record is Waste alone, 7 bytes *over* the size
//! drawn, as with the reference.

mod scheme;
mod shaper;

pub use scheme::{Plan, Scheme, SchemeError};
pub use shaper::{Record, Shaper};
