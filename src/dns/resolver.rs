//! The apps' queries, and who answers them.
//!
//! The desk decides, under one lock: what it can answer at once is answered on the caller's stack. What it has
//! to ask goes to the one task, which owns the way to the resolver.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::Uri;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::Notify;

use super::desk::{Desk, DeskOptions};
use super::flights::Ticket;
use super::front::seats::Seats;
use super::front::{self, Backlog, Slot};
use super::message::Via;
use super::names::is_in_range;
use super::upstream::{self, Event, Open, Server, Tls, Upstream, UpstreamStats, Way};
use super::{DeskCounters, DnsMode, DnsStrategy, FakeName};
use crate::clock::{Alarm, Clock};
use crate::proto::target::{Host, Target};
use crate::proto::timers::Moment;
use crate::relay::{Connect, Flow};
use crate::task::Tasks;
use crate::transport::{TlsConfigError, TlsOptions, client_config};

/// How queries are answered.
#[derive(Clone, Debug)]
pub struct ResolverOptions {
    /// Who answers.
    pub mode: DnsMode,
    /// Which addresses apps are told of.
    pub strategy: DnsStrategy,
    /// Whom to ask.
    pub server: ServerOptions,
    /// Names, each with all below it, that get no fake address.
    pub exclude: Vec<String>,
    /// For all that is held: queries that wait, answers, fake names.
    pub memory_bytes: usize,
}

/// A resolver, and how it is spoken to.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// How it is spoken to.
    pub transport: Transport,
    /// Where it is; the AnyTLS server resolves a name.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// Unused with [`Transport::Tcp`]. The protocols offered are those of the transport, whatever stands here.
    pub tls: TlsOptions,
}

/// How a resolver is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// DNS over TCP (RFC 7766).
    Tcp,
    /// DNS over TLS (RFC 7858).
    Tls,
    /// DNS over HTTPS (RFC 8484).
    Https {
        /// What is asked for, beginning with a slash.
        path: String,
    },
}

/// What was counted of DNS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DnsStats {
    /// Queries and their answers.
    pub desk: DeskCounters,
    /// The way to the resolver.
    pub upstream: UpstreamStats,
}

/// Answers the apps' queries. Clones share everything; when the last is gone, so is its task.
#[derive(Clone)]
pub struct Resolver {
    shared: Arc<Shared>,
    tasks: Arc<Tasks>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Resolver {
    /// To be made inside the tunnel's runtime. Nothing is opened before there is something to ask.
    pub fn new<C: Connect>(settings: Settings, connect: C, clock: Clock, generator: StdRng) -> Self {
        Self::start(settings, connect, clock, generator)
    }

    fn start<O: Open>(settings: Settings, opener: O, clock: Clock, mut generator: StdRng) -> Self {
        let Settings { desk: options, server } = settings;
        let counters = Arc::<upstream::Counters>::default();
        let of_upstream = StdRng::from_rng(&mut generator);
        let upstream = Upstream::new(opener, server, clock, of_upstream, Arc::clone(&counters));
        let state = State {
            desk: Desk::new(options, generator),
            questions: VecDeque::new(),
            change: None,
            is_stopped: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            news: Notify::new(),
            clock,
            seats: Seats::default(),
            backlog: Backlog::default(),
            counters,
        });
        let tasks = Tasks::new();
        tasks.spawn("dns", drive(Arc::clone(&shared), upstream));
        Self { shared, tasks: Arc::new(tasks) }
    }

    /// Answers a query that came as a datagram. `reply` is called exactly once, maybe before this returns,
    /// unless the message is no query at all: a response, or shorter than a header.
    pub fn handle_datagram(&self, query: &[u8], reply: impl FnOnce(&[u8]) + Send + 'static) {
        let client = Client::Datagram(Box::new(reply));
        self.shared.turn(|desk, now| desk.handle_query(query, Via::Udp, client, now));
    }

