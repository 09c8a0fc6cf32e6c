//! Frames: how they are written, and how they are read from bytes that arrive in any pieces.
//!
//! ```text
//!  0         1                             5             7
//! +---------+-----------------------------+-------------+---------------------+
//! | command | stream id, u32 big endian   | data length | data                |
//! | u8      | 0 for the session itself    | u16 b. end. | 0 ... 65 535 bytes  |
//! +---------+-----------------------------+-------------+---------------------+
//! ```

use std::borrow::Cow;
use std::mem;

use super::command::{Command, UnknownCommand};

/// The bytes of a frame before its data.
pub const HEADER_BYTES: usize = crate::budget::FRAME_HEADER_BYTES;
/// The most plaintext that one TLS record carries (RFC 8446, section 5.1).
pub const MAX_RECORD_BYTES: usize = 16_384;
/// The most data that we put into a Psh, so that the frame fits one TLS record.
pub const MAX_PSH_BYTES: usize = MAX_RECORD_BYTES - HEADER_BYTES;
/// The most data that a frame can carry: its length field is a u16.
pub const MAX_DATA_BYTES: usize = 65_535;

/// A stream's number within its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

impl StreamId {
    /// The id in frames that belong to no stream: Settings, Waste, Alert and the like.
    pub const SESSION: Self = Self(0);
}

/// Data that fits a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameData<'a> {
    /// INVARIANT: at most [`MAX_DATA_BYTES`], so that `length` is its length.
    bytes: &'a [u8],
    length: u16,
}

impl<'a> FrameData<'a> {
    /// No data, as Syn, Fin and the heartbeats have.
    pub const NONE: Self = Self { bytes: &[], length: 0 };

    /// As much of `text` as fits: for the reasons in Alert and SynAck, where less is better than nothing.
    pub fn truncated(text: &'a str) -> Self {
        let bytes = &text.as_bytes()[..text.floor_char_boundary(MAX_DATA_BYTES)];
        Self::try_from(bytes).expect("cut to what a frame can carry")
    }
}

/// More data than a frame can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} bytes of data do not fit a frame ({MAX_DATA_BYTES} at most)")]
pub struct DataTooLong(pub usize);

impl<'a> TryFrom<&'a [u8]> for FrameData<'a> {
    type Error = DataTooLong;

    fn try_from(bytes: &'a [u8]) -> Result<Self, DataTooLong> {
        let length = u16::try_from(bytes.len()).map_err(|_| DataTooLong(bytes.len()))?;
        Ok(Self { bytes, length })
    }
}

/// The header of a frame with `length` bytes of data.
pub fn encode_header(command: Command, stream: StreamId, length: u16) -> [u8; HEADER_BYTES] {
    let [s0, s1, s2, s3] = stream.0.to_be_bytes();
    let [l0, l1] = length.to_be_bytes();
    [command.into(), s0, s1, s2, s3, l0, l1]
}

/// Appends one frame to `out`.
pub fn put_frame(out: &mut Vec<u8>, command: Command, stream: StreamId, data: FrameData<'_>) {
    out.extend_from_slice(&encode_header(command, stream, data.length));
    out.extend_from_slice(data.bytes);
}

/// Appends `bytes` of a stream to `out`, in as many Psh frames of [`MAX_PSH_BYTES`] as they need;
/// none for no bytes.
pub fn put_psh(out: &mut Vec<u8>, stream: StreamId, bytes: &[u8]) {
    for piece in bytes.chunks(MAX_PSH_BYTES) {
        let data = FrameData::try_from(piece).expect("MAX_PSH_BYTES is below MAX_DATA_BYTES");
        put_frame(out, Command::Psh, stream, data);
    }
}

/// What a [`Decoder`] read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item<'i> {
    /// Some bytes of a Psh, as they came: a Psh may be many of these. An empty Psh is one, empty.
    Data {
        /// The stream they belong to.
        stream: StreamId,
        /// The bytes, still where they were read into.
        bytes: &'i [u8],
    },
    /// Any other frame that is known, whole; never Psh or Waste.
    Frame {
        /// What it is for.
        command: Command,
        /// The stream it is about, or [`StreamId::SESSION`].
        stream: StreamId,
        /// Its data: borrowed when it came in one piece, owned when it had to be put together.
        data: Cow<'i, [u8]>,
    },
    /// A frame with a command that this protocol does not have; its data has been skipped.
    Unknown {
        /// The command's number.
        command: u8,
    },
}

