//! What listeners hear.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::Duration;

use anytls_mobile::ffi::{CallbackError, Event, EventListener, MemoryPressure, Power, Tunnel, TunnelState};

use socket2::Socket;

use super::support::{
    Heard, Server, config, dead, is_state, poll_once_and_drop, silent, start, wait, wait_for_state,
    wait_until, wait_until_closed,
};

#[test]
fn a_listener_hears_the_state_as_it_is_and_then_whenever_it_changes() {
    let server = Server::start();
    let tunnel = Tunnel::new(None);
    let heard = Arc::new(Heard::default());
    tunnel.subscribe(Arc::clone(&heard) as _, None).unwrap();
    heard.wait_for(is_state(TunnelState::Stopped));
    let _phone = start(&tunnel, server.config()).unwrap();
    heard.wait_for(is_state(TunnelState::Connected));
    tunnel.network_changed(None);
    heard.wait_for(is_state(TunnelState::WaitingForNetwork));
    tunnel.network_changed(Some("wifi".to_owned()));
    wait_for_state(&tunnel, |state| *state == TunnelState::Connected);
    tunnel.set_power(Power::Doze);
    heard.wait_for(is_state(TunnelState::Paused));
    tunnel.set_power(Power::Interactive);
    tunnel.memory_pressure(MemoryPressure::Low);
    wait_until("the pressure to be shown", || tunnel.stats().memory.pressure == MemoryPressure::Low);
    wait(tunnel.stop());
    let states = heard.states();
    assert_eq!(states.last(), Some(&TunnelState::Stopped), "{states:?}");
    assert!(states.windows(2).all(|pair| pair[0] != pair[1]), "nothing is told twice: {states:?}");
}

#[test]
fn a_reason_to_wait_is_told_with_its_code() {
    let tunnel = Tunnel::new(None);
    let heard = Arc::new(Heard::default());
    tunnel.subscribe(Arc::clone(&heard) as _, None).unwrap();
    let _phone = start(&tunnel, config(dead())).unwrap();
    let is_refused = |event: &Event| match event {
        Event::State { state: TunnelState::Reconnecting { attempt, failure, .. } } => {
            *attempt > 0 && failure.code == "dial.refused" && failure.is_retryable
        }
        Event::State { .. } | Event::Stats { .. } => false,
    };
    heard.wait_for(is_refused);
    wait(tunnel.stop());
}

#[test]
fn stats_are_told_as_well() {
    let server = Server::start();
    let tunnel = Tunnel::new(None);
    let heard = Arc::new(Heard::default());
    tunnel.subscribe(Arc::clone(&heard) as _, Some(Duration::from_millis(100))).unwrap();
    let _phone = start(&tunnel, server.config()).unwrap();
    let is_stats = |event: &Event| matches!(event, Event::Stats { stats } if stats.pool.dialed > 0);
    heard.wait_for(is_stats);
    wait(tunnel.stop());
}

struct Faulty(Heard);

impl EventListener for Faulty {
    fn on_event(&self, event: Event) -> Result<(), CallbackError> {
        self.0.on_event(event)?;
        Err(CallbackError::Failed { reason: "on purpose".to_owned() })
    }
}

#[test]
fn a_listener_that_fails_goes_on_hearing_and_so_do_the_others() {
    let server = Server::start();
    let tunnel = Tunnel::new(None);
    let (faulty, sound) = (Arc::new(Faulty(Heard::default())), Arc::new(Heard::default()));
    tunnel.subscribe(Arc::clone(&faulty) as _, None).unwrap();
    tunnel.subscribe(Arc::clone(&sound) as _, None).unwrap();
    let _phone = start(&tunnel, server.config()).unwrap();
    faulty.0.wait_for(is_state(TunnelState::Connected));
    sound.wait_for(is_state(TunnelState::Connected));
    wait(tunnel.stop());
}

/// A listener that never comes back, until the test is over.
struct Stuck {
    calls: AtomicUsize,
    release: Mutex<mpsc::Receiver<()>>,
}

impl EventListener for Stuck {
    fn on_event(&self, _: Event) -> Result<(), CallbackError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let _over = self.release.lock().unwrap().recv();
        Ok(())
    }
}

#[test]
fn a_stop_does_not_wait_for_a_listener_that_hangs_and_it_hears_nothing_more() {
    let server = Server::start();
    let (done, release) = mpsc::sync_channel(1);
    let listener = Arc::new(Stuck { calls: AtomicUsize::new(0), release: release.into() });
    let tunnel = Tunnel::new(None);
    tunnel.subscribe(Arc::clone(&listener) as _, None).unwrap();
    wait_until("the first call", || listener.calls.load(Ordering::SeqCst) == 1);
    let phone = start(&tunnel, server.config()).unwrap();
    wait(tunnel.stop());
    wait_until_closed(&phone);
    done.send(()).unwrap();
    let late = Arc::new(Heard::default());
    tunnel.subscribe(Arc::clone(&late) as _, None).unwrap();
    late.wait_for(is_state(TunnelState::Stopped)); // by the same thread
    assert_eq!(listener.calls.load(Ordering::SeqCst), 1);
}

/// Does to its own tunnel, out of a callback, what an app may do there.
struct Reentrant {
    tunnel: OnceLock<std::sync::Weak<Tunnel>>,
    id: OnceLock<u64>,
    how: How,
    calls: AtomicUsize,
}

