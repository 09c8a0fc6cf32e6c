//! Relays that do with flows what the destination's port says.

use std::future::{pending, poll_fn};
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use std::{io, mem};

use anytls_mobile::netstack::{Counters, Fate, Handler, Reply, TcpFlow, TcpStream, UdpFlow};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;

/// What a relay says that talks by itself: several segments of any size.
pub const TALK_BYTES: u64 = 3000;

/// How late an answer comes that does not come at once.
pub const REPLY_DELAY: Duration = Duration::from_secs(2);

/// All relays of one run. By the lower three bits of the port:
///
/// | | TCP | UDP |
/// |---|---|---|
/// | 0 | echoed | echoed, a flow for each destination |
/// | 1 | refused | echoed, a flow for each endpoint |
/// | 2 | accepted, and left alone | left alone |
/// | 3 | not answered | answered at once |
/// | 4 | talked to, then shut down | answered in two seconds, at length |
/// | 5 | shut down, and listened to | refused |
/// | 6 | accepted, and dropped | refused by the relay |
/// | 7 | reset after the first bytes | dropped |
#[derive(Clone, Default)]
pub struct Relays(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    tasks: JoinSet<()>,
    /// Those of them that never end.
    kept: usize,
    flows: u64,
    datagrams: u64,
    udp_flows: u64,
    queries: u64,
}

impl Relays {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no relay has panicked with it")
    }

    /// Compares what came with what was counted.
    pub fn check(&self, counters: &Counters) {
        let state = self.lock();
        assert_eq!(state.flows, counters.flows_total, "{counters:?}");
        assert_eq!(state.udp_flows, counters.udp_flows_total, "{counters:?}");
        assert_eq!(state.queries, counters.queries, "{counters:?}");
        assert_eq!(state.datagrams, counters.datagrams_in, "{counters:?}");
    }

    /// Whether no flow is left alone, so that every datagram is taken.
    pub fn take_all(&self) -> bool {
        self.lock().kept == 0
    }

    /// Drops every relay, with all that it has.
    pub async fn end(&self) {
        self.lock().kept = 0;
        let mut tasks = mem::take(&mut self.lock().tasks);
        tasks.abort_all();
        while let Some(ended) = tasks.join_next().await {
            check_end(ended);
        }
    }

    /// Without a stack, no relay goes on.
    pub fn assert_ended(&self) {
        let mut state = self.lock();
        while let Some(ended) = state.tasks.try_join_next() {
            check_end(ended);
        }
        assert_eq!(state.tasks.len(), state.kept);
    }

    fn keep(&self, flow: impl Send + 'static) {
        self.lock().kept += 1;
        self.spawn(async {
            let _flow = flow;
            pending().await
        });
    }

    fn spawn(&self, relay: impl Future<Output = ()> + Send + 'static) {
        self.lock().tasks.spawn(relay);
    }
}

fn check_end(ended: Result<(), JoinError>) {
    if let Some(panic) = ended.err().and_then(|error| error.try_into_panic().ok()) {
        resume_unwind(panic);
    }
}

impl Handler for Relays {
    fn handle_tcp(&mut self, flow: TcpFlow) {
        self.lock().flows += 1;
        match flow.destination().port() & 0b111 {
            0 => self.spawn(async { _ = echo(flow.accept()).await }),
            1 => flow.refuse(),
            2 => self.keep(flow.accept()),
            3 => self.keep(flow),
            4 => self.spawn(async { _ = talk(flow.accept()).await }),
            5 => self.spawn(async { _ = listen(flow.accept()).await }),
            6 => drop(flow.accept()),
            _ => self.spawn(async { _ = interrupt(flow.accept()).await }),
        }
    }

    fn judge_udp(&mut self, destination: SocketAddr) -> Fate {
        self.lock().datagrams += 1;
        match destination.port() & 0b111 {
            0 => Fate::CarryAlone,
            3 | 4 => Fate::Answer,
            5 => Fate::Refuse,
            _ => Fate::Carry,
        }
    }

    fn handle_udp(&mut self, flow: UdpFlow) {
        self.lock().udp_flows += 1;
        match flow.destination().port() & 0b111 {
            2 => self.keep(flow),
            6 => flow.refuse(),
            7 => drop(flow),
            _ => self.spawn(echo_datagrams(flow)),
        }
    }

    fn handle_query(&mut self, payload: &[u8], reply: Reply) {
        self.lock().queries += 1;
        if reply.destination().port() & 1 == 1 {
            return reply.send(payload);
        }
        let answer = payload.repeat(8);
        self.spawn(async move {
            sleep(REPLY_DELAY).await;
            reply.send(&answer);
        });
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 2048];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return stream.shutdown().await,
            length => stream.write_all(&buffer[..length]).await?,
        }
    }
}

async fn talk(mut stream: TcpStream) -> io::Result<()> {
    let said: Vec<u8> = (0..TALK_BYTES).map(|place| place as u8).collect(); // modulo 256
    stream.write_all(&said).await?;
    stream.shutdown().await
}

async fn listen(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    while stream.read(&mut [0; 100]).await? > 0 {}
    Ok(())
}

async fn interrupt(mut stream: TcpStream) -> io::Result<()> {
    stream.read_exact(&mut [0; 1]).await?;
    stream.abort();
    Ok(())
}

async fn echo_datagrams(mut flow: UdpFlow) {
    while let Some(datagram) = poll_fn(|cx| flow.poll_recv(cx)).await {
        poll_fn(|cx| flow.poll_send(cx, datagram.destination, &datagram.payload)).await;
    }
}
