//! What leaves: queued frames and stream bytes to logical writes, and those to records.
//!
//! ```text
//! queue ─ one item ─► write n ─ n < stop: cut by plan n ──► records, each flushed on its own
//!                             └ else: as it is ───────────► records, gathered
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use rand::CryptoRng;

use super::{Event, Session, Side};
use crate::proto::command::Command;
use crate::proto::frame::{
    FrameData, HEADER_BYTES, MAX_PSH_BYTES, MAX_RECORD_BYTES, StreamId, encode_header, put_frame, put_psh,
};
use crate::proto::padding::{Scheme, Shaper};
use crate::proto::settings::{ClientSettings, PeerVersion, ServerSettings};

/// Heartbeat answers that may wait at once. A peer that asks faster than it reads gets no more than these.
const MAX_WAITING_ANSWERS: usize = 16;

/// What kind of record [`Session::poll_record`] gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// Shaped by the padding scheme: to be flushed before the next.
    Shaped,
    /// May leave together with others.
    Bulk,
}

#[derive(Debug)]
enum Item {
    Frames(Vec<u8>),
    /// The next bytes of this stream.
    Data(StreamId),
    HeartRequest,
    HeartResponse(StreamId),
}

/// A write that did not fit one record, on its way.
#[derive(Debug)]
struct Write {
    bytes: Vec<u8>,
    sent: usize,
    shaper: Shaper,
    kind: Record,
}

#[derive(Debug)]
pub(super) struct Output {
    scheme: Option<Arc<Scheme>>,
    queue: VecDeque<Item>,
    /// Client: whether the settings have yet to leave; the first write takes them along.
    owes_settings: bool,
    write: Option<Box<Write>>,
    /// The number of the next logical write; authentication was 0.
    next_write: u32,
    waiting_answers: usize,
    /// Whether the queue holds a heartbeat request: one is enough.
    asks: bool,
    padding_bytes: u64,
}

impl Output {
    pub(super) fn new(side: Side, scheme: &Arc<Scheme>) -> Self {
        let client = side == Side::Client;
        Self {
            scheme: client.then(|| Arc::clone(scheme)),
            queue: VecDeque::new(),
            owes_settings: client,
            write: None,
            next_write: 1,
            waiting_answers: 0,
            asks: false,
            padding_bytes: 0,
        }
    }

    /// Syn, and a Psh that begins with the target: one write.
    pub(super) fn open(&mut self, id: StreamId, head: &[u8]) {
        let mut frames = Vec::with_capacity(2 * HEADER_BYTES + head.len());
        put_frame(&mut frames, Command::Syn, id, FrameData::NONE);
        put_psh(&mut frames, id, head);
        self.queue.push_back(Item::Frames(frames));
    }

    pub(super) fn data(&mut self, id: StreamId) {
        self.queue.push_back(Item::Data(id));
    }

    pub(super) fn fin(&mut self, id: StreamId) {
        self.queue.push_back(Item::Frames(frame(Command::Fin, id, "")));
    }

    pub(super) fn synack(&mut self, id: StreamId, text: &str) {
        self.queue.push_back(Item::Frames(frame(Command::SynAck, id, text)));
    }

    pub(super) fn scheme_update(&mut self, raw: &str) {
        self.queue.push_back(Item::Frames(frame(Command::UpdatePaddingScheme, StreamId::SESSION, raw)));
    }

    pub(super) fn server_settings(&mut self) {
        let text = ServerSettings { version: PeerVersion::V2 }.encode();
        self.queue.push_back(Item::Frames(frame(Command::ServerSettings, StreamId::SESSION, &text)));
    }

    pub(super) fn heart_request(&mut self) {
        if !std::mem::replace(&mut self.asks, true) {
            self.queue.push_back(Item::HeartRequest);
        }
    }

    pub(super) fn is_heart_queued(&self) -> bool {
        self.asks
    }

    pub(super) fn heart_response(&mut self, id: StreamId) {
        if self.waiting_answers < MAX_WAITING_ANSWERS {
            self.waiting_answers += 1;
            self.queue.push_back(Item::HeartResponse(id));
        }
    }

    pub(super) fn clear(&mut self) {
        self.queue = VecDeque::new();
        self.write = None;
        self.waiting_answers = 0;
        self.asks = false;
    }

    pub(super) fn padding_bytes(&self) -> u64 {
        self.padding_bytes
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.queue.capacity()
    }
}