    /// Serves DNS over TCP on an accepted flow until the app ends, idles or breaks, or has been idle for
    /// longest when there are too many.
    ///
    /// # Cancel safety
    /// Dropping the future resets the flow.
    pub async fn serve_stream<F: Flow>(&self, flow: F) {
        let (mut seat, lost) = self.shared.seats.take();
        let served = front::serve(flow, &self.shared.backlog, self.shared.clock, |query, slot| {
            seat.renew();
            let client = Client::Stream(slot);
            self.shared.turn(|desk, now| desk.handle_query(query, Via::Tcp, client, now));
        });
        tokio::select! {
            served = served => if let Err(error) = served {
                tracing::debug!(%error, "DNS over TCP was broken off");
            },
            _ = lost => tracing::debug!("too many apps ask over TCP: one that was idle has to go"),
        }
    }

    /// Goes by other settings from now on. Fake names stay, the cache goes, and what is not answered is asked
    /// anew.
    pub fn set(&self, settings: Settings) {
        let Settings { desk, server } = settings;
        let mut state = self.shared.lock();
        state.desk.set_options(desk);
        if !state.is_stopped {
            state.change = Some(Change::Server(server));
        }
        drop(state);
        self.shared.news.notify_one();
        self.shared.turn(|_, _| {});
    }

    /// The phone is on another network: the connection to the resolver is dropped, its questions asked again.
    pub fn handle_path_change(&self) {
        self.shared.lock().change.get_or_insert(Change::Path);
        self.shared.news.notify_one();
    }

    /// Memory is short: the cache goes.
    pub fn clear(&self) {
        self.shared.lock().desk.clear_cache();
    }

    /// What was counted so far.
    pub fn stats(&self) -> DnsStats {
        DnsStats { desk: self.shared.lock().desk.counters(), upstream: self.shared.counters.snapshot() }
    }

    /// Whether an address is one that stands for a name, known or not.
    pub fn is_fake(&self, address: IpAddr) -> bool {
        is_in_range(address) && self.shared.lock().desk.is_fake(address)
    }

    /// The name that an address of ours stands for.
    pub fn fake_name(&self, address: IpAddr) -> FakeName {
        if is_in_range(address) { self.shared.lock().desk.fake_name(address) } else { FakeName::NotFake }
    }

    /// Ends the connection to the resolver. Who waits, and who asks from now on what has to be asked, is told
    /// that it failed.
    pub async fn stop(&self) {
        {
            let mut state = self.shared.lock();
            state.is_stopped = true;
            state.change = Some(Change::Stop);
        }
        self.shared.news.notify_one();
        self.tasks.join().await;
    }
}

/// [`ResolverOptions`] that can be used: what they name was read.
pub struct Settings {
    desk: DeskOptions,
    server: Server,
}

impl ResolverOptions {
    /// Reads the files that the options name.
    ///
    /// # Errors
    /// When the TLS options cannot be used.
    pub fn read(self) -> Result<Settings, TlsConfigError> {
        let Self { mode, strategy, server, exclude, memory_bytes } = self;
        let desk = DeskOptions { mode, strategy, exclude, memory_bytes };
        Ok(Settings { desk, server: server.read()? })
    }
}

impl ServerOptions {
    fn read(self) -> Result<Server, TlsConfigError> {
        let Self { transport, host, port, tls } = self;
        let name = match &host {
            Host::Ip(address) => address.to_string(),
            Host::Name(name) => name.as_str().to_owned(),
        };
        let tls = |protocol: &str| {
            let options = TlsOptions { alpn: vec![protocol.to_owned()], ..tls };
            client_config(&options, &name).map(|(config, name)| Tls { config, name })
        };
        let target = Target { host, port };
        let way = match transport {
            Transport::Tcp => Way::Tcp,
            Transport::Tls => Way::Tls(tls("dot")?),
            Transport::Https { path } => {
                let tls = tls("h2")?;
                let uri: Uri = format!("https://{}{path}", authority(&target))
                    .parse()
                    .map_err(|_| TlsConfigError::ServerName(target.to_string()))?;
                Way::Https(tls, uri)
            }
        };
        Ok(Server { target, way })
    }
}

