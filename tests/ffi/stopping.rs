//! A stop takes a second at most, whatever the tunnel is at.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, OnceLock};

use anytls_mobile::ffi::{CallbackError, Event, EventListener, Platform, Tunnel, TunnelError, TunnelState};

use super::support::{
    Heard, Kind, Server, config, is_state, poll_once_and_drop, silent, start, tun, wait, wait_for_state,
    wait_until_closed,
};

#[test]
fn a_stop_ends_a_handshake() {
    let listener = silent();
    let tunnel = Tunnel::new(None);
    let phone = start(&tunnel, config(listener.local_addr().unwrap())).unwrap();
    let _dialed = listener.accept().unwrap();
    wait(tunnel.stop());
    assert_eq!(tunnel.state(), TunnelState::Stopped);
    wait_until_closed(&phone);
}

#[test]
fn a_stop_that_is_dropped_goes_on() {
    let server = Server::start();
    let tunnel = Tunnel::new(None);
    let phone = start(&tunnel, server.config()).unwrap();
    poll_once_and_drop(tunnel.stop());
    wait_for_state(&tunnel, |state| *state == TunnelState::Stopped);
    wait_until_closed(&phone);
}

/// Polls a future once.
fn poll_once<T>(future: &mut std::pin::Pin<&mut impl Future<Output = T>>) -> std::task::Poll<T> {
    wait(std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx))))
}

#[test]
fn a_stop_ends_a_start_that_is_under_way_though_nobody_polls_it() {
    let server = Server::start();
    for _ in 0..50 {
        let app = Arc::new(Kind::default());
        let tunnel = Tunnel::new(Some(Arc::clone(&app) as _));
        let (ours, phone) = tun();
        let mut starting = std::pin::pin!(tunnel.start(server.config(), ours));
        let polled = poll_once(&mut starting);
        wait(tunnel.stop());
        assert_eq!(tunnel.state(), TunnelState::Stopped);
        wait_until_closed(&phone);
        let asked = app.protected.load(Ordering::SeqCst);
        std::thread::yield_now();
        assert_eq!(app.protected.load(Ordering::SeqCst), asked, "asked after the stop");
        // It may have come through before the stop.
        let started = if let std::task::Poll::Ready(started) = polled { started } else { wait(starting) };
        assert!(matches!(started, Ok(()) | Err(TunnelError::Cancelled)), "{started:?}");
        let _phone = start(&tunnel, server.config()).expect("off, and so ready for a start");
        wait(tunnel.stop());
    }
}

#[test]
fn a_start_waits_for_a_stop_that_is_under_way() {
    let server = Server::start();
    let tunnel = Tunnel::new(None);
    let _phone = start(&tunnel, server.config()).unwrap();
    poll_once_and_drop(tunnel.stop());
    let _phone = start(&tunnel, server.config()).expect("one after the other");
    wait_for_state(&tunnel, |state| *state == TunnelState::Connected);
    wait(tunnel.stop());
}

#[test]
fn two_stops_at_once_are_one() {
    let server = Server::start();
    let tunnel = Tunnel::new(None);
    let phone = start(&tunnel, server.config()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let tunnel = Arc::clone(&tunnel);
            scope.spawn(move || {
                wait(tunnel.stop());
                assert_eq!(tunnel.state(), TunnelState::Stopped);
            });
        }
    });
    wait_until_closed(&phone);
}

#[test]
fn a_start_as_soon_as_a_listener_hears_of_the_stop_is_heard_like_any_other() {
    let server = Server::start();
    for _ in 0..10 {
        let tunnel = Tunnel::new(None);
        let (heard, other) = (Arc::new(Heard::default()), Arc::new(Heard::default()));
        let _phone = start(&tunnel, server.config()).unwrap();
        tunnel.subscribe(Arc::clone(&heard) as _, None).unwrap();
        tunnel.subscribe(Arc::clone(&other) as _, None).unwrap();
        heard.wait_for(is_state(TunnelState::Connecting));
        poll_once_and_drop(tunnel.stop());
        let _phone = start(&tunnel, server.config()).unwrap();
        tunnel.network_changed(None);
        heard.wait_for(is_state(TunnelState::WaitingForNetwork));
        other.wait_for(is_state(TunnelState::WaitingForNetwork));
        wait(tunnel.stop());
    }
}

/// A listener that is slow at the end.
struct Slow {
    heard: Heard,
    goes_on: Barrier,
}

impl EventListener for Slow {
    fn on_event(&self, event: Event) -> Result<(), CallbackError> {
        if is_state(TunnelState::Stopped)(&event) && self.heard.count() > 1 {
            self.goes_on.wait();
        }
        self.heard.on_event(event)
    }
}

#[test]
fn a_second_stop_returns_when_the_first_has() {
    let server = Server::start();
    let tunnel = Tunnel::new(None);
    let slow = Arc::new(Slow { heard: Heard::default(), goes_on: Barrier::new(2) });
    tunnel.subscribe(Arc::clone(&slow) as _, None).unwrap();
    slow.heard.wait_for(is_state(TunnelState::Stopped));
    let _phone = start(&tunnel, server.config()).unwrap();
    slow.heard.wait_for(is_state(TunnelState::Connecting));
    poll_once_and_drop(tunnel.stop());
    wait_for_state(&tunnel, |state| *state == TunnelState::Stopped);
    std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            wait(tunnel.stop());
            slow.heard.states()
        });
        slow.goes_on.wait();
        let states = second.join().unwrap();
        assert_eq!(
            states.last(),
            Some(&TunnelState::Stopped),
            "told before the second stop returned: {states:?}"
        );
    });
}

#[test]
fn a_stop_out_of_protect_takes_no_longer_than_any() {
    struct Stops(OnceLock<std::sync::Weak<Tunnel>>, AtomicUsize);

    impl Platform for Stops {
        fn protect(&self, _: i32) -> Result<bool, CallbackError> {
            self.1.fetch_add(1, Ordering::SeqCst);
            if let Some(tunnel) = self.0.get().and_then(std::sync::Weak::upgrade) {
                wait(tunnel.stop());
            }
            Ok(true)
        }

        fn resolve(&self, _: String) -> Result<Option<Vec<String>>, CallbackError> {
            Ok(None)
        }
    }

    let server = Server::start();
    let app = Arc::new(Stops(OnceLock::new(), AtomicUsize::new(0)));
    let tunnel = Tunnel::new(Some(Arc::clone(&app) as _));
    app.0.set(Arc::downgrade(&tunnel)).unwrap();
    let (ours, phone) = tun();
    let started = wait(tunnel.start(server.config(), ours));
    assert!(matches!(started, Ok(()) | Err(TunnelError::Cancelled)), "{started:?}"); // whichever is faster
    wait_for_state(&tunnel, |state| *state == TunnelState::Stopped);
    wait_until_closed(&phone);
    assert_eq!(app.1.load(Ordering::SeqCst), 1, "asked after the stop");
    assert_eq!(server.sessions(), 0);
}
