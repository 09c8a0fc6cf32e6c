//! What was seen on a connection.

use std::net::SocketAddr;

use crate::proto::command::Command;
use crate::proto::frame::{HEADER_BYTES, MAX_DATA_BYTES};

/// Entries kept of each kind for one connection: enough for any test of padding, and a bound.
const MAX_ENTRIES: usize = 100_000;

/// What the server has seen on one connection. The lists stay empty unless
/// [`recording`](super::ServerOptions::record) is on.
#[derive(Clone, Debug)]
pub struct ConnectionRecord {
    /// The client's address.
    pub peer: SocketAddr,
    /// Whether the password was right.
    pub authenticated: bool,
    /// Whether the connection is gone.
    pub ended: bool,
    /// The plaintext length of each TLS record from the client, in order; the first is the authentication.
    pub records: Vec<usize>,
    /// The client's frames, in order.
    pub received: Vec<FrameRecord>,
    /// The frames that left for the client, in order.
    pub sent: Vec<FrameRecord>,
    /// The text of the client's Settings.
    pub settings: String,
    /// Plaintext bytes that left for the client.
    pub sent_bytes: u64,
    /// Plaintext bytes from the client.
    pub received_bytes: u64,
}

/// One frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRecord {
    /// The command's number, known or not.
    pub command: u8,
    /// The stream's number.
    pub stream: u32,
    /// Bytes of data.
    pub length: u16,
}

impl ConnectionRecord {
    pub(super) fn new(peer: SocketAddr) -> Self {
        Self {
            peer,
            authenticated: false,
            ended: false,
            records: Vec::new(),
            received: Vec::new(),
            sent: Vec::new(),
            settings: String::new(),
            sent_bytes: 0,
            received_bytes: 0,
        }
    }
}

/// Adds to a list that must not grow for ever.
pub(super) fn push_bounded<T>(list: &mut Vec<T>, entry: T) {
    if list.len() < MAX_ENTRIES {
        list.push(entry);
    }
}

/// Finds the frames in a stream of bytes that comes in any pieces.
///
/// The protocol's own decoder is not used: it hides Waste and lengths, and what checks a thing should
/// not be made of it.
#[derive(Debug, Default)]
pub(super) struct FrameScanner {
    header: [u8; HEADER_BYTES],
    filled: usize,
    /// Bytes of the frame's data that are still to come.
    remaining: usize,
    /// The data of Settings frames so far.
    settings: Vec<u8>,
}

impl FrameScanner {
    /// Calls `found` for each frame that is complete.
    pub(super) fn scan(&mut self, mut bytes: &[u8], mut found: impl FnMut(FrameRecord)) {
        loop {
            if self.filled < HEADER_BYTES {
                let piece = take(&mut bytes, HEADER_BYTES - self.filled);
                self.header[self.filled..self.filled + piece.len()].copy_from_slice(piece);
                self.filled += piece.len();
                if self.filled < HEADER_BYTES {
                    return;
                }
                self.remaining = usize::from(self.frame().length);
            }
            let data = take(&mut bytes, self.remaining);
            self.remaining -= data.len();
            let frame = self.frame();
            if frame.command == u8::from(Command::Settings)
                && self.settings.len() + data.len() <= MAX_DATA_BYTES
            {
                self.settings.extend_from_slice(data);
            }
            if self.remaining > 0 {
                return;
            }
            self.filled = 0;
            found(frame);
        }
    }

    /// Whether a frame is cut in two here.
    pub(super) fn is_mid_frame(&self) -> bool {
        self.filled > 0
    }

    pub(super) fn settings(&self) -> &[u8] {
        &self.settings
    }

    fn frame(&self) -> FrameRecord {
        let [command, s0, s1, s2, s3, l0, l1] = self.header;
        FrameRecord {
            command,
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
            length: u16::from_be_bytes([l0, l1]),
        }
    }
}

/// Moves at most `limit` bytes off the front of `bytes`.
fn take<'b>(bytes: &mut &'b [u8], limit: usize) -> &'b [u8] {
    let (piece, rest) = bytes.split_at(limit.min(bytes.len()));
    *bytes = rest;
    piece
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testserver::raw_frame;

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let text = b"v=2\npadding-md5=0123";
        let bytes =
            [raw_frame(4, 0, text), raw_frame(1, 1, b""), raw_frame(2, 1, &[9; 300]), raw_frame(99, 7, b"?")]
                .concat();
        for size in 1..bytes.len() {
            let mut scanner = FrameScanner::default();
            let mut found = Vec::new();
            for piece in bytes.chunks(size) {
                scanner.scan(piece, |frame| found.push((frame.command, frame.stream, frame.length)));
            }
            assert_eq!(found, [(4, 0, 20), (1, 1, 0), (2, 1, 300), (99, 7, 1)], "pieces of {size}");
            assert_eq!(scanner.settings(), text);
            assert!(!scanner.is_mid_frame());
        }
    }
}
