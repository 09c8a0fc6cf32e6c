//! What associations come to when servers close, stay silent, or take nothing.

use std::future::pending;
use std::task::Waker;

use tokio::time::{advance, timeout};

use super::*;
use crate::budget::{Account, Holding};
use crate::relay::udp::{self, Association, Mode, Served, Style};

/// Ends a test that would hang, in virtual time.
const LONG: Duration = Duration::from_secs(600);

const PEER: &str = "192.0.2.1:123";

/// As they stand before a datagram to the peer.
const PACKET_REQUEST: &[u8] = b"\x00\x01\xC0\x00\x02\x01\x00\x7B";
const CONNECT_REQUEST: &[u8] = b"\x01\x01\xC0\x00\x02\x01\x00\x7B";
const PACKET_ADDRESS: &[u8] = b"\x00\xC0\x00\x02\x01\x00\x7B";

#[derive(Default)]
struct State {
    up: VecDeque<(Target, Vec<u8>)>,
    down: Vec<(Target, Vec<u8>)>,
    is_ended: bool,
    is_refused: bool,
    reader: Option<Waker>,
}

/// What the app holds, and what the relay does.
#[derive(Clone, Default)]
struct Local(Arc<Mutex<State>>);

impl Local {
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.0.lock().unwrap();
        let result = change(&mut state);
        if let Some(waker) = state.reader.take() {
            waker.wake();
        }
        result
    }

    fn send(&self, to: &str, payload: &[u8]) {
        self.change(|state| state.up.push_back((to.parse().expect("a target"), payload.to_vec())));
    }

    fn end(&self) {
        self.change(|state| state.is_ended = true);
    }

    fn received(&self) -> Vec<(String, Vec<u8>)> {
        let received = std::mem::take(&mut self.0.lock().unwrap().down);
        received.into_iter().map(|(from, payload)| (from.to_string(), payload)).collect()
    }

    fn is_refused(&self) -> bool {
        self.0.lock().unwrap().is_refused
    }

    fn unsent(&self) -> usize {
        self.0.lock().unwrap().up.len()
    }
}

impl Association for Local {
    type Payload = Vec<u8>;

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<(Target, Vec<u8>)>> {
        let datagram = self.0.lock().unwrap().up.pop_front();
        match datagram {
            Some(datagram) => Poll::Ready(Some(datagram)),
            None => self.poll_ended(cx).map(|()| None),
        }
    }

    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock().unwrap();
        state.reader = Some(cx.waker().clone());
        if state.is_ended { Poll::Ready(()) } else { Poll::Pending }
    }

    fn poll_send(&mut self, _: &mut Context<'_>, from: &Target, payload: &[u8]) -> Poll<()> {
        self.0.lock().unwrap().down.push((from.clone(), payload.to_vec()));
        Poll::Ready(())
    }

    fn refuse(self) {
        self.0.lock().unwrap().is_refused = true;
    }
}

/// Hands out what is prepared, and then opens nothing for ever.
#[derive(Clone)]
struct ThenSilent(Prepared);

impl Connect for ThenSilent {
    async fn connect(&self, target: &Target, first: &[u8]) -> Result<Stream, OpenError> {
        match self.0.connect(target, first).await {
            Err(OpenError::Stopped) => pending().await,
            opened => opened,
        }
    }

    async fn connect_fresh(&self, target: &Target) -> Result<Stream, OpenError> {
        self.0.connect_fresh(target).await
    }
}

/// An association under way, the servers of its streams, and all that it shares.
struct Rig {
    app: Local,
    servers: Vec<Server>,
    prepared: Prepared,
    style: Arc<Style>,
    account: Arc<Account>,
    progress: Arc<Progress>,
}

impl Rig {
    /// With so many streams to be opened.
    fn new(streams: usize) -> Self {
        let servers: Vec<_> = (0..streams).map(|_| Server::new()).collect();
        let prepared = Prepared::default();
        prepared.streams.lock().unwrap().extend(servers.iter().map(Server::open));
        for server in &servers {
            server.received(); // what the stream was opened with
        }
        Self {
            app: Local::default(),
            servers,
            prepared,
            style: Arc::default(),
            account: Arc::default(),
            progress: Arc::default(),
        }
    }

    fn serve(&self, mode: Mode) -> JoinHandle<Served<Local>> {
        self.serve_by(mode, self.prepared.clone())
    }

    fn serve_by(&self, mode: Mode, connect: impl Connect) -> JoinHandle<Served<Local>> {
        let (app, style, account, progress) = (
            self.app.clone(),
            Arc::clone(&self.style),
            Arc::clone(&self.account),
            Arc::clone(&self.progress),
        );
        tokio::spawn(async move {
            udp::serve(app, mode, &connect, &style, &account, Clock::Tokio, &progress).await
        })
    }

