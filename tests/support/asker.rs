//! Apps that ask for names, many at once or without end.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};

use super::netns::{Netns, wait_until};

/// Sockets that a burst asks from, and how many questions each has under way.
const SOCKETS: usize = 10;
const WINDOW: usize = 50;

/// What was said of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub code: ResponseCode,
    pub address: Option<IpAddr>,
}

/// A question for an A record.
pub fn query(id: u16, name: &str) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.id = id;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_str(name).unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

/// Asks for `NUMBER.suffix` with each number below `count`, 500 at a time; the replies in this order.
///
/// Panics when one of them is not answered, or no answer comes for 10 s.
pub fn burst(netns: &Netns, resolver: SocketAddr, suffix: &str, count: usize) -> Vec<Reply> {
    let mut replies = vec![None; count];
    let share = count.div_ceil(SOCKETS);
    thread::scope(|scope| {
        for (index, replies) in replies.chunks_mut(share).enumerate() {
            scope.spawn(move || ask(socket(netns, resolver), index * share, suffix, replies));
        }
    });
    replies.into_iter().map(Option::unwrap).collect()
}

fn socket(netns: &Netns, to: SocketAddr) -> UdpSocket {
    let any = if to.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    netns
        .run(|| {
            let socket = UdpSocket::bind((any, 0))?;
            socket.connect(to)?;
            io::Result::Ok(socket)
        })
        .unwrap()
}

fn ask(socket: UdpSocket, first: usize, suffix: &str, replies: &mut [Option<Reply>]) {
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut buffer = [0; 4096];
    let mut asked = 0;
    for answered in 0..replies.len() {
        while asked < replies.len().min(answered + WINDOW) {
            let name = format!("{}.{suffix}.", first + asked);
            socket.send(&query(u16::try_from(asked).unwrap(), &name)).unwrap();
            asked += 1;
        }
        let received = socket.recv(&mut buffer).unwrap_or_else(|error| {
            panic!("{error}: {answered} of {} answered, {asked} asked", replies.len())
        });
        let message = Message::from_vec(&buffer[..received]).unwrap();
        let index = usize::from(message.metadata.id);
        let [question] = &message.queries[..] else { panic!("not one question: {message:?}") };
        assert_eq!(question.name().to_ascii(), format!("{}.{suffix}.", first + index));
        let address = message.answers.iter().find_map(|record| record.data.ip_addr());
        let reply = Reply { code: message.metadata.response_code, address };
        assert_eq!(replies[index].replace(reply), None, "answered twice: {message:?}");
    }
}

/// An app that asks for one name after the other, new ones all the time, over UDP and over TCP, whatever
/// becomes of its questions.
pub struct Asker {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    ends: AtomicBool,
    asked: AtomicU64,
    good: AtomicU64,
    failed: AtomicU64,
}

impl Asker {
    /// `suffix` is a zone in which every name has an address.
    pub fn start(netns: &Netns, resolver: SocketAddr, suffix: &'static str) -> Self {
        let shared = Arc::<Shared>::default();
        let spawn = |work: fn(&Netns, SocketAddr, &str, &Shared)| {
            let (netns, shared) = (netns.clone(), Arc::clone(&shared));
            thread::spawn(move || netns.run(|| work(&netns, resolver, suffix, &shared)))
        };
        let threads = vec![spawn(ask_datagrams), spawn(ask_streams)];
        Self { shared, threads }
    }

    /// Waits until it has put 50 more questions, answered or not.
    pub fn wait_until_asked(&self) {
        let enough = self.shared.asked.load(Ordering::Relaxed) + 50;
        wait_until("50 questions", || self.shared.asked.load(Ordering::Relaxed) >= enough);
    }

    /// Waits until 20 more of its questions were answered with an address.
    pub fn wait_until_answered(&self) {
        let enough = self.shared.good.load(Ordering::Relaxed) + 20;
        wait_until("20 good answers", || self.shared.good.load(Ordering::Relaxed) >= enough);
    }

    /// Waits until 20 more of its questions were answered with a failure.
    pub fn wait_until_failed(&self) {
        let enough = self.shared.failed.load(Ordering::Relaxed) + 20;
        wait_until("20 failures", || self.shared.failed.load(Ordering::Relaxed) >= enough);
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            assert!(thread.join().is_ok() || thread::panicking(), "the asker has failed");
        }
    }
}

impl Shared {
    /// The next name to ask for, until it ends.
    fn next(&self, suffix: &str) -> Option<(u16, String)> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let id = u16::try_from(number % 65_536).unwrap();
        (!self.ends.load(Ordering::Relaxed)).then(|| (id, format!("n{number}.{suffix}.")))
    }

    fn count(&self, answer: &[u8]) {
        let message = Message::from_vec(answer).unwrap();
        match message.metadata.response_code {
            ResponseCode::NoError => &self.good,
            ResponseCode::ServFail => &self.failed,
            other => panic!("{other}: {message:?}"),
        }
        .fetch_add(1, Ordering::Relaxed);
    }
}

/// How long it waits for an answer before it asks for the next name.
const PATIENCE: Duration = Duration::from_millis(20);

fn ask_datagrams(_: &Netns, resolver: SocketAddr, suffix: &str, shared: &Shared) {
    // Not connected: what an ICMP message says of one question is nothing to the next.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 4096];
    while let Some((id, name)) = shared.next(suffix) {
        // Where there is no tunnel there is no way either.
        let _no_way = socket.send_to(&query(id, &name), resolver);
        while let Ok((received, _)) = socket.recv_from(&mut buffer) {
            shared.count(&buffer[..received]);
        }
    }
}

fn ask_streams(_: &Netns, resolver: SocketAddr, suffix: &str, shared: &Shared) {
    while let Some((id, name)) = shared.next(suffix) {
        // As above; and a tunnel that stops breaks them.
        if let Ok(answer) = ask_stream(resolver, &query(id, &name)) {
            shared.count(&answer);
        } else {
            thread::sleep(PATIENCE);
        }
    }
}

/// One question over a connection of its own.
fn ask_stream(resolver: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&resolver, Duration::from_millis(500))?;
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    stream.write_all(&u16::try_from(query.len()).unwrap().to_be_bytes())?;
    stream.write_all(query)?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}
