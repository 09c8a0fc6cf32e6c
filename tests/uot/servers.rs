//! Datagrams through servers that we did not write.

use std::net::SocketAddr;
use std::sync::Arc;

use anytls_mobile::client::{Client, ClientOptions, OpenError};
use anytls_mobile::clock::Clock;
use anytls_mobile::proto::auth::PasswordHash;
use anytls_mobile::proto::padding::Scheme;
use anytls_mobile::proto::session::StreamError;
use anytls_mobile::proto::target::Target;
use anytls_mobile::relay::tcp::End;
use anytls_mobile::relay::udp::{Mode, Style};
use anytls_mobile::transport::{DialOptions, Dialer, NoProtect, Pem, SystemResolver, TlsOptions};
use tokio::net::UdpSocket;

use crate::app::{Running, echo, payload, peer};
use crate::client::{PASSWORD, pool};
use crate::support::netns::{Netns, free_port};
use crate::support::servers::{SERVER_NAME, Server, anytls_rs, sing_box};

fn client(server: &Server) -> Client<Dialer> {
    let mut options = DialOptions::new(server.address.ip().to_string(), server.address.port());
    options.tls = TlsOptions {
        server_name: Some(SERVER_NAME.to_owned()),
        certificate_authority: Some(Pem::File(server.certificate())),
        ..TlsOptions::default()
    };
    let dialer = Dialer::new(options, Arc::new(NoProtect), Arc::new(SystemResolver::default()), Clock::Boot)
        .expect("TLS options are fine");
    let options = ClientOptions {
        pool: pool(),
        password: PasswordHash::of(PASSWORD),
        scheme: Arc::new(Scheme::default_scheme()),
        clock: Clock::Boot,
        account: Arc::default(),
    };
    Client::new(dialer, options)
}

fn listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

/// What every server holds.
const SIZES: [usize; 8] = [0, 1, 512, 1200, 1472, 9000, 16_000, 16_384];

async fn exchange_all(running: &Running, echo: SocketAddr, sizes: &[usize]) {
    for &size in sizes {
        running.exchange(echo, size, 3).await;
    }
}

#[tokio::test]
async fn sing_box_carries_datagrams_in_both_modes_to_and_from_anyone() {
    let Some(server) = sing_box(&Netns::here(), listen(), PASSWORD, None) else { return };
    let client = client(&server);
    for echo in [echo("127.0.0.1:0").await, echo("[::1]:0").await] {
        let style = Arc::<Style>::default();
        let running = Running::start(&client, Mode::Packet, &style);
        exchange_all(&running, echo, &SIZES).await;
        assert!(style.is_packet());
        let running = Running::start(&client, Mode::Connect(Target::from(echo)), &style);
        exchange_all(&running, echo, &SIZES).await;
    }

    let running = Running::start(&client, Mode::Packet, &Arc::default());
    let ((first, first_address), (other, other_address)) = (peer().await, peer().await);
    running.app.send(first_address, b"hello");
    let (_, us) = first.recv_from(&mut [0; 10]).await.expect("received");
    other.send_to(b"unasked", ("127.0.0.1", us.port())).await.expect("sent");
    assert_eq!(running.app.recv().await, (other_address.into(), b"unasked".to_vec()));
    client.stop().await;
}

#[tokio::test]
async fn sing_box_closes_a_stream_on_a_long_datagram_which_says_nothing_of_its_modes() {
    let Some(server) = sing_box(&Netns::here(), listen(), PASSWORD, None) else { return };
    let (client, echo) = (client(&server), echo("127.0.0.1:0").await);
    let style = Arc::<Style>::default();
    let running = Running::start(&client, Mode::Packet, &style);
    running.app.send(echo, &payload(20_000, 1));
    let (app, end) = running.finish().await;
    assert!(matches!(end, Ok(End::Finished)), "{end:?}");
    assert!(app.was_refused() && !style.is_connect_only());
    client.stop().await;
}

#[tokio::test]
async fn anytls_server_is_found_to_do_connect_mode_only() {
    let Some(server) = anytls_rs(&Netns::here(), listen(), PASSWORD, None) else { return };
    let (client, echo) = (client(&server), echo("127.0.0.1:0").await);
    let style = Arc::<Style>::default();
    let found = Running::start(&client, Mode::Packet, &style);
    exchange_all(&found, echo, &SIZES).await;
    assert!(style.is_connect_only());
    let known = Running::start(&client, Mode::Packet, &style);
    exchange_all(&known, echo, &SIZES).await;
    exchange_all(&known, echo, &[40_000, 65_507]).await;
    client.stop().await;
}

#[tokio::test]
async fn sing_box_takes_an_ipv6_address_by_name_and_is_a_full_cone_to_it() {
    let Some(server) = sing_box(&Netns::here(), listen(), PASSWORD, None) else { return };
    let client = client(&server);
    let (first, other) = (UdpSocket::bind("[::1]:0").await, UdpSocket::bind("[::1]:0").await);
    let (first, other) = (first.expect("bound"), other.expect("bound"));
    let (first_address, other_address) =
        (first.local_addr().expect("bound"), other.local_addr().expect("bound"));
    let style = Arc::<Style>::default();
    let running = Running::start(&client, Mode::Packet, &style);
    running.app.send(first_address, b"hello");
    let mut space = [0; 10];
    let (_, us) = first.recv_from(&mut space).await.expect("received");
    running.app.send(other_address, b"too");
    assert_eq!(other.recv_from(&mut space).await.expect("received"), (3, us), "from the same socket");
    assert!(!style.is_packet(), "both went by name");
    let third = UdpSocket::bind("[::1]:0").await.expect("bound");
    third.send_to(b"unasked", ("::1", us.port())).await.expect("sent");
    let third_address = third.local_addr().expect("bound");
    assert_eq!(running.app.recv().await, (third_address.into(), b"unasked".to_vec()));
    assert!(style.is_packet());
    first.send_to(b"answer", ("::1", us.port())).await.expect("sent");
    assert_eq!(running.app.recv().await, (first_address.into(), b"answer".to_vec()));
    client.stop().await;
}

#[tokio::test]
async fn anytls_server_has_no_ipv6_which_refuses_the_association() {
    let Some(server) = anytls_rs(&Netns::here(), listen(), PASSWORD, None) else { return };
    let client = client(&server);
    // As an IPv4 address, the second is a real one, with a port, and a length to wait for.
    for to in
        [echo("[::1]:0").await, "[2001:db8:1111:2222:3333:4444:5555:6666]:7".parse().expect("an address")]
    {
        let style = Arc::<Style>::default();
        let running = Running::start(&client, Mode::Packet, &style);
        running.app.send(to, b"hello");
        let (app, end) = running.finish().await;
        assert!(matches!(end, Err(OpenError::Stream(StreamError::Refused(_)))), "{end:?}");
        assert!(app.was_refused() && !style.is_connect_only() && !style.is_packet());
    }
    client.stop().await;
}
