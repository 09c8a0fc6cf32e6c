//! The app's own code, asked by us: it may refuse, fail, or take its time.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use anytls_mobile::ffi::{CallbackError, Platform, Tunnel, TunnelState};

use super::support::{Kind, PASSWORD, Server, silent, start, wait, wait_for_state, wait_until};

type Answer<T> = Result<T, CallbackError>;

fn failed<T>(reason: &str) -> Answer<T> {
    Err(CallbackError::Failed { reason: reason.to_owned() })
}

/// An app that answers the same every time.
struct App {
    protect: Answer<bool>,
    resolve: Answer<Option<Vec<String>>>,
    asked: AtomicUsize,
}

impl App {
    fn new(protect: Answer<bool>, resolve: Answer<Option<Vec<String>>>) -> Arc<Self> {
        Arc::new(Self { protect, resolve, asked: AtomicUsize::new(0) })
    }
}

impl Platform for App {
    fn protect(&self, _: RawFd) -> Answer<bool> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.protect.clone()
    }

    fn resolve(&self, _: String) -> Answer<Option<Vec<String>>> {
        self.resolve.clone()
    }
}

fn named(host: &str, server: SocketAddr) -> String {
    format!("anytls://{}@{host}:{}/?insecure=1", PASSWORD.replace(' ', "%20"), server.port())
}

/// The code of the failure that keeps the tunnel from its first session.
fn first_failure(tunnel: &Tunnel) -> String {
    let state = wait_for_state(tunnel, |state| matches!(state, TunnelState::Reconnecting { .. }));
    let TunnelState::Reconnecting { attempt, failure, .. } = state else { unreachable!() };
    assert!(attempt >= 1);
    assert!(!failure.user_message.is_empty());
    failure.code
}

#[test]
fn every_socket_is_protected() {
    let server = Server::start();
    let app = Arc::new(Kind::default());
    let tunnel = Tunnel::new(Some(Arc::clone(&app) as _));
    let _phone = start(&tunnel, server.config()).unwrap();
    wait_for_state(&tunnel, |state| *state == TunnelState::Connected);
    wait_until("two sessions", || server.sessions() >= 2);
    assert!(app.protected.load(Ordering::SeqCst) >= 2);
    wait(tunnel.stop());
}

#[test]
fn a_socket_that_is_not_protected_never_connects() {
    for (answer, is_said) in [(Ok(false), "refused"), (failed("not prepared"), "not prepared")] {
        let nobody: TcpListener = silent();
        nobody.set_nonblocking(true).unwrap();
        let app = App::new(answer, Ok(None));
        let tunnel = Tunnel::new(Some(Arc::clone(&app) as _));
        let _phone = start(&tunnel, super::support::config(nobody.local_addr().unwrap())).unwrap();
        assert_eq!(first_failure(&tunnel), "dial.protect");
        let state = wait_for_state(&tunnel, |state| matches!(state, TunnelState::Reconnecting { .. }));
        let TunnelState::Reconnecting { failure, .. } = state else { unreachable!() };
        assert!(failure.detail.contains(is_said), "{}", failure.detail);
        assert!(!failure.is_retryable);
        wait(tunnel.stop());
        assert!(app.asked.load(Ordering::SeqCst) >= 1);
        assert_eq!(nobody.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock, "something has connected");
    }
}

#[test]
fn the_app_says_where_the_server_is() {
    let server = Server::start();
    let addresses = Some(vec!["127.0.0.1".to_owned()]);
    let tunnel = Tunnel::new(Some(App::new(Ok(true), Ok(addresses))));
    let _phone = start(&tunnel, named("no-such-name.invalid", server.address())).unwrap();
    wait_for_state(&tunnel, |state| *state == TunnelState::Connected);
    wait(tunnel.stop());
}

#[test]
fn without_its_word_the_system_is_asked() {
    let server = Server::start();
    let tunnel = Tunnel::new(Some(App::new(Ok(true), Ok(None))));
    let _phone = start(&tunnel, named("localhost", server.address())).unwrap();
    wait_for_state(&tunnel, |state| *state == TunnelState::Connected);
    wait(tunnel.stop());
}

#[test]
fn a_name_that_the_app_cannot_resolve_is_a_failed_dial() {
    let server = Server::start();
    for answer in [failed("no network"), Ok(Some(vec!["nonsense".to_owned()])), Ok(Some(Vec::new()))] {
        let tunnel = Tunnel::new(Some(App::new(Ok(true), answer)));
        let _phone = start(&tunnel, named("server.example", server.address())).unwrap();
        assert_eq!(first_failure(&tunnel), "dial.resolve");
        wait(tunnel.stop());
    }
}

/// An app whose first answer never comes, until the test is over.
struct Stuck {
    asked: AtomicUsize,
    release: std::sync::Mutex<mpsc::Receiver<()>>,
}

impl Platform for Stuck {
    fn protect(&self, _: RawFd) -> Answer<bool> {
        if self.asked.fetch_add(1, Ordering::SeqCst) == 0 {
            let _over = self.release.lock().unwrap().recv();
        }
        Ok(true)
    }

    fn resolve(&self, _: String) -> Answer<Option<Vec<String>>> {
        Ok(None)
    }
}

#[test]
fn a_stop_does_not_wait_for_a_callback_that_hangs_and_none_begins_after_it() {
    let server = Server::start();
    let (done, release) = mpsc::sync_channel(1);
    let app = Arc::new(Stuck { asked: AtomicUsize::new(0), release: release.into() });
    let tunnel = Tunnel::new(Some(Arc::clone(&app) as _));
    let phone = start(&tunnel, server.config()).unwrap();
    wait_until("the first question", || app.asked.load(Ordering::SeqCst) == 1);
    wait(tunnel.stop());
    assert_eq!(tunnel.state(), TunnelState::Stopped);
    done.send(()).unwrap();
    super::support::wait_until_closed(&phone);
    assert_eq!(app.asked.load(Ordering::SeqCst), 1, "asked after the stop");
    assert_eq!(server.sessions(), 0);
}
