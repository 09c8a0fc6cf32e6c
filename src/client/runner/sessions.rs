//! A session's way: dialled, adopted, its events, its end.

use std::sync::Arc;
use std::time::Duration;

use tracing::debug_span;

use super::{Runner, State};
use crate::client::counters::Counters;
use crate::client::driver::Driver;
use crate::client::link::Link;
use crate::entropy::SharedGenerator;
use crate::error::chain;
use crate::private::Private;
use crate::proto::auth::put_authentication;
use crate::proto::padding::Scheme;
use crate::proto::pool::{DialId, SessionSeq};
use crate::proto::session::{Event, Session, SessionError, SessionOptions, Side};
use crate::proto::settings::PeerVersion;
use crate::transport::{Dial, DialError, DialTimes};

impl<D: Dial> Runner<D> {
    pub(super) async fn dial(self: Arc<Self>, dial: DialId) {
        match self.connect().await {
            Ok((wire, times)) => self.adopt(dial, wire, times.connect),
            Err(error) => {
                tracing::debug!(kind = ?error.kind(), error = %Private(chain(&error)), "dial failed");
                self.with(|state, now| {
                    self.shown.counters.count_failed_dial(error.kind());
                    state.is_proven = false;
                    state.last_error = Some(error);
                    state.pool.handle_dial_failed(dial, now, &mut *self.generator.lock());
                });
            }
        }
    }

    /// An authenticated connection.
    pub(in crate::client) async fn connect(&self) -> Result<(D::Wire, DialTimes), DialError> {
        let mut block = Vec::new();
        let scheme = Arc::clone(&self.lock().scheme);
        let padding = scheme.authentication_padding(&mut *self.generator.lock());
        put_authentication(&mut block, &self.password, padding);
        self.dial.dial(&block).await
    }

    /// A session on a new connection.
    pub(in crate::client) fn session(&self, round_trip: Duration) -> (Arc<Link>, SharedGenerator) {
        let state = self.lock();
        let options = SessionOptions {
            scheme: Arc::clone(&state.scheme),
            peer: state.peer,
            round_trip,
            synack_timeout: state.synack_timeout,
            answers_fin: state.answers_fin,
            account: Arc::clone(&self.account),
        };
        let session = Session::new(Side::Client, options, self.clock.now());
        (Link::new(session, self.clock), self.generator.clone())
    }

    /// Makes a session of a new connection.
    fn adopt(self: &Arc<Self>, dial: DialId, wire: D::Wire, round_trip: Duration) {
        let (link, generator) = self.session(round_trip);
        let pulse = Arc::clone(link.lock().session.pulse());
        let seq = self.with(|state, now| {
            let seq = state.pool.handle_dialed(dial, pulse, round_trip, now, &mut *self.generator.lock())?;
            state.sessions.insert(seq, Arc::clone(&link));
            Counters::count(&self.shown.counters.dialed);
            if state.peer == Some(PeerVersion::V1) {
                link.watch_by_system(state.system_watch());
                state.pool.handle_proven(now); // it will say nothing before a user asks
            }
            Some(seq)
        });
        let Some(seq) = seq else { return };
        let weak = Arc::downgrade(self);
        let on_event = {
            let weak = weak.clone();
            move |event| {
                if let Some(runner) = weak.upgrade() {
                    runner.handle_event(seq, event);
                }
            }
        };
        let driver = Driver::new(wire, Arc::clone(&link), generator, on_event)
            .counting(Arc::clone(&self.shown.counters));
        // In place, the block below would hold it twice.
        let driver = Box::pin(driver);
        let session = async move {
            let reason = driver.await;
            if let Some(runner) = weak.upgrade() {
                runner.handle_ended(seq, reason);
            }
        };
        self.tasks.spawn_in(debug_span!(parent: None, "session", seq = seq.0), "session", session);
    }

    fn handle_event(self: &Arc<Self>, seq: SessionSeq, event: Event) {
        match event {
            Event::Released => self.give_back(seq),
            Event::Alive => self.with(|state, now| state.pool.handle_alive(seq, now)),
            Event::PeerVersion(version) => {
                let others = self.with(|state, now| {
                    let is_news = state.peer.replace(version) != Some(version);
                    (state.is_proven, state.last_error) = (true, None);
                    state.pool.handle_proven(now);
                    if is_news { state.links() } else { Vec::new() }
                });
                for link in others {
                    link.learn_version(version);
                }
                if version == PeerVersion::V1 {
                    self.watch_by_system();
                }
            }
            Event::SchemeUpdate(raw) => self.lock().update_scheme(raw),
            // The link wakes those itself, and only servers see streams come in.
            Event::Readable(_) | Event::Writable(_) | Event::Incoming(_) => {}
        }
    }

    fn handle_ended(self: &Arc<Self>, seq: SessionSeq, reason: SessionError) {
        self.with(|state, now| {
            state.sessions.remove(&seq);
            let reason = match reason {
                // It has stood long enough to be refused, and the server is known to take our password.
                SessionError::Rejected if state.peer.is_some() && state.pool.was_pooled(seq) => {
                    SessionError::EndedByPeer
                }
                reason => reason,
            };
            tracing::debug!(seq = seq.0, reason = %Private(&reason), "session ended");
            if matches!(reason, SessionError::Rejected) {
                self.shown.counters.count_failed_dial(DialError::Authentication.kind());
                state.is_proven = false;
                state.last_error = Some(DialError::Authentication);
                state.pool.handle_rejected(seq, now, &mut *self.generator.lock());
            } else {
                state.pool.handle_lost(seq, &reason, now);
            }
        });
    }
}

impl<D: Dial> State<D> {
    /// Takes the server's scheme for later sessions, or refuses it whole.
    fn update_scheme(&mut self, raw: Vec<u8>) {
        match Scheme::parse(&raw) {
            Ok(scheme) => {
                tracing::debug!(md5 = scheme.md5_hex(), "padding scheme updated");
                self.scheme = Arc::new(scheme);
            }
            Err(error) if self.refused_scheme != raw => {
                tracing::warn!(%error, "padding scheme of the server refused, keeping the old one");
                self.refused_scheme = raw;
            }
            Err(_) => {}
        }
    }
}