impl Session {
    /// Puts the plaintext of the next TLS record into `out`, which it clears first; `None` when nothing waits.
    pub fn poll_record(&mut self, rng: &mut impl CryptoRng, out: &mut Vec<u8>) -> Option<Record> {
        out.clear();
        if self.output.write.is_none() && !self.begin_write(out) {
            return None;
        }
        if self.output.write.is_none() {
            return Some(Record::Bulk); // the usual way: the write is the record
        }
        self.next_piece(rng, out)
    }

    /// Builds the next logical write: in `out` when that is one record as it is, else to be cut.
    fn begin_write(&mut self, out: &mut Vec<u8>) -> bool {
        if self.output.owes_settings && !self.output.queue.is_empty() {
            let text = ClientSettings::ours(self.scheme.md5_hex()).encode();
            put_frame(out, Command::Settings, StreamId::SESSION, FrameData::truncated(&text));
        }
        let prefix = out.len();
        while out.len() == prefix {
            match self.output.queue.pop_front() {
                None => {
                    out.clear();
                    if self.streams.is_empty() {
                        self.output.queue = VecDeque::new(); // idle: emptied, it keeps memory
                    }
                    return false;
                }
                Some(Item::Frames(frames)) => out.extend_from_slice(&frames),
                Some(Item::HeartRequest) => {
                    tracing::debug!("[Heartbeat] Sending heartbeat request");
                    self.output.asks = false;
                    self.counters.beats_sent += 1;
                    put_frame(out, Command::HeartRequest, StreamId::SESSION, FrameData::NONE);
                }
                Some(Item::HeartResponse(id)) => {
                    self.output.waiting_answers -= 1;
                    put_frame(out, Command::HeartResponse, id, FrameData::NONE);
                }
                Some(Item::Data(id)) => {
                    self.take_data(id, out);
                    self.tell_writers(id);
                }
            }
        }
        self.output.owes_settings = false;
        let number = self.output.next_write;
        self.output.next_write = number.saturating_add(1);
        let plan = self.output.scheme.as_ref().filter(|scheme| scheme.shapes(number));
        if plan.is_none() && out.len() <= MAX_RECORD_BYTES {
            return true;
        }
        let (shaper, kind) = match plan {
            Some(scheme) => (scheme.shaper(number), Record::Shaped),
            None => (Shaper::new(None), Record::Bulk),
        };
        self.output.write = Some(Box::new(Write { bytes: std::mem::take(out), sent: 0, shaper, kind }));
        true
    }

    /// One Psh of the stream's bytes, and Fin when they were a closed stream's last.
    fn take_data(&mut self, id: StreamId, out: &mut Vec<u8>) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.queued = false;
        let count = stream.send.len().min(MAX_PSH_BYTES);
        if count > 0 {
            let length = u16::try_from(count).expect("MAX_PSH_BYTES fits");
            out.extend_from_slice(&encode_header(Command::Psh, id, length));
            stream.send.take_into(count, out);
            self.counters.sent_bytes += u64::from(length);
        }
        if !stream.send.is_empty() {
            stream.queued = true;
            self.output.data(id);
        } else if stream.closing {
            self.output.fin(id);
            self.remove(id);
        }
    }

    /// Bytes of stream `id` have left: tells those who wait for room, in the order in which they came.
    fn tell_writers(&mut self, id: StreamId) {
        if self.waiting_writers.iter().any(|waiting| waiting.id != id)
            && let Some(stream) = self.streams.get_mut(&id)
        {
            stream.send.shrink(); // the room is for all
        }
        self.waiting_writers.retain(|waiting| self.streams.contains_key(&waiting.id));
        for waiting in &mut self.waiting_writers {
            if !std::mem::replace(&mut waiting.told, true) {
                self.events.push_back(Event::Writable(waiting.id));
            }
        }
    }

    fn next_piece(&mut self, rng: &mut impl CryptoRng, out: &mut Vec<u8>) -> Option<Record> {
        let write = self.output.write.as_mut()?;
        let rest = &write.bytes[write.sent..];
        let Some(cut) = write.shaper.next(rest.len(), rng) else {
            self.output.write = None;
            return self.poll_record(rng, out);
        };
        out.extend_from_slice(&rest[..cut.payload]);
        write.sent += cut.payload;
        let kind = write.kind;
        if let Some(length) = cut.waste {
            out.extend_from_slice(&encode_header(Command::Waste, StreamId::SESSION, length));
            out.resize(out.len() + usize::from(length), 0);
            self.output.padding_bytes += u64::from(length) + HEADER_BYTES as u64; // 7, lossless
        }
        Some(kind)
    }
}

fn frame(command: Command, id: StreamId, text: &str) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER_BYTES + text.len());
    put_frame(&mut frame, command, id, FrameData::truncated(text));
    frame
}
