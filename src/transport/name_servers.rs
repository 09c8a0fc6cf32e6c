//! Asking the network's own DNS servers beside the tunnel.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use rand::RngExt;
use socket2::{Domain, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::protect::Protect;
use super::resolver::{Lookup, Resolve};
use crate::entropy;

/// How long each server has in the first round, and in the second.
const ROUNDS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];

/// More than a few are a mistake; resolvers know three.
const MAX_SERVERS: usize = 4;

/// What a datagram without EDNS can have; addresses of one server fit.
const MAX_DATAGRAM_BYTES: usize = 512;

/// A stub resolver on protected sockets, for where the system's own lookups would enter the tunnel: its queries
/// leave on the network that the tunnel itself leaves on. It knows no search domains, and no other sources.
pub struct NameServers {
    servers: Arc<Servers>,
    protect: Arc<dyn Protect>,
}

type Servers = dyn Fn() -> io::Result<Vec<SocketAddr>> + Send + Sync;

impl NameServers {
    /// `servers` says, for each lookup anew, whom the network has its names from.
    pub fn new(
        servers: impl Fn() -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
        protect: Arc<dyn Protect>,
    ) -> Self {
        Self { servers: Arc::new(servers), protect }
    }
}

impl Resolve for NameServers {
    fn resolve(&self, host: &str, port: u16) -> Lookup {
        let (servers, protect) = (Arc::clone(&self.servers), Arc::clone(&self.protect));
        let name = Name::from_ascii(host).map(|mut name| {
            name.set_fqdn(true);
            name
        });
        Box::pin(async move {
            let name = name.map_err(io::Error::other)?;
            let servers = servers()?;
            let addresses = ask_any(&servers, &name, &*protect).await?;
            Ok(addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect())
        })
    }
}

/// The first server's answer that says anything.
async fn ask_any(servers: &[SocketAddr], name: &Name, protect: &dyn Protect) -> io::Result<Vec<IpAddr>> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the network has no DNS servers");
    for patience in ROUNDS {
        for server in servers.iter().take(MAX_SERVERS) {
            let mut addresses = Vec::new();
            last = match timeout(patience, ask(*server, name, protect, &mut addresses)).await {
                Ok(Ok(())) => return Ok(addresses),
                _ if !addresses.is_empty() => return Ok(addresses), // of one family: better than none
                Ok(Err(error)) => error,
                Err(_) => io::Error::new(io::ErrorKind::TimedOut, "the network's DNS servers are silent"),
            };
        }
    }
    Err(last)
}

/// Asks for the addresses of both families, which are in `addresses` as they come; none when the name has none.
async fn ask(
    server: SocketAddr,
    name: &Name,
    protect: &dyn Protect,
    addresses: &mut Vec<IpAddr>,
) -> io::Result<()> {
    let socket = open(server, protect)?;
    let mut generator = entropy::generator();
    let unanswered = [RecordType::AAAA, RecordType::A].map(|kind| {
        let mut query = Message::new(generator.random(), MessageType::Query, OpCode::Query);
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(name.clone(), kind));
        query
    });
    let mut unanswered = Vec::from(unanswered);
    for query in &unanswered {
        socket.send(&query.to_vec().map_err(io::Error::other)?).await?;
    }
    let mut failure = None;
    let mut datagram = [0; MAX_DATAGRAM_BYTES];
    while !unanswered.is_empty() {
        let length = socket.recv(&mut datagram).await?;
        let Ok(answer) = Message::from_vec(&datagram[..length]) else { continue };
        let is_of = |query: &Message| {
            let is_answer = answer.metadata.message_type == MessageType::Response;
            is_answer && query.metadata.id == answer.metadata.id && query.queries == answer.queries
        };
        let Some(at) = unanswered.iter().position(is_of) else { continue };
        unanswered.remove(at);
        match answer.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => {}
            code => failure = Some(io::Error::other(format!("the network's DNS server says {code}"))),
        }
        addresses.extend(answer.answers.iter().filter_map(|record| match &record.data {
            RData::A(address) => Some(IpAddr::from(address.0)),
            RData::AAAA(address) => Some(IpAddr::from(address.0)),
            _ => None,
        }));
    }
    failure.map_or(Ok(()), Err)
}

