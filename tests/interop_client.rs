//! The client against AnyTLS servers that we did not write, over real sockets.
#![allow(clippy::disallowed_methods)] // a test's tasks live as long as its runtime

mod support;

use std::net::SocketAddr;
use std::sync::Arc;

use anytls_mobile::client::{Client, ClientOptions, OpenError, Stream};
use anytls_mobile::clock::Clock;
use anytls_mobile::proto::auth::PasswordHash;
use anytls_mobile::proto::padding::Scheme;
use anytls_mobile::proto::pool::PoolOptions;
use anytls_mobile::proto::session::StreamError;
use anytls_mobile::proto::target::Target;
use anytls_mobile::transport::{DialError, DialOptions, Dialer, NoProtect, Pem, SystemResolver, TlsOptions};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::netns::{Netns, free_port};
use support::servers::{self, SERVER_NAME, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt, split};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

const PASSWORD: &str = "correct horse";

type Start = fn(&Netns, SocketAddr, &str, Option<&str>) -> Option<Server>;
const SERVERS: [(&str, Start); 2] = [("sing-box", servers::sing_box), ("anytls-server", servers::anytls_rs)];

fn each_server(scheme: Option<&str>, test: impl AsyncFn(&Server)) {
    for (name, start) in SERVERS {
        let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let Some(server) = start(&Netns::here(), listen, PASSWORD, scheme) else { continue };
        println!("against {name}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(test(&server));
    }
}

fn client(server: &Server, password: &str) -> Client<Dialer> {
    client_with(server, password, TlsOptions::default())
}

fn client_with(server: &Server, password: &str, tls: TlsOptions) -> Client<Dialer> {
    let mut options = DialOptions::new(server.address.ip().to_string(), server.address.port());
    options.tls = TlsOptions {
        server_name: Some(SERVER_NAME.to_owned()),
        certificate_authority: Some(Pem::File(server.certificate())),
        ..tls
    };
    let dialer = Dialer::new(options, Arc::new(NoProtect), Arc::new(SystemResolver::default()), Clock::Boot)
        .expect("TLS options are fine");
    let options = ClientOptions {
        pool: PoolOptions::default(),
        password: PasswordHash::of(password),
        scheme: Arc::new(Scheme::default_scheme()),
        clock: Clock::Boot,
        account: Arc::default(),
    };
    Client::new(dialer, options)
}

/// Echoes until the client's end, then closes.
async fn echo() -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = socket.split();
                let _reset = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    Target::from(address)
}

async fn exchange(stream: Stream, count: usize, seed: u64) {
    let mut sent = vec![0; count];
    StdRng::seed_from_u64(seed).fill_bytes(&mut sent);
    let (mut read, mut write) = split(stream);
    let mut received = vec![0; count];
    let (written, got) = tokio::join!(write.write_all(&sent), read.read_exact(&mut received));
    written.expect("written");
    got.expect("read");
    assert!(sent == received, "seed {seed}: the echo differs");
}

#[test]
fn megabytes_both_ways_are_exact_on_parallel_streams() {
    each_server(None, async |server| {
        let (client, target) = (client(server, PASSWORD), echo().await);
        // A server that makes nobody wait drops a stream with a mebibyte that its target has not taken yet.
        let count = if server.makes_clients_wait { 8 << 20 } else { 700_000 };
        let mut streams = JoinSet::new();
        for seed in 0..8 {
            let (client, target) = (client.clone(), target.clone());
            streams.spawn(async move {
                let stream = client.open(&target, b"").await.expect("opened");
                exchange(stream, count, seed).await;
            });
        }
        streams.join_all().await;
        assert_eq!(client.stats().dialed, 8);
        client.stop().await;
    });
}

#[test]
fn five_hundred_requests_in_a_row_all_succeed() {
    each_server(None, async |server| {
        let (client, target) = (client(server, PASSWORD), echo().await);
        for seed in 0..500 {
            let first = format!("request {seed}");
            let mut stream = client.open(&target, first.as_bytes()).await.expect("opened");
            let mut answer = vec![0; first.len()];
            stream.read_exact(&mut answer).await.expect("answered");
            assert_eq!(answer, first.as_bytes());
        }
        println!("{:?}", client.stats());
        assert!(client.stats().reused > 0);
        client.stop().await;
    });
}

#[test]
fn an_updated_padding_scheme_is_used_and_traffic_goes_on() {
    let scheme = "stop=4\n0=50-60\n1=200-300\n2=300-400,c,500-600\n3=700-800";
    each_server(Some(scheme), async |server| {
        let (client, target) = (client(server, PASSWORD), echo().await);
        let streams: Vec<_> = {
            let first = client.open(&target, b"").await.expect("opened");
            let second = client.open(&target, b"").await.expect("opened");
            vec![first, second]
        };
        for (seed, stream) in (0..).zip(streams) {
            exchange(stream, 100_000, seed).await;
        }
        client.stop().await;
    });
}

#[test]
fn a_refused_target_is_told_from_a_refused_password() {
    each_server(None, async |server| {
        let nobody = Target::from(SocketAddr::from(([127, 0, 0, 1], free_port())));
        let right = client(server, PASSWORD);
        let refused = right.open(&nobody, b"").await.expect_err("nobody listens");
        assert!(matches!(refused, OpenError::Stream(StreamError::Refused(_))), "{refused:?}");

        let wrong = client(server, "battery staple");
        let rejected = wrong.open(&nobody, b"").await.expect_err("the password is wrong");
        println!("{rejected:?}");
        right.stop().await;
        wrong.stop().await;
    });
}

#[test]
fn a_dead_pooled_session_costs_nothing_but_time() {
    for (name, start) in SERVERS {
        let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let Some(server) = start(&Netns::here(), listen, PASSWORD, None) else { continue };
        println!("against {name}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async {
            // A restarted server has a new certificate here.
            let tls = TlsOptions { insecure: true, ..TlsOptions::default() };
            let (client, target) = (client_with(&server, PASSWORD, tls), echo().await);
            let stream = client.open(&target, b"").await.expect("opened");
            exchange(stream, 1000, 1).await;
            drop(server);
            let Some(again) = start(&Netns::here(), listen, PASSWORD, None) else { return };
            let stream = client.open(&target, b"").await.expect("opened on a fresh session");
            exchange(stream, 1000, 2).await;
            drop(again);
            let error = client.open(&target, b"").await.expect_err("nobody is there");
            assert!(matches!(error, OpenError::Dial(DialError::Connect { .. })), "{error:?}");
            client.stop().await;
        });
    }
}
