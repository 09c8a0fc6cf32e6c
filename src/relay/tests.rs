//! The rules for the end of a stream, with the session driven by hand and time virtual.

mod udp;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::socket::Socket;
use super::tcp::{self, End};
use super::testing::{self, App, PipeFlow};
use super::*;
use crate::client::link::Link;
use crate::clock::Clock;
use crate::proto::command::Command;
use crate::proto::frame::{Decoder, Item, StreamId, encode_header, put_psh};
use crate::proto::padding::Scheme;
use crate::proto::session::{Session, SessionError, SessionOptions, Side};
use crate::proto::settings::PeerVersion;

/// What an app and its relay hold between them.
const PIPE_BYTES: usize = 16 * 1024;

fn flow() -> (PipeFlow, App) {
    testing::flow(PIPE_BYTES)
}

/// A server whose frames the test writes, and whose client's frames it reads.
struct Server(Arc<Link>);

impl Server {
    fn new() -> Self {
        Self::of_version(PeerVersion::V2)
    }

    fn of_version(peer: PeerVersion) -> Self {
        let scheme = Arc::new(Scheme::parse(b"stop=0").expect("valid"));
        let options = SessionOptions {
            scheme,
            peer: Some(peer),
            round_trip: Duration::ZERO,
            synack_timeout: None,
            answers_fin: false,
            account: Arc::default(),
        };
        Self(Link::new(Session::new(Side::Client, options, Clock::Tokio.now()), Clock::Tokio))
    }

    fn open(&self) -> Stream {
        let stream = Stream::open(Arc::clone(&self.0), &target(), b"").expect("open");
        self.send(&encode_header(Command::SynAck, StreamId(stream.id()), 0));
        stream
    }

    fn send(&self, frames: &[u8]) {
        self.0.feed(frames);
    }

    fn send_bytes(&self, id: u32, bytes: &[u8]) {
        let mut frames = Vec::new();
        put_psh(&mut frames, StreamId(id), bytes);
        self.send(&frames);
    }

    fn fin(&self, id: u32) {
        self.send(&encode_header(Command::Fin, StreamId(id), 0));
    }

    fn die(&self) {
        self.0.fail(SessionError::EndedByPeer);
        self.send(&[]); // there is no driver to pass it on
    }

    /// The app's bytes and the commands that came, the opening frames left out.
    fn received(&self) -> (Vec<u8>, Vec<Command>) {
        let records = self.0.take_records(&mut StdRng::seed_from_u64(1));
        let (mut bytes, mut commands) = (Vec::new(), Vec::new());
        let mut decoder = Decoder::default();
        let mut input = &records[..];
        while let Some(item) = decoder.next(&mut input) {
            match item {
                Item::Data { bytes: data, .. } => bytes.extend_from_slice(data),
                Item::Frame { command: Command::Settings | Command::Syn, .. } => {}
                Item::Frame { command, .. } => commands.push(command),
                Item::Unknown { command } => panic!("command {command}"),
            }
        }
        (bytes, commands)
    }
}

fn target() -> Target {
    "192.0.2.1:80".parse().expect("valid")
}

const TARGET_BYTES: &[u8] = &[1, 192, 0, 2, 1, 0, 80];

/// Hands out prepared streams, and remembers the first bytes that it was given.
#[derive(Clone, Default)]
struct Prepared {
    streams: Arc<Mutex<VecDeque<Stream>>>,
    first: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Connect for Prepared {
    async fn connect(&self, _: &Target, first: &[u8]) -> Result<Stream, OpenError> {
        self.first.lock().unwrap().push(first.to_vec());
        self.streams.lock().unwrap().pop_front().ok_or(OpenError::Stopped)
    }

    async fn connect_fresh(&self, target: &Target) -> Result<Stream, OpenError> {
        self.connect(target, b"fresh").await
    }
}

/// A relay's task, and what it shows of itself.
struct Running<T> {
    task: JoinHandle<T>,
    progress: Arc<Progress>,
}

impl<T> Running<T> {
    async fn end(self) -> T {
        self.task.await.expect("no panic")
    }