/// `host:port`, without the port that `https` means anyway (RFC 9110, section 4.2.3): servers that compare it
/// with the names that they know expect it as browsers send it.
fn authority(target: &Target) -> String {
    let authority = target.to_string();
    match authority.strip_suffix(":443") {
        Some(host) if target.port == 443 => host.to_owned(),
        Some(_) | None => authority,
    }
}

type Answering = dyn FnOnce(&[u8]) + Send;

/// Whom an answer is for.
enum Client {
    Datagram(Box<Answering>),
    Stream(Slot),
}

impl Client {
    fn answer(self, answer: Vec<u8>) {
        match self {
            Self::Datagram(reply) => reply(&answer),
            Self::Stream(slot) => slot.send(answer),
        }
    }
}

struct Shared {
    state: Mutex<State>,
    /// Something for the task in the state.
    news: Notify,
    clock: Clock,
    /// The apps that ask over TCP.
    seats: Seats,
    /// Of their answers.
    backlog: Backlog,
    counters: Arc<upstream::Counters>,
}

struct State {
    desk: Desk<Client>,
    /// For the task to take; the desk has only so many outstanding.
    questions: VecDeque<(Ticket, Vec<u8>)>,
    change: Option<Change>,
    is_stopped: bool,
}

enum Change {
    Path,
    Server(Server),
    Stop,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the desk something, and does what it wants. Answers are given without the lock.
    fn turn(&self, tell: impl FnOnce(&mut Desk<Client>, Moment)) {
        let now = self.clock.now();
        let mut state = self.lock();
        let State { desk, questions, is_stopped, .. } = &mut *state;
        tell(desk, now);
        let mut is_news = false;
        while let Some((ticket, question)) = desk.poll_question() {
            if *is_stopped {
                desk.handle_failure(ticket, now);
            } else {
                questions.push_back((ticket, question));
                is_news = true;
            }
        }
        let answers: Vec<_> = std::iter::from_fn(|| desk.poll_answer()).collect();
        drop(state);
        if is_news {
            self.news.notify_one();
        }
        for (client, answer) in answers {
            client.answer(answer);
        }
    }
}

/// The task: asks, and waits for answers.
async fn drive<O: Open>(shared: Arc<Shared>, mut upstream: Upstream<O>) {
    let mut alarm = Alarm::default();
    loop {
        let (deadline, is_last) = {
            let mut state = shared.lock();
            let change = state.change.take();
            let is_last = matches!(change, Some(Change::Stop));
            // Before the questions: it ends a rest that was another server's, or another network's.
            match change {
                None | Some(Change::Stop) => {}
                Some(Change::Path) => upstream.handle_path_change(),
                Some(Change::Server(server)) => upstream.set_server(server),
            }
            state.questions.drain(..).for_each(|(ticket, question)| upstream.ask(ticket, question));
            (state.desk.poll_timeout(), is_last)
        };
        if is_last {
            break;
        }
        tokio::select! {
            () = shared.news.notified() => {}
            event = poll_fn(|cx| upstream.poll_event(cx)) => shared.turn(|desk, now| match event {
                Event::Answer(ticket, answer) => desk.handle_answer(ticket, &answer, now),
                Event::Failure(ticket) => desk.handle_failure(ticket, now),
            }),
            () = poll_fn(|cx| alarm.poll(cx, deadline, shared.clock)) => {
                shared.turn(|desk, now| desk.handle_timeout(now));
            }
        }
    }
    shared.turn(|desk, now| upstream.into_unanswered().for_each(|ticket| desk.handle_failure(ticket, now)));
}

#[cfg(test)]
mod tests;