    /// What the streams were opened with.
    fn openings(&self) -> Vec<Vec<u8>> {
        self.prepared.first.lock().unwrap().clone()
    }
}

async fn end(task: JoinHandle<Served<Local>>) -> Served<Local> {
    timeout(LONG, task).await.expect("it ends").expect("no panic")
}

fn connect_to_peer() -> Mode {
    Mode::Connect(PEER.parse().expect("a target"))
}

fn datagram(before: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("short").to_be_bytes();
    [before, &length, payload].concat()
}

#[tokio::test(start_paused = true)]
async fn only_a_stream_that_is_closed_at_once_was_closed_for_its_mode() {
    // An idle limit of sing-box is 10 s.
    for (closed_after, falls_back) in [(0, true), (4_900, true), (5_000, false), (10_000, false)] {
        let rig = Rig::new(2);
        rig.app.send(PEER, b"time?");
        let task = rig.serve(Mode::Packet);
        settle().await;
        assert_eq!(rig.openings(), [[PACKET_REQUEST, &datagram(PACKET_ADDRESS, b"time?")].concat()]);
        advance(Duration::from_millis(closed_after)).await;
        rig.servers[0].fin(1);
        settle().await;
        assert_eq!(rig.openings().len(), if falls_back { 2 } else { 1 }, "closed after {closed_after} ms");
        if !falls_back {
            let served = end(task).await;
            assert!(matches!(served.end, Ok(End::Finished)) && served.association.is_some());
            assert!(!rig.app.is_refused() && !rig.style.is_connect_only());
            continue;
        }
        assert_eq!(rig.openings()[1], [CONNECT_REQUEST, &datagram(b"", b"time?")].concat());
        rig.servers[1].send_bytes(1, &datagram(b"", b"noon"));
        settle().await;
        assert_eq!(rig.app.received(), [(PEER.to_owned(), b"noon".to_vec())]);
        assert!(rig.style.is_connect_only());
    }
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_association_is_refused_only_when_it_is_closed_at_once() {
    for mode in [Mode::Packet, connect_to_peer()] {
        for (closed_after, is_refused) in [(1, true), (10, false)] {
            let rig = Rig::new(2);
            if mode == Mode::Packet {
                rig.style.set_packet();
            }
            rig.app.send(PEER, b"time?");
            let task = rig.serve(mode.clone());
            settle().await;
            advance(Duration::from_secs(closed_after)).await;
            rig.servers[0].fin(1);
            let served = end(task).await;
            assert!(matches!(served.end, Ok(End::Finished)));
            assert_eq!((rig.app.is_refused(), served.association.is_none()), (is_refused, is_refused));
            assert_eq!(rig.openings().len(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_datagram_is_kept_as_long_as_a_close_would_say_anything() {
    let rig = Rig::new(1);
    rig.app.send(PEER, &[7; 1500]);
    let _task = rig.serve(Mode::Packet);
    settle().await;
    advance(Duration::from_millis(4_900)).await;
    settle().await;
    assert!(rig.account.held() > 1500);
    advance(Duration::from_millis(100)).await;
    settle().await;
    assert_eq!(rig.account.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn servers_that_stay_silent_do_not_use_up_the_account_of_datagrams() {
    const LIMIT: usize = 32_000;
    let mut rig = Rig::new(50);
    rig.account = Arc::new(Account::new(LIMIT));
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            rig.app = Local::default();
            rig.app.send(PEER, &[7; 1500]);
            rig.serve(Mode::Packet)
        })
        .collect();
    settle().await;
    assert_eq!(rig.openings().len(), 50);
    assert!(rig.account.held() > 1500, "the first are kept");
    assert!(rig.account.allowance(0, usize::MAX) >= 1000, "others have room: {}", rig.account.held());
    drop(tasks);

    // One that was not kept is not sent again.
    let mut rig = Rig::new(2);
    rig.account = Arc::new(Account::new(LIMIT));
    let hog = Holding::new(&rig.account);
    hog.set(LIMIT / 2 + LIMIT / 4);
    rig.app.send(PEER, &[7; 1500]);
    let task = rig.serve(Mode::Packet);
    settle().await;
    assert_eq!(rig.account.held(), hog.bytes());
    rig.servers[0].fin(1);
    assert!(end(task).await.association.is_none() && rig.app.is_refused());
    assert_eq!(rig.openings().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_association_that_ends_is_not_served_on_while_its_stream_is_opened() {
    for streams in [0, 1] {
        let rig = Rig::new(streams);
        rig.app.send(PEER, b"hello");
        rig.app.send(PEER, b"never taken");
        let task = rig.serve_by(Mode::Packet, ThenSilent(rig.prepared.clone()));
        settle().await;
        if let Some(server) = rig.servers.first() {
            server.fin(1); // and connect mode is tried
            settle().await;
        }
        assert_eq!(rig.openings().len(), streams + 1);
        assert!(!task.is_finished());
        rig.app.end();
        let served = end(task).await;
        assert!(matches!(served.end, Ok(End::Finished)) && served.association.is_none());
        assert!(!rig.app.is_refused());
        assert_eq!(rig.account.held(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_association_that_ends_is_not_served_on_while_its_stream_takes_nothing() {
    let rig = Rig::new(1);
    for _ in 0..300 {
        rig.app.send(PEER, &[7; 1000]);
    }
    let task = rig.serve(Mode::Packet);
    settle().await;
    assert!((1..299).contains(&rig.app.unsent()), "the session is full: {}", rig.app.unsent());
    rig.app.end();
    let served = end(task).await;
    assert!(matches!(served.end, Ok(End::Finished)) && served.association.is_none());
}

#[tokio::test(start_paused = true)]
async fn until_packet_mode_is_proven_no_address_goes_out_that_another_server_would_misread() {
    const REQUEST: &[u8] = b"\x00\x04\x20\x01\x0D\xB8\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x7B";
    const BY_NAME: &[u8] = b"\x02\x0B2001:db8::1\x00\x7B";
    const ADDRESS: &[u8] = b"\x01\x20\x01\x0D\xB8\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x7B";
    let v6 = "[2001:db8::1]:123";
    let rig = Rig::new(1);
    rig.app.send(v6, b"one");
    let _task = rig.serve(Mode::Packet);
    settle().await;
    assert_eq!(rig.openings(), [[REQUEST, &datagram(BY_NAME, b"one")].concat()]);
    advance(Duration::from_secs(20)).await; // however long that takes
    rig.app.send(v6, b"two");
    rig.app.send(PEER, b"three");
    settle().await;
    let expected = [datagram(BY_NAME, b"two"), datagram(PACKET_ADDRESS, b"three")].concat();
    assert_eq!(rig.servers[0].received(), (expected, vec![]));
    rig.servers[0].send_bytes(1, &datagram(ADDRESS, b"answer"));
    settle().await;
    assert_eq!(rig.app.received(), [(v6.to_owned(), b"answer".to_vec())]);
    rig.app.send(v6, b"four");
    settle().await;
    assert_eq!(rig.servers[0].received(), (datagram(ADDRESS, b"four"), vec![]));
}

#[tokio::test(start_paused = true)]
async fn an_association_whose_stream_has_ended_is_served_again_from_its_next_datagram_on() {
    for is_clean in [true, false] {
        let rig = Rig::new(2);
        for (server, payload) in rig.servers.iter().zip([b"one", b"two"]) {
            rig.app.send(PEER, payload);
            let task = rig.serve(Mode::Packet);
            settle().await;
            server.send_bytes(1, &datagram(PACKET_ADDRESS, payload));
            settle().await;
            assert_eq!(rig.app.received(), [(PEER.to_owned(), payload.to_vec())]);
            if is_clean {
                server.fin(1);
            } else {
                server.die();
            }
            let served = end(task).await;
            assert!(served.association.is_some());
            assert_eq!(matches!(served.end, Ok(End::Finished)), is_clean);
            assert_eq!(matches!(served.end, Ok(End::Server(_))), !is_clean);
        }
        assert_eq!(rig.progress.traffic().up(), 6, "both streams are one association's");
    }
}

#[tokio::test(start_paused = true)]
async fn an_association_that_had_a_stream_is_not_refused_for_want_of_another() {
    /// There is no network.
    #[derive(Clone)]
    struct Offline;

    impl Connect for Offline {
        async fn connect(&self, _: &Target, _: &[u8]) -> Result<Stream, OpenError> {
            Err(OpenError::Offline)
        }

        async fn connect_fresh(&self, _: &Target) -> Result<Stream, OpenError> {
            Err(OpenError::Offline)
        }
    }

    let rig = Rig::new(1);
    rig.app.send(PEER, b"hello");
    let task = rig.serve(Mode::Packet);
    settle().await;
    rig.servers[0].send_bytes(1, &datagram(PACKET_ADDRESS, b"hello"));
    settle().await;
    rig.servers[0].die();
    assert!(end(task).await.association.is_some());

    rig.app.send(PEER, b"into the void");
    let served = end(rig.serve_by(Mode::Packet, Offline)).await;
    assert!(matches!(served.end, Err(OpenError::Offline)));
    assert!(served.association.is_some() && !rig.app.is_refused());

    rig.app.send(PEER, b"too late");
    let served = end(rig.serve(Mode::Packet)).await;
    assert!(matches!(served.end, Err(OpenError::Stopped)), "nothing is prepared");
    assert!(served.association.is_none() && rig.app.is_refused());

    let new = Rig::new(0);
    new.app.send(PEER, b"hello");
    let served = end(new.serve_by(Mode::Packet, Offline)).await;
    assert!(served.association.is_none() && new.app.is_refused());
}
