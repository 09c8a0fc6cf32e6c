//! The records of a session's first writes, by the default scheme.

use anytls_mobile::proto::padding::Scheme;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::{Failure, Work};

/// As many as the default scheme shapes.
const WRITES: u32 = 8;

/// What a browser's first writes have.
const WRITE_BYTES: usize = 600;

pub fn first_writes() -> Result<Work, Failure> {
    let scheme = Scheme::default_scheme();
    let mut generator = StdRng::seed_from_u64(1);
    Ok(Box::new(move || {
        for _ in 0..1000 {
            for write in 0..WRITES {
                let mut shaper = scheme.shaper(write);
                let mut remaining = WRITE_BYTES;
                while let Some(record) = shaper.next(remaining, &mut generator) {
                    remaining -= record.payload;
                }
                if remaining > 0 {
                    return Err("not all was sent".into());
                }
            }
        }
        Ok(())
    }))
}
