//! What arrives: frames to state changes and events.

use std::io;
use std::sync::Arc;

use super::stream::{Phase, StreamState};
use super::{Event, REJECTION_WINDOW, Session, SessionError, Side, StreamError};
use crate::budget::{CONTROL_FRAME_BYTES, CONTROL_FRAME_FLOOR_BYTES, RECEIVE_BYTES};
use crate::proto::command::Command;
use crate::proto::frame::{Decoder, Item, StreamId};
use crate::proto::settings::{ClientSettings, PeerVersion, ServerSettings};
use crate::proto::timers::Moment;

/// Characters of a server's text that are worth showing.
const SHOWN_CHARS: usize = 200;

/// What a web server says first; read as a frame it would be an unknown command of 20 KiB.
const HTTP: &[u8] = b"HTTP/";

impl Session {
    /// Takes plaintext as it arrived, cut anywhere.
    pub fn handle_input(&mut self, mut input: &[u8], now: Moment) {
        if self.failure.is_some() || input.is_empty() {
            return;
        }
        if self.side == Side::Client && self.last_input.is_none() && input.starts_with(HTTP) {
            self.fail(SessionError::Rejected);
            return;
        }
        self.hear(now);
        while let Some(item) = self.decoder.next(&mut input) {
            match item {
                Item::Data { stream, bytes } => self.handle_data(stream, bytes),
                Item::Frame { command, stream, data } => self.handle_frame(command, stream, &data, now),
                Item::Unknown { .. } => self.counters.unknown_frames += 1,
            }
            if self.failure.is_some() {
                return;
            }
        }
        self.control.set(self.decoder.held_bytes());
        // Twice, because it grows by doubling.
        if self.control.bytes() > 2 * self.control.allowance(CONTROL_FRAME_FLOOR_BYTES, CONTROL_FRAME_BYTES) {
            self.decoder = Decoder::default();
            self.control.set(0);
            self.fail(SessionError::Violation("a control frame that memory has no room for"));
        }
    }

    /// The connection ended: in good order, or with an error.
    pub fn handle_end(&mut self, result: Result<(), io::Error>, now: Moment) {
        let silent = self.last_input.is_none() && now.since(self.started) < REJECTION_WINDOW;
        self.fail(match result {
            _ if silent && self.side == Side::Client => SessionError::Rejected,
            Ok(()) if !self.decoder.is_mid_frame() => SessionError::EndedByPeer,
            Ok(()) => SessionError::Violation("ended within a frame"),
            Err(error) => SessionError::Lost(Arc::new(error)),
        });
    }

    fn handle_data(&mut self, id: StreamId, bytes: &[u8]) {
        if self.side == Side::Server && self.peer.is_none() {
            self.fail(SessionError::Violation("settings must come first"));
            return;
        }
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.closing || matches!(stream.phase, Phase::Ended | Phase::Failed(_)) {
            return;
        }
        self.counters.received_bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        stream.recv.push(bytes);
        let limit = self.received.allowance(0, RECEIVE_BYTES);
        if !stream.stalled && !stream.recv.is_empty() && stream.recv.share() >= limit {
            stream.stalled = true;
            self.stalled += 1;
            self.pulse.set_read(false);
        }
        if self.side == Side::Client {
            self.mark_open(id);
        }
        self.tell(id);
    }

    fn handle_frame(&mut self, command: Command, id: StreamId, data: &[u8], now: Moment) {
        if self.side == Side::Server && self.peer.is_none() && command != Command::Settings {
            self.fail(SessionError::Violation("settings must come first"));
            return;
        }
        match (command, self.side) {
            (Command::Fin, _) => self.handle_fin(id),
            (Command::HeartRequest, _) => self.output.heart_response(id),
            (Command::HeartResponse, _) => self.handle_heart_response(now),
            (Command::Alert, Side::Client) => self.fail(SessionError::Alert(shown(data))),
            (Command::UpdatePaddingScheme, Side::Client) => {
                self.events.push_back(Event::SchemeUpdate(data.to_vec()));
            }
            (Command::SynAck, Side::Client) => self.handle_synack(id, data),
            (Command::ServerSettings, Side::Client) => self.handle_server_settings(data),
            (Command::Settings, Side::Server) => self.handle_settings(data),
            (Command::Syn, Side::Server) => self.handle_syn(id),
            // These carry nothing, or come from the wrong side and are ignored.
            (Command::Waste | Command::Psh, _)
            | (Command::Syn | Command::Settings, Side::Client)
            | (
                Command::Alert | Command::UpdatePaddingScheme | Command::SynAck | Command::ServerSettings,
                Side::Server,
            ) => {}
        }
    }

