//! Passes on what the phone's system tells, and shows the state: one task beside the netstack.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot, watch};

use super::assemble::Workshop;
use super::flows::Routes;
use super::inputs::{Inputs, Path, PathEvent, Phone};
use super::state::{Reducer, State};
use crate::budget::Pressure;
use crate::client::{Client, ClientOptions};
use crate::clock::{Alarm, Clock};
use crate::netstack;
use crate::proto::pool::{Conditions, Power};
use crate::proto::timers::earliest;
use crate::transport::Dialer;

/// What was told, on its way from whoever tells to the tunnel's thread.
#[derive(Debug)]
pub(super) struct Told {
    clock: Clock,
    inputs: Mutex<Inputs>,
    /// Another server, and who waits for it; the latest wins.
    server: Mutex<Option<Successor>>,
    news: Notify,
}

/// What takes the client's place.
#[derive(Debug)]
pub(super) struct Successor {
    pub(super) dialer: Dialer,
    pub(super) options: ClientOptions,
    pub(super) is_there: oneshot::Sender<()>,
}

impl Told {
    pub(super) fn new(clock: Clock, phone: Phone) -> Arc<Self> {
        let inputs = Mutex::new(Inputs::new(phone, clock.now()));
        Arc::new(Self { clock, inputs, server: Mutex::default(), news: Notify::new() })
    }

    pub(super) fn network_changed(&self, path: Option<Path>) {
        let now = self.clock.now();
        lock(&self.inputs).handle_path(path, now);
        self.news.notify_one();
    }

    pub(super) fn set_power(&self, power: Power) {
        lock(&self.inputs).handle_power(power);
        self.news.notify_one();
    }

    pub(super) fn memory_pressure(&self, pressure: Pressure) {
        lock(&self.inputs).pressure = pressure;
        self.news.notify_one();
    }

    pub(super) fn replace_server(&self, successor: Successor) {
        *lock(&self.server) = Some(successor);
        self.news.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes on to the client and the netstack what is told, and shows the state. Goes on until it is dropped.
pub(super) async fn conduct(
    told: &Told,
    workshop: &Workshop,
    client: &Client<Dialer>,
    routes: &Routes,
    netstack: Option<&netstack::Control>,
    shown: &watch::Sender<State>,
) {
    let clock = told.clock;
    let mut status = client.status();
    let mut reducer = Reducer::default();
    let mut pressure = Pressure::Normal;
    let mut max_streams = None;
    let mut known = Conditions::default();
    let mut alarm = Alarm::default();
    loop {
        let now = clock.now();
        let (event, conditions, is_woken, asked) = {
            let mut inputs = lock(&told.inputs);
            (inputs.handle_timeout(now), inputs.conditions(), inputs.take_wake(), inputs.pressure)
        };
        match event {
            Some(PathEvent::First(path)) => client.name_path(&path.id),
            Some(PathEvent::Changed(path)) => {
                tracing::debug!("the network has changed");
                client.handle_path_change(&path.id);
                reducer = Reducer::default();
                routes.resolver.handle_path_change();
            }
            Some(PathEvent::Availability) if conditions.is_online => tracing::debug!("the network is back"),
            Some(PathEvent::Availability) => tracing::debug!("no network"),
            None => {}
        }
        if std::mem::replace(&mut known, conditions) != conditions {
            client.set_conditions(conditions);
        }
        if is_woken {
            client.wake();
        }
        if std::mem::replace(&mut pressure, asked) != asked {
            workshop.account.set_pressure(asked);
            if asked != Pressure::Normal {
                routes.resolver.clear();
            }
            match netstack {
                Some(netstack) => netstack.set_pressure(asked), // and through it the datagrams
                None => workshop.datagrams.set_pressure(asked),
            }
        }
        let successor = lock(&told.server).take();
        if let Some(Successor { dialer, options, is_there }) = successor {
            client.replace(dialer, options, conditions).await;
            reducer = Reducer::default();
            routes.handle_new_server();
            if let Some(path) = lock(&told.inputs).path() {
                client.name_path(&path.id);
            }
            let _gave_up = is_there.send(());
            continue;
        }

        let snapshot = status.borrow_and_update().clone();
        if std::mem::replace(&mut max_streams, snapshot.max_streams) != snapshot.max_streams
            && let Some(netstack) = netstack
        {
            netstack.set_max_udp_flows(workshop.budget.max_udp_flows(max_streams));
        }
        let (state, state_due) = reducer.reduce(&snapshot, conditions.power, conditions.is_online, now);
        shown.send_if_modified(|shown| {
            let is_news = *shown != state;
            if is_news {
                tracing::debug!(?state, "state");
                *shown = state;
            }
            is_news
        });

        let due = earliest(lock(&told.inputs).poll_timeout(), state_due);
        tokio::select! {
            () = told.news.notified() => {}
            _ = status.changed() => {} // the client outlives this task
            () = poll_fn(|cx| alarm.poll(cx, due, clock)) => {}
        }
    }
}