/// A socket that takes datagrams from the server alone.
fn open(server: SocketAddr, protect: &dyn Protect) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(server), Type::DGRAM, None)?;
    protect.protect(socket.as_fd()).map_err(io::Error::other)?;
    socket.set_nonblocking(true)?;
    socket.connect(&server.into())?;
    UdpSocket::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket as Blocking;
    use std::os::fd::BorrowedFd;
    use std::thread::{self, JoinHandle};

    use super::*;
    use crate::transport::{NoProtect, ProtectError};

    type Answers = fn(&Message) -> Vec<Vec<u8>>;

    /// A DNS server for `count` queries.
    fn server(count: usize, answers: Answers) -> (SocketAddr, JoinHandle<()>) {
        let socket = Blocking::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let run = move || {
            let mut buffer = [0; 1500];
            for _ in 0..count {
                let (length, from) = socket.recv_from(&mut buffer).unwrap();
                for answer in answers(&Message::from_vec(&buffer[..length]).unwrap()) {
                    socket.send_to(&answer, from).unwrap();
                }
            }
        };
        #[allow(clippy::disallowed_methods)] // joined by the test
        (address, thread::spawn(run))
    }

    fn answer(query: &Message, code: ResponseCode, data: Option<RData>) -> Message {
        let mut answer = query.clone().into_response();
        answer.metadata.response_code = code;
        let name = query.queries[0].name().clone();
        answer.answers.extend(data.map(|data| hickory_proto::rr::Record::from_rdata(name, 60, data)));
        answer
    }

    /// An address of each family.
    fn both(query: &Message) -> Vec<Vec<u8>> {
        let data = match query.queries[0].query_type() {
            RecordType::A => RData::A("192.0.2.1".parse().unwrap()),
            _ => RData::AAAA("2001:db8::1".parse().unwrap()),
        };
        vec![answer(query, ResponseCode::NoError, Some(data)).to_vec().unwrap()]
    }

    fn refuses(query: &Message) -> Vec<Vec<u8>> {
        vec![answer(query, ResponseCode::ServFail, None).to_vec().unwrap()]
    }

    fn has_none(query: &Message) -> Vec<Vec<u8>> {
        vec![answer(query, ResponseCode::NXDomain, None).to_vec().unwrap()]
    }

    /// An IPv4 address, and silence when it is asked for an IPv6 one.
    fn knows_only_ipv4(query: &Message) -> Vec<Vec<u8>> {
        if query.queries[0].query_type() == RecordType::A { both(query) } else { Vec::new() }
    }

    /// The same, but it says that it cannot tell.
    fn fails_for_ipv6(query: &Message) -> Vec<Vec<u8>> {
        if query.queries[0].query_type() == RecordType::A { both(query) } else { refuses(query) }
    }

    /// What is no answer, and then the answer.
    fn noisy(query: &Message) -> Vec<Vec<u8>> {
        let mut other_id = query.clone();
        other_id.metadata.id ^= 1;
        let mut other_name = query.clone();
        other_name.queries[0].set_name(Name::from_ascii("other.example.").unwrap());
        let mut noise = vec![b"?".to_vec(), query.to_vec().unwrap()];
        noise.extend([other_id, other_name].iter().flat_map(refuses));
        noise.extend(both(query));
        noise
    }

    async fn resolve(servers: Vec<SocketAddr>) -> io::Result<Vec<String>> {
        let servers = NameServers::new(move || Ok(servers.clone()), Arc::new(NoProtect));
        let addresses = servers.resolve("vpn.example", 443).await?;
        Ok(addresses.iter().map(SocketAddr::to_string).collect())
    }

    fn sorted(mut addresses: Vec<String>) -> Vec<String> {
        addresses.sort();
        addresses
    }

    #[tokio::test]
    async fn both_families_are_asked_for_and_noise_is_passed_over() {
        for answers in [both as Answers, noisy] {
            let (address, thread) = server(2, answers);
            let addresses = sorted(resolve(vec![address]).await.unwrap());
            assert_eq!(addresses, ["192.0.2.1:443", "[2001:db8::1]:443"]);
            thread.join().unwrap();
        }
    }

    #[tokio::test]
    async fn addresses_of_one_family_do_when_the_other_is_not_to_be_had() {
        for answers in [fails_for_ipv6 as Answers, knows_only_ipv4] {
            let (address, thread) = server(2, answers);
            assert_eq!(resolve(vec![address]).await.unwrap(), ["192.0.2.1:443"]);
            thread.join().unwrap();
        }
    }

    #[tokio::test]
    async fn the_next_server_is_asked_when_one_fails() {
        let (broken, first) = server(2, refuses);
        let (good, second) = server(2, both);
        assert_eq!(resolve(vec![broken, good]).await.unwrap().len(), 2);
        first.join().unwrap();
        second.join().unwrap();
    }

    #[tokio::test]
    async fn a_name_without_addresses_has_none_and_no_server_is_an_error() {
        let (address, thread) = server(2, has_none);
        assert_eq!(resolve(vec![address]).await.unwrap(), [""; 0]);
        thread.join().unwrap();
        assert_eq!(resolve(vec![]).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test(start_paused = true)]
    async fn silent_servers_are_an_error_in_time() {
        let silent = Blocking::bind("127.0.0.1:0").unwrap();
        let error = resolve(vec![silent.local_addr().unwrap()]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn without_protection_nothing_is_sent() {
        struct Refuse;
        impl Protect for Refuse {
            fn protect(&self, _: BorrowedFd<'_>) -> Result<(), ProtectError> {
                Err(ProtectError::Refused)
            }
        }
        let socket = Blocking::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let servers = NameServers::new(move || Ok(vec![address]), Arc::new(Refuse));
        assert!(servers.resolve("vpn.example", 443).await.is_err());
        socket.set_nonblocking(true).unwrap();
        assert_eq!(socket.recv(&mut [0; 1]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
