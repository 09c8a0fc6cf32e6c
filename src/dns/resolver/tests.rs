//! Queries in, answers out, against resolvers that the test plays on pipes.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::dns::framing::Outbox;
use crate::dns::front::seats::MAX_SEATS;
use crate::dns::front::tests::flow;
use crate::dns::upstream::tests::{Peer, Pipes};

fn options(mode: DnsMode) -> ResolverOptions {
    let server = ServerOptions {
        transport: Transport::Tcp,
        host: Host::Ip([192, 0, 2, 53].into()),
        port: 53,
        tls: TlsOptions::default(),
    };
    let strategy = DnsStrategy::AsAsked;
    ResolverOptions { mode, strategy, server, exclude: Vec::new(), memory_bytes: 256 * 1024 }
}

fn resolver(mode: DnsMode) -> (Resolver, mpsc::Receiver<Peer>) {
    let (pipes, peers) = Pipes::new();
    let generator = StdRng::seed_from_u64(1);
    (Resolver::start(options(mode).read().unwrap(), pipes, Clock::Tokio, generator), peers)
}

/// Asks for the addresses of `<letter>.example`.
fn query(letter: u8) -> Vec<u8> {
    let header = [0xAB, letter, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    [&header[..], &[1, letter, 7], b"example", &[0, 0, 1, 0, 1]].concat()
}

/// 192.0.2.1, for five minutes.
fn answer_to(question: &[u8]) -> Vec<u8> {
    let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    let header = [question[0], question[1], 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
    let record = [0xC0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, 1];
    [&header[..], &question[12..end], &record].concat()
}

fn is_server_failure(answer: &[u8]) -> bool {
    answer[2] & 0x80 != 0 && answer[3] & 0xF == 2
}

/// Hands a query over; what it is answered.
fn ask(resolver: &Resolver, query: &[u8]) -> oneshot::Receiver<Vec<u8>> {
    let (told, tells) = oneshot::channel();
    resolver.handle_datagram(query, move |answer| drop(told.send(answer.to_vec())));
    tells
}

/// Answers everything on every stream.
fn serve(mut peers: mpsc::Receiver<Peer>) {
    tokio::spawn(async move {
        while let Some(mut peer) = peers.recv().await {
            while let Some(question) = peer.question().await {
                peer.send(&answer_to(&question)).await;
            }
        }
    });
}

#[tokio::test(start_paused = true)]
async fn a_datagram_is_answered_by_the_resolver_under_its_own_id() {
    let (resolver, peers) = resolver(DnsMode::Forward);
    serve(peers);
    let answers = [b'a', b'b', b'c'].map(|letter| (letter, ask(&resolver, &query(letter))));
    for (letter, answer) in answers {
        let answer = answer.await.unwrap();
        assert_eq!(answer[..2], [0xAB, letter]);
        assert!(answer.ends_with(&[192, 0, 2, 1]));
    }
    assert_eq!(resolver.stats().upstream.opened, 1);
}

#[tokio::test(start_paused = true)]
async fn what_needs_no_resolver_is_answered_before_the_call_returns() {
    let (resolver, mut peers) = resolver(DnsMode::FakeIp);
    let answer = ask(&resolver, &query(b'a')).try_recv().unwrap();
    assert_eq!(answer[..2], [0xAB, b'a']);
    assert!(peers.try_recv().is_err(), "nobody was asked");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_query_gets_no_answer() {
    let (resolver, _peers) = resolver(DnsMode::Forward);
    assert!(ask(&resolver, b"short").await.is_err());
    assert!(ask(&resolver, &answer_to(&query(b'a'))).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn silence_becomes_a_server_failure_after_five_seconds() {
    let (resolver, mut peers) = resolver(DnsMode::Forward);
    tokio::spawn(async move {
        let _first = peers.recv().await;
        let _second = peers.recv().await;
        std::future::pending::<()>().await;
    });
    let start = tokio::time::Instant::now();
    assert!(is_server_failure(&ask(&resolver, &query(b'a')).await.unwrap()));
    assert_eq!(start.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn stopping_tells_who_waits_and_who_asks_later() {
    let (resolver, mut peers) = resolver(DnsMode::Forward);
    let waits = ask(&resolver, &query(b'a'));
    let _silent = peers.recv().await.unwrap();
    let unsent = ask(&resolver, &query(b'b'));
    resolver.stop().await;
    for mut answer in [waits, unsent, ask(&resolver, &query(b'c'))] {
        assert!(is_server_failure(&answer.try_recv().unwrap()));
    }
    resolver.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_reload_asks_the_new_server() {
    let (resolver, mut peers) = resolver(DnsMode::Forward);
    let answer = ask(&resolver, &query(b'a'));
    let mut silent = peers.recv().await.unwrap();
    assert!(silent.question().await.is_some());
    resolver.set(options(DnsMode::Forward).read().unwrap());
    assert!(silent.question().await.is_none());
    serve(peers);
    assert!(answer.await.unwrap().ends_with(&[192, 0, 2, 1]));
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_with_a_reload_does_not_fail_for_the_server_before() {
    let (resolver, mut peers) = resolver(DnsMode::Forward);
    let failed = ask(&resolver, &query(b'a'));
    drop(peers.recv().await);
    drop(peers.recv().await);
    assert!(is_server_failure(&failed.await.unwrap()));
    assert!(is_server_failure(&ask(&resolver, &query(b'b')).await.unwrap()), "it is left alone");
    resolver.set(options(DnsMode::Forward).read().unwrap());
    let answer = ask(&resolver, &query(b'c'));
    serve(peers);
    assert!(answer.await.unwrap().ends_with(&[192, 0, 2, 1]));
}

#[test]
fn options_that_cannot_be_used_are_refused_when_they_are_read() {
    let tls = TlsOptions { server_name: Some("no name".to_owned()), ..TlsOptions::default() };
    let mut wrong = options(DnsMode::FakeIp);
    wrong.server = ServerOptions { transport: Transport::Tls, tls, ..wrong.server };
    assert!(matches!(wrong.read().map(drop), Err(TlsConfigError::ServerName(_))));
}

#[test]
fn a_web_server_is_told_its_port_only_where_it_is_not_the_usual_one() {
    for (target, authority) in [
        ("192.0.2.53:443", "192.0.2.53"),
        ("192.0.2.53:8443", "192.0.2.53:8443"),
        ("[2001:db8::443]:443", "[2001:db8::443]"),
        ("[2001:db8::443]:444", "[2001:db8::443]:444"),
        ("dns.example:443", "dns.example"),
        ("dns.example:1443", "dns.example:1443"),
    ] {
        let Target { host, port } = target.parse().unwrap();
        let transport = Transport::Https { path: "/dns-query".to_owned() };
        let server = ServerOptions { transport, host, port, tls: TlsOptions::default() }.read().unwrap();
        let Way::Https(_, uri) = server.way else { panic!("{:?}", server.way) };
        assert_eq!(uri.authority().unwrap().as_str(), authority);
        assert_eq!(uri.path(), "/dns-query");
    }
}

async fn ask_over_tcp(app: &mut DuplexStream, letter: u8) {
    let mut framed = Outbox::default();
    assert!(framed.put(&query(letter)).is_some());
    app.write_all(&framed.take()).await.unwrap();
    let mut answer = vec![0; usize::from(app.read_u16().await.unwrap())];
    app.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer[..2], [0xAB, letter]);
    assert!(answer.ends_with(&[192, 0, 2, 1]));
}

#[tokio::test(start_paused = true)]
async fn apps_are_served_over_tcp_and_the_longest_idle_one_goes_when_there_are_too_many() {
    let (resolver, peers) = resolver(DnsMode::Forward);
    serve(peers);
    let serve = || {
        let (flow, app) = flow();
        let resolver = resolver.clone();
        tokio::spawn(async move { resolver.serve_stream(flow).await });
        app
    };
    let mut apps: Vec<_> = std::iter::repeat_with(serve).take(MAX_SEATS).collect();
    tokio::time::sleep(Duration::from_secs(1)).await; // all sit
    ask_over_tcp(&mut apps[0], b'a').await;
    let mut late = serve();
    ask_over_tcp(&mut late, b'b').await;
    let end = tokio::time::timeout(Duration::from_secs(1), apps[1].read(&mut [0])).await;
    assert_eq!(end.unwrap().unwrap(), 0, "the first that has asked nothing");
    for app in [0, 2, MAX_SEATS - 1] {
        ask_over_tcp(&mut apps[app], b'c').await;
    }
    drop(apps.split_off(MAX_SEATS / 2));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut more: Vec<_> = std::iter::repeat_with(serve).take(MAX_SEATS / 2).collect();
    for app in more.iter_mut().chain(&mut apps[2..]).chain([&mut late]) {
        ask_over_tcp(app, b'd').await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_the_last_clone() {
    let (resolver, mut peers) = resolver(DnsMode::Forward);
    let _answer = ask(&resolver, &query(b'a'));
    let mut peer = peers.recv().await.unwrap();
    drop(resolver.clone());
    drop(resolver);
    assert!(peer.question().await.is_some());
    assert!(peer.question().await.is_none());
}
