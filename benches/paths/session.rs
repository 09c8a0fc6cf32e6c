//! One stream through a client's session, without TLS.

use std::sync::Arc;
use std::time::Duration;

use anytls_mobile::proto::command::Command;
use anytls_mobile::proto::frame::{FrameData, MAX_PSH_BYTES, StreamId, put_frame, put_psh};
use anytls_mobile::proto::padding::Scheme;
use anytls_mobile::proto::session::{Read, Session, SessionOptions, Side};
use anytls_mobile::proto::settings::PeerVersion;
use anytls_mobile::proto::timers::Moment;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::{Failure, MIB, Work};

const NOW: Moment = Moment::from_origin(Duration::from_secs(1000));

/// A session past its padding, with an open stream.
struct Open {
    session: Session,
    stream: StreamId,
    generator: StdRng,
    record: Vec<u8>,
}

impl Open {
    fn new() -> Result<Self, Failure> {
        let options = SessionOptions {
            scheme: Arc::new(Scheme::parse(b"stop=1\n0=30-30")?),
            peer: Some(PeerVersion::V2),
            round_trip: Duration::from_millis(50),
            synack_timeout: None,
            answers_fin: false,
            account: Arc::default(),
        };
        let mut session = Session::new(Side::Client, options, NOW);
        let stream = session.open(&"192.0.2.1:443".parse()?, b"", NOW)?;
        let mut answer = Vec::new();
        put_frame(&mut answer, Command::SynAck, stream, FrameData::NONE);
        session.handle_input(&answer, NOW);
        let mut open = Self { session, stream, generator: StdRng::seed_from_u64(1), record: Vec::new() };
        open.send();
        Ok(open)
    }

    /// Has all that waits leave, and every event be heard; how many bytes of records that was.
    fn send(&mut self) -> usize {
        let mut total = 0;
        while self.session.poll_record(&mut self.generator, &mut self.record).is_some() {
            total += self.record.len();
        }
        while self.session.poll_event().is_some() {}
        total
    }
}

pub fn up() -> Result<Work, Failure> {
    let mut open = Open::new()?;
    let bytes = vec![0x5a; MIB];
    Ok(Box::new(move || {
        let (mut written, mut sent) = (0, 0);
        while written < MIB {
            written += open.session.write(open.stream, &bytes[written..])?;
            sent += open.send();
        }
        if sent > MIB { Ok(()) } else { Err("records are missing".into()) }
    }))
}

pub fn down() -> Result<Work, Failure> {
    let mut open = Open::new()?;
    let mut record = Vec::new();
    put_psh(&mut record, open.stream, &[0x5a; MAX_PSH_BYTES]);
    Ok(Box::new(move || {
        let mut received = 0;
        while received < MIB {
            open.session.handle_input(&record, NOW);
            while let Read::Bytes(count) = open.session.read_with(open.stream, <[u8]>::len)? {
                received += count;
            }
            open.send();
        }
        Ok(())
    }))
}
