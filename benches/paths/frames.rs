//! Frames written and read, in memory.

use anytls_mobile::proto::frame::{Decoder, Item, StreamId, put_psh};

use crate::{Failure, MIB, Work};

const STREAM: StreamId = StreamId(1);

pub fn outgoing() -> Result<Work, Failure> {
    let bytes = vec![0x5a; MIB];
    let mut out = Vec::with_capacity(2 * MIB);
    Ok(Box::new(move || {
        out.clear();
        put_psh(&mut out, STREAM, &bytes);
        if out.len() > MIB { Ok(()) } else { Err("frames are missing".into()) }
    }))
}

pub fn incoming() -> Result<Work, Failure> {
    let mut wire = Vec::new();
    put_psh(&mut wire, STREAM, &vec![0x5a; MIB]);
    let mut decoder = Decoder::default();
    Ok(Box::new(move || {
        let mut total = 0;
        // Cut where TLS cuts.
        for mut input in wire.chunks(16 * 1024) {
            while let Some(item) = decoder.next(&mut input) {
                if let Item::Data { bytes, .. } = item {
                    total += bytes.len();
                }
            }
        }
        if total == MIB { Ok(()) } else { Err("bytes are missing".into()) }
    }))
}
