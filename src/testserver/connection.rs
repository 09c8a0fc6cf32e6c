//! One client: TLS, authentication, then its session until one side ends it.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::line::{Line, ServerWire};
use super::{Rejection, Shared, stream};
use crate::client::Stream;
use crate::client::driver::Driver;
use crate::client::link::Link;
use crate::clock::Clock;
use crate::entropy::SharedGenerator;
use crate::proto::auth::{AuthReader, Verdict};
use crate::proto::frame::StreamId;
use crate::proto::session::{Event, Session, SessionError, SessionOptions, Side};
use crate::proto::settings::PeerVersion;
use crate::transport::{Wire, WireRead};

/// How long a client may take for the handshake and its authentication. As web servers do.
const GREETING_DEADLINE: Duration = Duration::from_secs(10);

/// How long saying goodbye may take to a client that does not read.
const GOODBYE_DEADLINE: Duration = Duration::from_millis(300);

/// Streams a session may have at once; a client that opens more is no client of ours.
const MAX_STREAMS: usize = 1_024;

/// Bytes read from the socket at once: four full records.
const READ_BYTES: usize = 64 * 1024;

const HTTP_ANSWER: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 11\r\nConnection: close\r\n\r\nbad request";

/// Serves one connection until it is gone.
pub(super) async fn serve(socket: TcpStream, peer: SocketAddr, server: Arc<Shared>) {
    let entry = Entry { line: server.admit(peer), server };
    let Entry { line, server } = &entry;
    let greeted = tokio::select! {
        greeted = timeout(GREETING_DEADLINE, greet(socket, line, server)) => greeted,
        () = line.close.notified() => return,
    };
    match greeted {
        Ok(Ok(Some((wire, first)))) => drive(wire, &first, line, server).await,
        Ok(Ok(None)) => tracing::debug!(%peer, "wrong password"),
        Ok(Err(error)) => tracing::debug!(%peer, %error, "no session"),
        Err(_) => tracing::debug!(%peer, "client did not authenticate in time"),
    }
}

/// The connection's place in the server's list, given up however its task ends.
struct Entry {
    line: Arc<Line>,
    server: Arc<Shared>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.line.end();
        self.server.dismiss(&self.line);
    }
}

/// Handshake and authentication; the wire, and what came after the authentication in the same record.
/// `None` when the password was wrong.
async fn greet(
    socket: TcpStream,
    line: &Arc<Line>,
    server: &Shared,
) -> io::Result<Option<(ServerWire, Vec<u8>)>> {
    socket.set_nodelay(true)?;
    let tls = server.acceptor.accept(BufReader::with_capacity(READ_BYTES, socket)).await?;
    let mut wire = ServerWire::new(tls, Arc::clone(line));
    if let Some(first) = authenticate(&mut wire, server).await? {
        return Ok(Some((wire, first)));
    }
    if server.options.rejection == Rejection::Http {
        wire.queue_record(HTTP_ANSWER)?;
    }
    close(&mut wire).await;
    Ok(None)
}