    fn moved(&self) -> (u64, u64) {
        (self.progress.traffic().up(), self.progress.traffic().down())
    }
}

fn join(flow: PipeFlow, stream: Stream, connect: &Prepared) -> Running<End> {
    let (connect, progress) = (connect.clone(), Arc::<Progress>::default());
    let theirs = Arc::clone(&progress);
    let task =
        tokio::spawn(
            async move { tcp::join(flow, stream, &target(), &connect, Clock::Tokio, &theirs).await },
        );
    Running { task, progress }
}

fn serve(flow: PipeFlow, connect: &Prepared) -> Running<Result<End, OpenError>> {
    let (connect, progress) = (connect.clone(), Arc::<Progress>::default());
    let theirs = Arc::clone(&progress);
    let task =
        tokio::spawn(async move { tcp::serve(flow, &target(), &connect, Clock::Tokio, &theirs).await });
    Running { task, progress }
}

async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_flow_both_ways_and_the_servers_fin_is_the_apps_end() {
    let (server, (flow, mut app)) = (Server::new(), flow());
    let relay = join(flow, server.open(), &Prepared::default());
    app.pipe.write_all(b"question").await.expect("written");
    settle().await;
    assert_eq!(server.received(), ([TARGET_BYTES, b"question"].concat(), vec![]));
    server.send_bytes(1, b"answer");
    server.fin(1);
    let mut answer = Vec::new();
    app.pipe.read_to_end(&mut answer).await.expect("a clean end");
    assert_eq!(answer, b"answer");
    settle().await;
    assert_eq!(relay.moved(), (8, 6));
    assert!(matches!(relay.end().await, End::Finished));
    assert!(!app.was_reset());
    assert_eq!(server.received().1, [], "a Fin is not answered");
}

#[tokio::test(start_paused = true)]
async fn a_mebibyte_follows_the_apps_fin_which_the_server_is_not_told_of() {
    let (server, (flow, mut app)) = (Server::new(), flow());
    let relay = join(flow, server.open(), &Prepared::default());
    app.pipe.write_all(b"go").await.expect("written");
    app.pipe.shutdown().await.expect("finished");
    settle().await;
    assert_eq!(server.received(), ([TARGET_BYTES, b"go"].concat(), vec![]), "no Fin");
    let answer: Vec<u8> = (0..1_u32 << 18).flat_map(u32::to_le_bytes).collect();
    let reader = tokio::spawn(async move {
        let mut all = Vec::new();
        app.pipe.read_to_end(&mut all).await.expect("a clean end");
        all
    });
    for piece in answer.chunks(16_000) {
        while !server.0.wants_input() {
            settle().await;
        }
        server.send_bytes(1, piece);
    }
    server.fin(1);
    assert!(reader.await.expect("no panic") == answer);
    assert!(matches!(relay.end().await, End::Finished));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_silent_for_a_minute_after_the_apps_fin_is_left() {
    let (server, (flow, mut app)) = (Server::new(), flow());
    let relay = join(flow, server.open(), &Prepared::default());
    let begin = Clock::Tokio.now();
    app.pipe.shutdown().await.expect("finished");
    settle().await;
    tokio::time::sleep(Duration::from_secs(40)).await;
    server.send_bytes(1, b"still here");
    let end = relay.end().await;
    assert!(matches!(end, End::Lingered));
    assert_eq!(Clock::Tokio.now().since(begin).as_secs(), 100, "counted from the last byte");
    assert!(app.was_reset(), "the answer was not complete");
    assert_eq!(server.received().1, [Command::Fin]);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_dies_is_a_reset_after_the_bytes_before_it() {
    let (server, (flow, mut app)) = (Server::new(), flow());
    let relay = join(flow, server.open(), &Prepared::default());
    server.send_bytes(1, b"half");
    settle().await;
    server.die();
    let end = relay.end().await;
    assert!(matches!(end, End::Server(_)), "{end:?}");
    assert!(app.was_reset());
    let mut half = [0; 4];
    app.pipe.read_exact(&mut half).await.expect("what came before");
    assert_eq!(&half, b"half");
}

#[tokio::test(start_paused = true)]
async fn an_app_that_breaks_off_closes_its_stream_and_drops_what_has_not_left() {
    let (server, (flow, app)) = (Server::new(), flow());
    let relay = join(flow, server.open(), &Prepared::default());
    server.received();
    server.send_bytes(1, b"for nobody");
    drop(app);
    let end = relay.end().await;
    assert!(matches!(end, End::App(_)), "{end:?}");
    assert_eq!(server.received(), (vec![], vec![Command::Fin]));
}

#[tokio::test(start_paused = true)]
async fn an_app_that_does_not_read_stops_the_session_and_nothing_grows() {
    let (server, (flow, mut app)) = (Server::new(), flow());
    let _relay = join(flow, server.open(), &Prepared::default());
    let mut sent = 0;
    loop {
        settle().await;
        if !server.0.wants_input() {
            break;
        }
        server.send_bytes(1, &[7; 10_000]);
        sent += 10_000;
        assert!(sent < 1_000_000, "nothing stops the server");
    }
    let mut received = 0;
    let mut chunk = [0; 4096];
    while received < sent {
        received += app.pipe.read(&mut chunk).await.expect("more");
    }
    settle().await;
    assert!(server.0.wants_input());
}

#[tokio::test(start_paused = true)]
async fn first_bytes_ride_along_when_they_come_at_once_and_are_not_waited_for_otherwise() {
    for (delay, expected) in [(1, &b"hello"[..]), (20, b"")] {
        let (server, (flow, mut app)) = (Server::new(), flow());
        let prepared = Prepared::default();
        prepared.streams.lock().unwrap().push_back(server.open());
        let relay = serve(flow, &prepared);
        tokio::time::sleep(Duration::from_millis(delay)).await;
        app.pipe.write_all(b"hello").await.expect("written");
        settle().await;
        assert_eq!(*prepared.first.lock().unwrap(), [expected]);
        assert_eq!(relay.moved(), (5, 0), "however they went");
        server.fin(1);
        assert!(matches!(relay.end().await, Ok(End::Finished)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_cannot_be_opened_is_a_reset() {
    let (flow, mut app) = flow();
    app.pipe.write_all(b"hello").await.expect("written");
    let relay = serve(flow, &Prepared::default());
    settle().await;
    assert!(!relay.progress.is_open());
    assert_eq!(relay.moved(), (0, 0), "nobody has taken them");
    assert!(matches!(relay.end().await, Err(OpenError::Stopped)));
    assert!(app.was_reset());
}

#[tokio::test(start_paused = true)]
async fn an_untouched_stream_of_a_version_1_server_is_opened_once_more_and_never_twice() {
    let (stale, fresh) = (Server::of_version(PeerVersion::V1), Server::of_version(PeerVersion::V1));
    let (flow, app) = flow();
    let prepared = Prepared::default();
    prepared.streams.lock().unwrap().push_back(fresh.open().unproven());
    let relay = join(flow, stale.open().unproven(), &prepared);
    settle().await;
    stale.die();
    settle().await;
    assert_eq!(*prepared.first.lock().unwrap(), [b"fresh"]);
    fresh.die();
    assert!(matches!(relay.end().await, End::Server(_)));
    assert!(app.was_reset());
}

#[tokio::test(start_paused = true)]
async fn once_a_byte_was_moved_nothing_is_opened_again() {
    let (stale, (flow, mut app)) = (Server::of_version(PeerVersion::V1), flow());
    let prepared = Prepared::default();
    let relay = join(flow, stale.open().unproven(), &prepared);
    app.pipe.write_all(b"x").await.expect("written");
    settle().await;
    stale.die();
    assert!(matches!(relay.end().await, End::Server(_)));
    assert!(prepared.first.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn progress_is_shown_while_the_relay_runs_and_added_to_the_total_once() {
    let total = Arc::<Traffic>::default();
    let both: Vec<_> = [(); 2].map(|()| (Server::new(), flow())).into();
    let mut running = Vec::new();
    for (server, (flow, app)) in both {
        let (stream, progress) = (server.open(), Arc::new(Progress::new(Arc::clone(&total))));
        assert!(!progress.is_open());
        let theirs = Arc::clone(&progress);
        let task = tokio::spawn(async move {
            tcp::join(flow, stream, &target(), &Prepared::default(), Clock::Tokio, &theirs).await
        });
        running.push((server, app, Running { task, progress }));
    }
    for (server, app, relay) in &mut running {
        app.pipe.write_all(b"four").await.expect("written");
        settle().await;
        assert!(relay.progress.is_open());
        assert_eq!(relay.moved(), (4, 0));
        server.send_bytes(1, b"seven..");
        settle().await;
        assert_eq!(relay.moved(), (4, 7));
    }
    assert_eq!((total.up(), total.down()), (8, 14));
    for (server, _app, relay) in running {
        server.fin(1);
        relay.end().await;
    }
    assert_eq!((total.up(), total.down()), (8, 14), "an end adds nothing");
}

#[tokio::test]
async fn a_socket_is_read_to_its_end_whatever_the_pauses() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let mut app =
        tokio::net::TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
    let mut socket = Socket::new(listener.accept().await.expect("accepted").0);
    let mut read = async || {
        let mut got = Vec::new();
        poll_fn(|cx| {
            socket.poll_read_with(cx, &mut |bytes| {
                let count = bytes.len().min(4); // so that some are left over
                got.extend_from_slice(&bytes[..count]);
                count
            })
        })
        .await
        .expect("read");
        got
    };
    for _ in 0..2 {
        app.write_all(b"question").await.expect("written");
        assert_eq!([read().await, read().await].concat(), b"question");
        let nothing = poll_fn(|cx| Poll::Ready(pin!(read()).poll(cx).is_pending())).await;
        assert!(nothing, "and no more");
    }
    app.shutdown().await.expect("finished");
    assert_eq!(read().await, b"");
}

#[tokio::test]
async fn a_socket_that_is_dropped_is_reset_unless_it_was_shut_down() {
    for shut in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let mut app =
            tokio::net::TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
        let mut socket = Socket::new(listener.accept().await.expect("accepted").0);
        if shut {
            socket.shutdown().await.expect("finished");
        }
        drop(socket);
        let end = app.read(&mut [0; 1]).await.map_err(|error| error.kind());
        assert_eq!(end, if shut { Ok(0) } else { Err(io::ErrorKind::ConnectionReset) });
    }
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_is_dropped_resets_the_app_and_closes_the_stream() {
    let (server, (flow, mut app)) = (Server::new(), flow());
    let relay = join(flow, server.open(), &Prepared::default());
    app.pipe.write_all(b"half").await.expect("written");
    settle().await;
    relay.task.abort();
    relay.task.await.expect_err("aborted");
    assert!(app.was_reset());
    assert_eq!(server.received(), ([TARGET_BYTES, b"half"].concat(), vec![Command::Fin]));
}
