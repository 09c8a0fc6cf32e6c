//! A descriptor that is handed over is closed on every way out.

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use anytls_mobile::ffi::{Tunnel, TunnelError};
use socket2::{Domain, Socket, Type};

use super::support::{
    Server, config, config_with, dead, poll_once_and_drop, start, tun, wait, wait_until, wait_until_closed,
};

#[test]
fn a_bad_config_closes_the_tun() {
    let tunnel = Tunnel::new(None);
    let (ours, phone) = tun();
    let error = wait(tunnel.start("{}".to_owned(), ours)).unwrap_err();
    assert!(matches!(error, TunnelError::Config { .. }), "{error}");
    wait_until_closed(&phone);
}

#[test]
fn bad_tls_settings_close_the_tun() {
    let tls = serde_json::json!({ "tls": { "certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----" } });
    let tunnel = Tunnel::new(None);
    let (ours, phone) = tun();
    let error = wait(tunnel.start(config_with(dead(), tls), ours)).unwrap_err();
    assert!(matches!(error, TunnelError::TlsSettings { .. }), "{error}");
    assert_eq!(error.failure().code, "tls_settings");
    wait_until_closed(&phone);
}

#[test]
fn a_second_start_closes_its_tun_and_leaves_the_first_alone() {
    let server = Server::start();
    let tunnel = Tunnel::new(None);
    let phone = start(&tunnel, server.config()).unwrap();
    let (ours, second) = tun();
    let error = wait(tunnel.start(server.config(), ours)).unwrap_err();
    assert_eq!(error, TunnelError::AlreadyStarted);
    wait_until_closed(&second);
    phone.send(&[0x45]).expect("the first is open");
    wait(tunnel.stop());
    wait_until_closed(&phone);
}

#[test]
fn what_is_no_tun_is_refused_and_closed() {
    let tunnel = Tunnel::new(None);
    let file = tempfile::NamedTempFile::new().unwrap(); // nothing that can be waited for
    let path = file.path().to_owned();
    let error = wait(tunnel.start(config(dead()), OwnedFd::from(file.into_file()).into())).unwrap_err();
    assert!(matches!(error, TunnelError::Tun { .. }), "{error}");
    let is_open = || {
        let mut links = std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|entry| entry.ok()?.path().read_link().ok());
        links.any(|link| link.to_string_lossy().starts_with(&*path.to_string_lossy()))
    };
    wait_until("the file to be closed", || !is_open());
}

#[test]
fn a_start_that_is_never_polled_closes_the_tun() {
    let tunnel = Tunnel::new(None);
    let (ours, phone) = tun();
    drop(tunnel.start(config(dead()), ours));
    wait_until_closed(&phone);
}

#[test]
fn a_start_that_is_dropped_half_way_closes_the_tun_and_can_be_repeated() {
    let server = Server::start();
    let tunnel = Tunnel::new(None);
    let (ours, phone) = tun();
    if poll_once_and_drop(tunnel.start(server.config(), ours)) {
        wait(tunnel.stop()); // it was faster
    }
    wait_until_closed(&phone);
    start(&tunnel, server.config()).expect("off, and so ready for a start");
    wait(tunnel.stop());
}

#[test]
fn dropping_a_tunnel_that_runs_closes_the_tun() {
    let server = Server::start();
    let tunnel = Tunnel::new(None);
    let phone = start(&tunnel, server.config()).unwrap();
    drop(tunnel);
    wait_until_closed(&phone);
}

#[test]
fn a_socket_is_taken_over_whatever_becomes_of_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = || {
        let app = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (app, OwnedFd::from(listener.accept().unwrap().0))
    };
    let is_over = |app: TcpStream| {
        use std::io::Read;
        app.set_read_timeout(Some(super::support::LONG)).unwrap();
        !matches!((&app).read(&mut [0; 1]), Ok(1))
    };
    let server = Server::start();
    let tunnel = Tunnel::new(None);

    let (app, socket) = connected();
    assert_eq!(tunnel.connect_stream(socket.into(), "192.0.2.1:80"), Err(TunnelError::NotStarted));
    assert!(is_over(app));

    let _phone = start(&tunnel, server.config()).unwrap();
    let (app, socket) = connected();
    let error = tunnel.connect_stream(socket.into(), "no port").unwrap_err();
    assert!(matches!(error, TunnelError::Destination { .. }), "{error}");
    assert!(is_over(app));

    let datagrams = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    let error = tunnel.connect_stream(OwnedFd::from(datagrams).into(), "192.0.2.1:80").unwrap_err();
    assert!(matches!(error, TunnelError::Descriptor { .. }), "{error}");

    let (app, socket) = connected();
    let id = tunnel.connect_stream(socket.into(), "192.0.2.1:80").expect("relayed");
    assert!(tunnel.close_connection(id));
    assert!(is_over(app));
    assert!(!tunnel.close_connection(id), "it is gone");
    wait(tunnel.stop());
}
