//! One connection as its server's owner sees it: what was seen on it, and what is done to it.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncWrite, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};

use super::record::{FrameScanner, push_bounded};
use super::wire::TlsWire;
use super::{ConnectionRecord, Cut, Faults, raw_frame};
use crate::proto::command::Command;
use crate::proto::frame::MAX_RECORD_BYTES;
use crate::proto::padding::Scheme;
use crate::proto::settings::ClientSettings;
use crate::transport::{Wire, WireRead};

/// The server's end of a connection; the buffer saves rustls its reads of 4 KiB.
pub(super) type ServerTls = tokio_rustls::server::TlsStream<BufReader<TcpStream>>;

/// A record of application data, as its header says, whose tag cannot be right.
const FORGED_RECORD: [u8; 37] = {
    let mut record = [0x5a; 37];
    [record[0], record[1], record[2], record[3], record[4]] = [0x17, 3, 3, 0, 32];
    record
};

/// A connection, shared by its task, its wire and the server.
#[derive(Debug)]
pub(super) struct Line {
    state: Mutex<LineState>,
    stage: watch::Sender<Stage>,
    /// Asks the connection's task to end it in good order.
    pub(super) close: Notify,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Running,
    Cut,
    Ended,
}

#[derive(Debug)]
struct LineState {
    record: ConnectionRecord,
    recording: bool,
    received: FrameScanner,
    sent: FrameScanner,
    /// Streams that neither side has closed.
    open: HashSet<u32>,
    /// Streams opened while another was open, until somebody asks.
    crowded: HashSet<u32>,
    /// Frames to slip in at the next border of a frame.
    inject: Vec<u8>,
    extra_frames: Vec<u8>,
    /// A scheme to be announced to clients that use another, where the session does not do it.
    announce: Option<Arc<Scheme>>,
    cut_after: Option<(u64, Cut)>,
    cut: Option<PendingCut>,
    driver: Option<Waker>,
}

#[derive(Clone, Copy, Debug)]
struct PendingCut {
    how: Cut,
    /// Whether what is queued is to leave first.
    after_flush: bool,
}

impl Line {
    pub(super) fn new(peer: SocketAddr, recording: bool) -> Arc<Self> {
        let state = LineState {
            record: ConnectionRecord::new(peer),
            recording,
            received: FrameScanner::default(),
            sent: FrameScanner::default(),
            open: HashSet::new(),
            crowded: HashSet::new(),
            inject: Vec::new(),
            extra_frames: Vec::new(),
            announce: None,
            cut_after: None,
            cut: None,
            driver: None,
        };
        let stage = watch::Sender::new(Stage::Running);
        Arc::new(Self { state: Mutex::new(state), stage, close: Notify::new() })
    }

    /// The password was right: frames follow, and faults begin.
    pub(super) fn handle_authenticated(&self, faults: &Faults, announce: Option<Arc<Scheme>>) {
        let mut state = self.lock();
        state.record.authenticated = true;
        state.extra_frames.clone_from(&faults.extra_frames);
        state.announce = announce;
        state.cut_after = faults.cut_after;
    }

    /// The client's bytes after its authentication.
    pub(super) fn handle_frames(&self, bytes: &[u8]) {
        self.lock().handle_frames(bytes);
    }

    /// Cuts the connection, whatever waits to be sent; ready when that is done.
    pub(super) async fn cut(&self, how: Cut) {
        self.start_cut(how);
        let enough = if how == Cut::Reset { Stage::Ended } else { Stage::Cut };
        self.reach(enough).await;
    }