/// Reads frames from bytes that arrive in pieces of any size.
///
/// Stream bytes are handed through without a copy, and Waste is skipped. Heap memory is used only
/// while a control frame is split between two inputs: it grows with what has arrived, never with what
/// a header promises, and leaves with the item.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    /// The data so far of a control frame that did not come in one piece.
    assembled: Vec<u8>,
    waste_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Inside a header, of which `filled` bytes are there.
    Header { bytes: [u8; HEADER_BYTES], filled: usize },
    /// Inside a frame's data, or just before it.
    Data(Head),
}

impl Default for State {
    fn default() -> Self {
        Self::Header { bytes: [0; HEADER_BYTES], filled: 0 }
    }
}

/// A header that has been read, and how much of the frame's data is still to come.
#[derive(Clone, Copy, Debug)]
struct Head {
    command: Result<Command, UnknownCommand>,
    stream: StreamId,
    remaining: usize,
}

impl Decoder {
    /// Reads on, moving `input` past what was used, until an item is complete; `None` when `input` is
    /// used up.
    ///
    /// What is borrowed is the input, not the decoder: a session can act on an item while its decoder
    /// waits in a field of its own.
    pub fn next<'i>(&mut self, input: &mut &'i [u8]) -> Option<Item<'i>> {
        loop {
            let mut head = match self.state {
                State::Header { bytes, filled } => self.read_header(bytes, filled, input)?,
                State::Data(head) => head,
            };
            let piece = take(input, head.remaining);
            head.remaining -= piece.len();
            let complete = head.remaining == 0;
            self.state = if complete { State::default() } else { State::Data(head) };

            let stream = head.stream;
            match (head.command, complete) {
                (Ok(Command::Psh), false) if piece.is_empty() => {}
                (Ok(Command::Psh), _) => return Some(Item::Data { stream, bytes: piece }),
                (Ok(Command::Waste), _) => self.waste_bytes += piece.len() as u64, // usize is 64 bits at most
                (Ok(command), true) => {
                    return Some(Item::Frame { command, stream, data: self.finish(piece) });
                }
                (Ok(_), false) => self.assembled.extend_from_slice(piece),
                (Err(UnknownCommand(command)), true) => return Some(Item::Unknown { command }),
                (Err(_), false) => {}
            }
            if !complete {
                return None; // the input is used up
            }
        }
    }

    /// Whether the last frame is still incomplete: an end of file here cuts it off.
    pub fn is_mid_frame(&self) -> bool {
        !matches!(self.state, State::Header { filled: 0, .. })
    }

    /// Bytes held for a control frame that did not come in one piece.
    pub fn held_bytes(&self) -> usize {
        self.assembled.capacity()
    }

    /// How many bytes of padding have been skipped so far, without their frames' headers.
    pub fn waste_bytes(&self) -> u64 {
        self.waste_bytes
    }

    fn read_header(
        &mut self,
        mut bytes: [u8; HEADER_BYTES],
        filled: usize,
        input: &mut &[u8],
    ) -> Option<Head> {
        let piece = take(input, HEADER_BYTES - filled);
        let end = filled + piece.len();
        bytes[filled..end].copy_from_slice(piece);
        if end < HEADER_BYTES {
            self.state = State::Header { bytes, filled: end };
            return None;
        }
        let [command, s0, s1, s2, s3, l0, l1] = bytes;
        Some(Head {
            command: Command::try_from(command),
            stream: StreamId(u32::from_be_bytes([s0, s1, s2, s3])),
            remaining: usize::from(u16::from_be_bytes([l0, l1])),
        })
    }

    /// The whole data of a control frame that `last` completes.
    fn finish<'i>(&mut self, last: &'i [u8]) -> Cow<'i, [u8]> {
        if self.assembled.is_empty() {
            return Cow::Borrowed(last);
        }
        let mut data = mem::take(&mut self.assembled);
        data.extend_from_slice(last);
        Cow::Owned(data)
    }
}

/// Moves at most `limit` bytes off the front of `input`.
fn take<'i>(input: &mut &'i [u8], limit: usize) -> &'i [u8] {
    let (piece, rest) = input.split_at(limit.min(input.len()));
    *input = rest;
    piece
}

#[cfg(test)]
mod tests;
