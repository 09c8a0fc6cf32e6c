//! What the server can be told to do wrong.

use std::time::Duration;

use crate::proto::frame::{HEADER_BYTES, MAX_DATA_BYTES};

/// Faults, all off by default. Those about streams apply to streams opened from then on, those about
/// sessions to sessions that authenticate from then on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// When streams are answered.
    pub synack: SynAck,
    /// Every stream is refused with this text.
    pub refuse_streams: Option<String>,
    /// A stream is refused while another is open on its session, as some servers do.
    pub one_stream_a_session: bool,
    /// A session is cut when so many streams have been opened on it, the last one counted and not answered.
    pub cut_at_stream: Option<(u32, Cut)>,
    /// A session is cut at the first flush after so many bytes of plaintext for the client.
    pub cut_after: Option<(u64, Cut)>,
    /// What is wrong with UDP over TCP.
    pub udp: UdpFaults,
    /// Sessions are closed, in good order, as soon as they are authenticated.
    pub close_after_authentication: bool,
    /// Sessions are read, and nothing is ever sent on them, not even a goodbye.
    pub silent: bool,
    /// Sessions are not read after authentication.
    pub deaf: bool,
    /// Sent once the client's Settings have come: any frames, made by [`raw_frame`].
    pub extra_frames: Vec<u8>,
}

/// What a server does wrong with UDP over TCP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpFaults {
    /// It is not offered: such streams are refused.
    pub refused: bool,
    /// In packet mode, addresses are taken to be in SOCKS5 numbering, and a stream with others is closed at the
    /// first datagram. There is a server that does this.
    pub socks5_numbering: bool,
    /// A stream with a longer datagram is closed, as servers do that hold none longer.
    pub max_datagram_bytes: Option<usize>,
}

/// When streams are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SynAck {
    /// As soon as the target is reached.
    #[default]
    AtOnce,
    /// So much later.
    Delayed(Duration),
    /// Never, while heartbeats are answered and all else goes on.
    Never,
}

/// How a connection ends when it does not end in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// A RST.
    Reset,
    /// A FIN without close_notify, at the border of a record: what a truncation attack looks like.
    Fin,
    /// A record whose tag is wrong.
    BadMac,
    /// Nothing is sent any more, and nobody says so.
    Silence,
}

/// A frame of any kind, known or not. Data that does not fit is cut off.
pub fn raw_frame(command: u8, stream: u32, data: &[u8]) -> Vec<u8> {
    let data = &data[..data.len().min(MAX_DATA_BYTES)];
    let length = u16::try_from(data.len()).unwrap_or(u16::MAX); // just cut to fit
    let mut frame = Vec::with_capacity(HEADER_BYTES + data.len());
    frame.push(command);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(data);
    frame
}