    /// The same without waiting.
    pub(super) fn start_cut(&self, how: Cut) {
        let mut state = self.lock();
        // A forged record can only stand between two others.
        state.cut = Some(PendingCut { how, after_flush: how == Cut::BadMac });
        let driver = state.driver.clone();
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// Sends raw frames to the client as soon as no other frame is under way.
    pub(super) fn inject(&self, frames: &[u8]) {
        let mut state = self.lock();
        state.inject.extend_from_slice(frames);
        let driver = state.driver.clone();
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// Whether the stream was opened beside another.
    pub(super) fn take_crowded(&self, stream: u32) -> bool {
        self.lock().crowded.remove(&stream)
    }

    pub(super) fn is_authenticated(&self) -> bool {
        self.lock().record.authenticated
    }

    pub(super) fn is_recording(&self) -> bool {
        self.lock().recording
    }

    pub(super) fn is_ended(&self) -> bool {
        *self.stage.borrow() == Stage::Ended
    }

    pub(super) fn record(&self) -> ConnectionRecord {
        ConnectionRecord { ended: self.is_ended(), ..self.lock().record.clone() }
    }

    /// The connection is gone, its socket included.
    pub(super) fn end(&self) {
        self.stage.send_replace(Stage::Ended);
    }

    /// Waits until the connection is gone.
    pub(super) async fn ended(&self) {
        self.reach(Stage::Ended).await;
    }

    async fn reach(&self, stage: Stage) {
        let mut stages = self.stage.subscribe();
        // Fails only when the sender is gone, which `self` holds.
        let _reached = stages.wait_for(|&now| now >= stage).await;
    }

    fn handle_cut(&self) {
        self.stage.send_if_modified(|stage| {
            let first = *stage < Stage::Cut;
            if first {
                *stage = Stage::Cut;
            }
            first
        });
    }

    fn lock(&self) -> MutexGuard<'_, LineState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LineState {
    fn handle_record(&mut self, bytes: &[u8]) {
        self.record.received_bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if self.recording {
            push_bounded(&mut self.record.records, bytes.len());
        }
        if self.record.authenticated {
            self.handle_frames(bytes);
        }
    }

    fn handle_frames(&mut self, bytes: &[u8]) {
        let Self { received, record, recording, open, crowded, .. } = self;
        let mut settings = false;
        received.scan(bytes, |frame| {
            if *recording {
                push_bounded(&mut record.received, frame);
            }
            match Command::try_from(frame.command) {
                Ok(Command::Settings) => settings = true,
                Ok(Command::Syn) => {
                    if !open.is_empty() {
                        crowded.insert(frame.stream);
                    }
                    open.insert(frame.stream);
                }
                Ok(Command::Fin) => {
                    open.remove(&frame.stream);
                }
                _ => {} // no other opens or closes anything
            }
        });
        if settings && self.record.settings.is_empty() {
            self.handle_settings();
        }
    }

    fn handle_settings(&mut self) {
        let text = self.received.settings();
        self.record.settings = String::from_utf8_lossy(text).into_owned();
        let used = ClientSettings::parse(text).padding_md5;
        if let Some(scheme) = self.announce.take().filter(|scheme| scheme.md5_hex() != used) {
            let update = raw_frame(Command::UpdatePaddingScheme.into(), 0, scheme.raw().as_bytes());
            self.inject.extend(update);
        }
        self.inject.append(&mut self.extra_frames);
    }

    fn handle_sent(&mut self, plaintext: &[u8]) {
        let Self { sent, record, recording, open, .. } = self;
        record.sent_bytes += u64::try_from(plaintext.len()).unwrap_or(u64::MAX);
        sent.scan(plaintext, |frame| {
            if *recording {
                push_bounded(&mut record.sent, frame);
            }
            if frame.command == u8::from(Command::Fin) {
                open.remove(&frame.stream);
            }
        });
        if let Some((_, how)) = self.cut_after.take_if(|(limit, _)| record.sent_bytes >= *limit) {
            self.cut = Some(PendingCut { how, after_flush: true });
        }
    }

    /// Frames that may be slipped in now.
    fn take_injected(&mut self) -> Vec<u8> {
        if self.sent.is_mid_frame() { Vec::new() } else { std::mem::take(&mut self.inject) }
    }

    fn take_cut(&mut self, flushed: bool) -> Option<Cut> {
        self.cut.take_if(|cut| flushed || !cut.after_flush).map(|cut| cut.how)
    }
}

/// The connection's wire, which shows its line what passes and does to it what the line was told.
#[derive(Debug)]
pub(super) struct ServerWire {
    wire: TlsWire<ServerTls>,
    line: Arc<Line>,
    /// What is sent is dropped, silently.
    silent: bool,
    /// Nothing is read.
    deaf: bool,
    /// What is left of a forged record.
    forged: &'static [u8],
}

impl ServerWire {
    pub(super) fn new(tls: ServerTls, line: Arc<Line>) -> Self {
        Self { wire: TlsWire::new(tls), line, silent: false, deaf: false, forged: &[] }
    }

    /// From now on nothing is sent, or nothing is read.
    pub(super) fn impair(&mut self, faults: &Faults) {
        self.silent = faults.silent;
        self.deaf = faults.deaf;
    }

    fn socket(&self) -> &TcpStream {
        self.wire.get_ref().get_ref().0.get_ref()
    }

    fn cut(&mut self, how: Cut) -> io::Result<()> {
        match how {
            Cut::BadMac => {
                self.silent = true; // nothing after it could be read
                self.forged = &FORGED_RECORD;
            }
            Cut::Silence => self.silent = true,
            Cut::Fin => {
                self.silent = true; // and the client is read on: closing with unread bytes would be a RST
                SockRef::from(self.socket()).shutdown(std::net::Shutdown::Write)?;
            }
            Cut::Reset => {
                self.silent = true;
                // Zero linger makes the close, which the error brings about, a RST.
                SockRef::from(self.socket()).set_linger(Some(Duration::ZERO))?;
                return Err(io::ErrorKind::ConnectionReset.into());
            }
        }
        self.line.handle_cut();
        Ok(())
    }
}

impl Wire for ServerWire {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Poll<io::Result<WireRead>> {
        if self.deaf {
            return Poll::Pending;
        }
        let Self { wire, line, .. } = self;
        wire.poll_read(cx, &mut |record| {
            line.lock().handle_record(record);
            sink(record)
        })
    }

    fn queue_record(&mut self, plaintext: &[u8]) -> io::Result<()> {
        if self.silent {
            return Ok(());
        }
        self.wire.queue_record(plaintext)?;
        self.line.lock().handle_sent(plaintext);
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let injected = {
            let mut state = self.line.lock();
            state.driver.get_or_insert_with(|| cx.waker().clone()).clone_from(cx.waker());
            state.take_injected()
        };
        for piece in injected.chunks(MAX_RECORD_BYTES) {
            self.queue_record(piece)?;
        }
        let flushed = if self.silent { Poll::Ready(Ok(())) } else { self.wire.poll_flush(cx) };
        let cut = self.line.lock().take_cut(flushed.is_ready());
        if let Some(how) = cut {
            self.cut(how)?;
        }
        while flushed.is_ready() && !self.forged.is_empty() {
            let socket = self.wire.get_mut().get_mut().0.get_mut();
            let written = ready!(Pin::new(socket).poll_write(cx, self.forged))?;
            self.forged = &self.forged[written..];
        }
        flushed
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.silent { Poll::Ready(Ok(())) } else { self.wire.poll_close(cx) }
    }
}