async fn authenticate(wire: &mut ServerWire, server: &Shared) -> io::Result<Option<Vec<u8>>> {
    let mut reader = AuthReader::new(server.options.password.clone());
    let mut frames = Vec::new();
    poll_fn(|cx| {
        loop {
            let mut verdict = None;
            let read = ready!(wire.poll_read(cx, &mut |mut bytes| {
                verdict = reader.read(&mut bytes);
                frames.extend_from_slice(bytes);
                verdict.is_none()
            }))?;
            match verdict {
                Some(Verdict::Rejected) => return Poll::Ready(Ok(None)),
                Some(Verdict::Accepted) => return Poll::Ready(Ok(Some(std::mem::take(&mut frames)))),
                None if read == WireRead::End => {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                None => {}
            }
        }
    })
    .await
}

async fn close(wire: &mut ServerWire) {
    // Whether the client hears it is the client's affair.
    let _heard = timeout(GOODBYE_DEADLINE, poll_fn(|cx| wire.poll_close(cx))).await;
}

/// Runs the session until it has ended.
async fn drive(mut wire: ServerWire, first: &[u8], line: &Arc<Line>, server: &Arc<Shared>) {
    let options = &server.options;
    let faults = server.faults();
    let version_1 = options.version == PeerVersion::V1;
    // A session that takes its client for version 1 answers nothing, and leaves the scheme to us.
    line.handle_authenticated(&faults, version_1.then(|| Arc::clone(&options.scheme)));
    if faults.close_after_authentication {
        close(&mut wire).await;
        return;
    }
    let clock = Clock::Boot;
    let session_options = SessionOptions {
        scheme: Arc::clone(&options.scheme),
        peer: version_1.then_some(PeerVersion::V1),
        round_trip: Duration::ZERO,
        synack_timeout: None,
        answers_fin: false,
        account: Arc::default(),
    };
    let mut session = Session::new(Side::Server, session_options, clock.now());
    if !faults.deaf {
        line.handle_frames(first);
        session.handle_input(first, clock.now());
    }
    wire.impair(&faults);

    let link = Link::new(session, clock);
    let streams = Streams {
        line: Arc::clone(line),
        link: Arc::clone(&link),
        server: Arc::clone(server),
        places: Arc::new(Semaphore::new(MAX_STREAMS)),
        opened: AtomicU32::new(0),
    };
    let (idle, is_idle) = watch::channel(true);
    let streams_of = Arc::clone(&link);
    let on_event = move |event| match event {
        Event::Incoming(id) => {
            idle.send_replace(false);
            streams.serve(id);
        }
        Event::Released => {
            idle.send_replace(streams_of.stream_count() == 0);
        }
        // The link wakes those itself, and the others are for clients.
        Event::Readable(_)
        | Event::Writable(_)
        | Event::PeerVersion(_)
        | Event::SchemeUpdate(_)
        | Event::Alive => {}
    };
    let mut driver = Driver::new(wire, Arc::clone(&link), SharedGenerator::seeded(), on_event);
    let reason = tokio::select! {
        reason = &mut driver => reason,
        () = idle_for(options.idle_limit, is_idle) => {
            link.fail(SessionError::Closed);
            driver.await
        }
        () = line.close.notified() => {
            link.fail(SessionError::Closed);
            driver.await
        }
    };
    tracing::debug!(%reason, "session ended");
}

/// Ready when the session has been idle for as long as `limit`.
async fn idle_for(limit: Option<Duration>, mut is_idle: watch::Receiver<bool>) {
    let Some(limit) = limit else { return std::future::pending().await };
    loop {
        let idle = *is_idle.borrow_and_update();
        let changed = timeout(if idle { limit } else { Duration::MAX }, is_idle.changed()).await;
        match changed {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return std::future::pending().await, // the driver is gone, and so are we soon
            Err(_) => return,
        }
    }
}

/// The streams of one session.
struct Streams {
    line: Arc<Line>,
    link: Arc<Link>,
    server: Arc<Shared>,
    places: Arc<Semaphore>,
    opened: AtomicU32,
}

impl Streams {
    fn serve(&self, id: StreamId) {
        let faults = self.server.faults();
        let count = self.opened.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let link = Arc::clone(&self.link);
        let incoming = Stream::incoming(Arc::clone(&link), id);
        let crowded = self.line.take_crowded(id.0) && faults.one_stream_a_session;
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            link.fail(SessionError::Violation("too many streams"));
            return;
        };
        if let Some((_, how)) = faults.cut_at_stream.filter(|&(limit, _)| limit == count) {
            self.line.start_cut(how);
        } else if crowded {
            link.refuse(id, "one stream a session, please");
        } else {
            let (line, outbound) = (Arc::clone(&self.line), Arc::clone(&self.server.options.outbound));
            self.server.spawn("stream", async move {
                let _place = place;
                tokio::select! {
                    () = stream::serve(incoming, &link, &outbound, &faults) => {}
                    () = line.ended() => {}
                }
            });
        }
    }
}