#[derive(Clone, Copy)]
enum How {
    Stop,
    StopElsewhere,
    DropTheStop,
    Unsubscribe,
}

impl EventListener for Reentrant {
    fn on_event(&self, event: Event) -> Result<(), CallbackError> {
        if !is_state(TunnelState::Connected)(&event) {
            return Ok(());
        }
        self.calls.fetch_add(1, Ordering::SeqCst);
        let Some(tunnel) = self.tunnel.get().and_then(std::sync::Weak::upgrade) else { return Ok(()) };
        match self.how {
            How::Stop => wait(tunnel.stop()),
            How::StopElsewhere => std::thread::spawn(move || wait(tunnel.stop())).join().unwrap(),
            How::DropTheStop => {
                poll_once_and_drop(tunnel.stop());
            }
            How::Unsubscribe => tunnel.unsubscribe(*self.id.get().unwrap()),
        }
        self.calls.fetch_add(10, Ordering::SeqCst);
        Ok(())
    }
}

fn reentrant(server: &Server, how: How) -> (Arc<Tunnel>, Arc<Reentrant>, Socket) {
    let tunnel = Tunnel::new(None);
    let listener = Arc::new(Reentrant {
        tunnel: OnceLock::from(Arc::downgrade(&tunnel)),
        id: OnceLock::new(),
        how,
        calls: AtomicUsize::new(0),
    });
    let id = tunnel.subscribe(Arc::clone(&listener) as _, None).unwrap();
    listener.id.set(id).unwrap();
    let phone = start(&tunnel, server.config()).unwrap();
    wait_until("the callback to return", || listener.calls.load(Ordering::SeqCst) == 11);
    (tunnel, listener, phone)
}

#[test]
fn a_listener_may_stop_the_tunnel() {
    let server = Server::start();
    for how in [How::Stop, How::StopElsewhere, How::DropTheStop] {
        let (tunnel, ..) = reentrant(&server, how);
        wait_for_state(&tunnel, |state| *state == TunnelState::Stopped);
    }
}

#[test]
fn a_listener_may_take_itself_off() {
    let server = Server::start();
    let (tunnel, listener, _phone) = reentrant(&server, How::Unsubscribe);
    tunnel.network_changed(None);
    wait_for_state(&tunnel, |state| *state == TunnelState::WaitingForNetwork);
    wait(tunnel.stop());
    assert_eq!(listener.calls.load(Ordering::SeqCst), 11);
}

#[test]
fn nothing_is_heard_after_a_stop_until_the_next_start() {
    let server = Server::start();
    let tunnel = Tunnel::new(None);
    let heard = Arc::new(Heard::default());
    tunnel.subscribe(Arc::clone(&heard) as _, Some(Duration::from_millis(100))).unwrap();
    for _ in 0..20 {
        let _phone = start(&tunnel, server.config()).unwrap();
        wait(tunnel.stop());
        let count = heard.count();
        assert_eq!(heard.states().last(), Some(&TunnelState::Stopped));
        let late = Arc::new(Heard::default());
        let id = tunnel.subscribe(Arc::clone(&late) as _, None).unwrap();
        late.wait_for(is_state(TunnelState::Stopped)); // by the same thread
        assert_eq!(heard.count(), count);
        tunnel.unsubscribe(id);
    }
}

#[test]
fn a_stop_during_a_handshake_is_told() {
    let listener = silent();
    let tunnel = Tunnel::new(None);
    let heard = Arc::new(Heard::default());
    tunnel.subscribe(Arc::clone(&heard) as _, None).unwrap();
    let _phone = start(&tunnel, config(listener.local_addr().unwrap())).unwrap();
    let _dialed = listener.accept().unwrap();
    wait(tunnel.stop());
    assert_eq!(heard.states().last(), Some(&TunnelState::Stopped));
}

/// A listener that takes another one off when it is let go, as objects of Swift do.
struct Untidy(std::sync::Weak<Tunnel>);

impl EventListener for Untidy {
    fn on_event(&self, _: Event) -> Result<(), CallbackError> {
        Ok(())
    }
}

impl Drop for Untidy {
    fn drop(&mut self) {
        if let Some(tunnel) = self.0.upgrade() {
            tunnel.unsubscribe(7);
        }
    }
}

#[test]
fn a_listener_may_call_the_tunnel_while_it_is_let_go() {
    let tunnel = Tunnel::new(None);
    let id = tunnel.subscribe(Arc::new(Untidy(Arc::downgrade(&tunnel))), None).unwrap();
    tunnel.unsubscribe(id);
    let heard = Arc::new(Heard::default());
    tunnel.subscribe(Arc::clone(&heard) as _, None).unwrap();
    heard.wait_for(is_state(TunnelState::Stopped));
}

/// A listener that panics, which only one in Rust can.
struct Panics;

impl EventListener for Panics {
    fn on_event(&self, _: Event) -> Result<(), CallbackError> {
        panic!("on purpose")
    }
}

#[test]
fn a_listener_that_panics_harms_nobody() {
    let tunnel = Tunnel::new(None);
    tunnel.subscribe(Arc::new(Panics), None).unwrap();
    let heard = Arc::new(Heard::default());
    tunnel.subscribe(Arc::clone(&heard) as _, None).unwrap();
    heard.wait_for(is_state(TunnelState::Stopped));
    let _phone = start(&tunnel, config(dead())).unwrap();
    wait(tunnel.stop());
    assert_eq!(heard.states().last(), Some(&TunnelState::Stopped));
}