    fn handle_fin(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.closing {
            self.remove(id);
            return;
        }
        match stream.phase {
            // Fin instead of an answer: the server gave up on the stream.
            Phase::Opening { deadline, .. } if self.peer == Some(PeerVersion::V2) => {
                self.deadlines.remove(deadline, id);
                stream.phase = Phase::Failed(StreamError::Refused("closed before it was opened".into()));
            }
            Phase::Opening { .. } | Phase::Open => {
                self.mark_open(id);
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.phase = Phase::Ended;
                    stream.send.clear(); // protocol.md#stream: the reference reads no more of it
                }
            }
            Phase::Ended | Phase::Failed(_) => return,
        }
        self.tell(id);
        self.events.push_back(Event::Writable(id));
    }

    fn handle_synack(&mut self, id: StreamId, text: &[u8]) {
        if text.is_empty() {
            if self.mark_open(id) {
                self.tell(id);
            }
            return;
        }
        let Some(stream) = self.streams.get_mut(&id) else { return };
        match stream.phase {
            Phase::Opening { deadline, .. } => self.deadlines.remove(deadline, id),
            Phase::Open => {}
            Phase::Ended | Phase::Failed(_) => return,
        }
        stream.phase = Phase::Failed(refusal(shown(text)));
        self.events.push_back(Event::Readable(id));
        self.events.push_back(Event::Writable(id));
    }

    fn handle_server_settings(&mut self, text: &[u8]) {
        let version = ServerSettings::parse(text).version;
        self.version_deadline = None;
        match version {
            PeerVersion::V1 => self.take_for_version_1(),
            PeerVersion::V2 => {
                self.peer = Some(version);
                self.pulse.set_answers(true); // it may have been taken for version 1
                self.events.push_back(Event::PeerVersion(version));
            }
        }
    }

    fn handle_settings(&mut self, text: &[u8]) {
        if self.peer.is_some() {
            return;
        }
        let settings = ClientSettings::parse(text);
        self.peer = Some(settings.version);
        if settings.padding_md5 != self.scheme.md5_hex() {
            self.output.scheme_update(self.scheme.raw());
        }
        if settings.version == PeerVersion::V2 {
            self.output.server_settings();
        }
    }

    fn handle_syn(&mut self, id: StreamId) {
        if self.streams.contains_key(&id) {
            return;
        }
        let stream = StreamState::new(Phase::Open, &self.sending, &self.received);
        self.streams.insert(id, Box::new(stream));
        self.events.push_back(Event::Incoming(id));
    }

    /// The peer answered the stream; false when that was no news.
    fn mark_open(&mut self, id: StreamId) -> bool {
        let Some(stream) = self.streams.get_mut(&id) else { return false };
        let Phase::Opening { deadline, .. } = stream.phase else { return false };
        self.deadlines.remove(deadline, id);
        stream.phase = Phase::Open;
        stream.was_open = true;
        true
    }

    /// Tells the reader once, until it comes.
    fn tell(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !std::mem::replace(&mut stream.told, true)
        {
            self.events.push_back(Event::Readable(id));
        }
    }
}

/// anytls-server refuses a stream like this while it still winds up the one before, although that has
/// ended: it says nothing about the target.
const SESSION_FULL: &str = "stream limit";

fn refusal(text: String) -> StreamError {
    if text.contains(SESSION_FULL) { StreamError::SessionFull(text) } else { StreamError::Refused(text) }
}

/// A server's text, fit for a log: bounded, and without control characters.
fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect()
}
