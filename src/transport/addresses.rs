//! The server's addresses, remembered between dials.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::timeout;

use super::error::{DialError, DialStage};
use super::resolver::Resolve;
use crate::clock::Clock;
use crate::platform;
use crate::private::Private;
use crate::proto::timers::Moment;

/// How long an answer is used without asking again. Resolvers do not say their answer's own lifetime. A
/// wrong answer does not live that long, since a failed dial and a new network both end it; so this only
/// says how late a server that moved, and still answers at its old address, is followed.
const FRESH: Duration = Duration::from_secs(600);

/// How long an old answer serves after a lookup has failed, so that a dead resolver in front of a living
/// server does not cost every dial the lookup's whole time.
const STALE: Duration = Duration::from_secs(30);

/// Addresses tried in one dial. More would not get their turn: at one each 250 ms this fills 4 s.
const MAX_ADDRESSES: usize = 16;

/// One server's addresses: asked for when needed, by one dial at a time.
pub(super) struct Addresses {
    host: String,
    port: u16,
    /// The host when it is an address.
    literal: Option<IpAddr>,
    /// Whether the resolver may know another form of an IPv4 address.
    translates: bool,
    resolver: Arc<dyn Resolve>,
    limit: Duration,
    clock: Clock,
    state: Mutex<State>,
}

struct State {
    cache: Cache,
    /// Held by the dial that asks, while others wait for its answer. Each network has one of its own, so
    /// that nobody waits for a lookup that hangs on the last one.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Addresses {
    pub(super) fn new(
        host: String,
        port: u16,
        resolver: Arc<dyn Resolve>,
        limit: Duration,
        clock: Clock,
    ) -> Self {
        let state = State { cache: Cache::default(), turn: Arc::default() };
        let literal = host.parse().ok();
        let translates = platform::TRANSLATES_ADDRESSES;
        Self { host, port, literal, translates, resolver, limit, clock, state: Mutex::new(state) }
    }

    /// The addresses in the order in which to try them; never empty.
    ///
    /// # Cancel safety
    /// Dropping it gives up one's turn.
    pub(super) async fn resolve(&self) -> Result<Vec<SocketAddr>, DialError> {
        if let Some(address) = self.literal
            && !(self.translates && address.is_ipv4())
        {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        let turn = Arc::clone(&self.state().turn);
        let lookup = async {
            let _turn = turn.lock().await;
            if let Some(addresses) = self.state().cache.fresh(self.clock.now()) {
                return Ok(addresses);
            }
            let answer = self.resolver.resolve(&self.host, self.port).await;
            self.answer(&turn, answer)
        };
        if let Ok(result) = timeout(self.limit, lookup).await {
            return result;
        }
        self.fall_back(&turn, DialError::Timeout { stage: DialStage::Resolve, limit: self.limit })
    }

    fn answer(
        &self,
        turn: &Arc<tokio::sync::Mutex<()>>,
        answer: std::io::Result<Vec<SocketAddr>>,
    ) -> Result<Vec<SocketAddr>, DialError> {
        let host = || self.host.clone();
        match answer {
            Ok(addresses) if addresses.is_empty() => {
                self.fall_back(turn, DialError::NoAddress { host: host() })
            }
            Err(error) => self.fall_back(turn, DialError::Resolve { host: host(), source: Arc::new(error) }),
            Ok(addresses) => {
                let mut state = self.state();
                if Arc::ptr_eq(&state.turn, turn) {
                    state.cache.store(addresses.clone(), self.clock.now());
                    return Ok(state.cache.known().unwrap_or(addresses));
                }
                // The network changed meanwhile: good for this dial, if for any.
                Ok(in_turn(&addresses, None))
            }
        }
    }

    fn fall_back(
        &self,
        turn: &Arc<tokio::sync::Mutex<()>>,
        error: DialError,
    ) -> Result<Vec<SocketAddr>, DialError> {
        let mut state = self.state();
        let itself = || Some(vec![SocketAddr::new(self.literal?, self.port)]);
        let Some(addresses) = state.cache.known().or_else(itself) else {
            return Err(error);
        };
        tracing::debug!(error = %Private(&error), "using the last known addresses of the server");
        if Arc::ptr_eq(&state.turn, turn) {
            state.cache.prolong(self.clock.now());
        }
        Ok(addresses)
    }

    /// `address` accepted a connection: the next dial tries it first.
    pub(super) fn handle_connected(&self, address: SocketAddr) {
        self.state().cache.preferred = Some(address);
    }

    /// A dial failed: the next one asks again.
    pub(super) fn handle_failed_dial(&self) {
        self.state().cache.expire();
    }

    /// The network changed: the next dial asks again, and what worked here may not work there.
    pub(super) fn handle_path_change(&self) {
        let mut state = self.state();
        state.cache.expire();
        state.cache.preferred = None;
        state.turn = Arc::default();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each section leaves a whole state behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last answer, and until when it needs no second one.
#[derive(Debug, Default)]
struct Cache {
    answer: Vec<SocketAddr>,
    fresh_until: Moment,
    preferred: Option<SocketAddr>,
}

impl Cache {
    fn fresh(&self, now: Moment) -> Option<Vec<SocketAddr>> {
        if now < self.fresh_until { self.known() } else { None }
    }

    /// The last answer, however old.
    fn known(&self) -> Option<Vec<SocketAddr>> {
        (!self.answer.is_empty()).then(|| in_turn(&self.answer, self.preferred))
    }

    fn store(&mut self, answer: Vec<SocketAddr>, now: Moment) {
        self.answer = answer;
        self.fresh_until = now + FRESH;
    }

    fn prolong(&mut self, now: Moment) {
        self.fresh_until = now + STALE;
    }

    fn expire(&mut self) {
        self.fresh_until = Moment::default();
    }
}

/// The order in which to try addresses (RFC 8305, section 4): families in turn, IPv6 first, each in the
/// resolver's order; but an address that worked comes first of all.
fn in_turn(addresses: &[SocketAddr], preferred: Option<SocketAddr>) -> Vec<SocketAddr> {
    let preferred = preferred.filter(|address| addresses.contains(address));
    let rest = addresses.iter().copied().filter(|address| Some(*address) != preferred);
    let (mut this, mut other): (VecDeque<_>, VecDeque<_>) = rest.partition(SocketAddr::is_ipv6);
    if preferred.is_some_and(|address| address.is_ipv6()) {
        std::mem::swap(&mut this, &mut other);
    }
    let mut ordered = Vec::from_iter(preferred);
    while let Some(address) = this.pop_front().or_else(|| other.pop_front()) {
        ordered.push(address);
        std::mem::swap(&mut this, &mut other);
    }
    ordered.truncate(MAX_ADDRESSES);
    ordered
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::resolver::Lookup;
    use super::*;

    fn v4(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 443))
    }

    fn v6(last: u16) -> SocketAddr {
        SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, last], 443))
    }

    fn at(seconds: u64) -> Moment {
        Moment::from_origin(Duration::from_secs(seconds))
    }

    #[test]
    fn families_take_turns_and_ipv6_begins() {
        assert_eq!(in_turn(&[v4(1), v4(2), v4(3), v6(1), v6(2)], None), [v6(1), v4(1), v6(2), v4(2), v4(3)]);
        assert_eq!(in_turn(&[v4(1), v4(2)], None), [v4(1), v4(2)]);
        assert_eq!(in_turn(&[v6(1), v6(2)], None), [v6(1), v6(2)]);
    }

    #[test]
    fn the_address_that_worked_comes_first_and_the_other_family_second() {
        let answer = [v6(1), v6(2), v4(1), v4(2)];
        assert_eq!(in_turn(&answer, Some(v4(2))), [v4(2), v6(1), v4(1), v6(2)]);
        assert_eq!(in_turn(&answer, Some(v6(2))), [v6(2), v4(1), v6(1), v4(2)]);
        assert_eq!(in_turn(&answer, Some(v4(9))), [v6(1), v4(1), v6(2), v4(2)], "gone from the answer");
    }

    #[test]
    fn no_dial_tries_more_addresses_than_it_has_time_for() {
        let many: Vec<_> = (0..200).map(v4).collect();
        assert_eq!(in_turn(&many, None), many[..MAX_ADDRESSES]);
    }

    #[test]
    fn an_answer_is_fresh_for_its_time_and_known_after_it() {
        let mut cache = Cache::default();
        assert_eq!(cache.known(), None);
        cache.store(vec![v4(1)], at(100));
        assert_eq!(cache.fresh(at(699)), Some(vec![v4(1)]));
        assert_eq!(cache.fresh(at(700)), None);
        assert_eq!(cache.known(), Some(vec![v4(1)]));
        cache.prolong(at(700));
        assert_eq!(cache.fresh(at(729)), Some(vec![v4(1)]));
        assert_eq!(cache.fresh(at(730)), None);
    }

    #[test]
    fn an_expired_answer_is_still_known() {
        let mut cache = Cache::default();
        cache.store(vec![v4(1)], at(100));
        cache.expire();
        assert_eq!(cache.fresh(at(100)), None);
        assert_eq!(cache.known(), Some(vec![v4(1)]));
    }

    /// Gives its answers in turn, each after a second; then never again.
    struct Script {
        answers: Vec<Result<Vec<SocketAddr>, io::ErrorKind>>,
        asked: AtomicUsize,
    }

    impl Resolve for Script {
        fn resolve(&self, _: &str, _: u16) -> Lookup {
            let answer = self.answers.get(self.asked.fetch_add(1, Ordering::Relaxed)).cloned();
            Box::pin(async move {
                let Some(answer) = answer else { return std::future::pending().await };
                tokio::time::sleep(Duration::from_secs(1)).await;
                answer.map_err(io::Error::from)
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_asked_for_where_it_may_have_another_form() {
        let host = |host: &str, translates| {
            let script = Arc::new(Script { answers: vec![Ok(vec![v6(64)])], asked: AtomicUsize::new(0) });
            let limit = Duration::from_secs(5);
            let addresses = Addresses::new(host.to_owned(), 443, script, limit, Clock::Tokio);
            Addresses { translates, ..addresses }
        };
        assert_eq!(host("192.0.2.1", false).resolve().await.unwrap(), [v4(1)]);
        assert_eq!(host("2001:db8::1", true).resolve().await.unwrap(), [v6(1)]);
        let translated = host("192.0.2.1", true);
        assert_eq!(translated.resolve().await.unwrap(), [v6(64)]);
        translated.handle_path_change();
        assert_eq!(translated.resolve().await.unwrap(), [v6(64)], "known, while nobody answers");
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_whose_other_form_is_not_found_is_itself() {
        let script =
            Arc::new(Script { answers: vec![Err(io::ErrorKind::NotFound)], asked: AtomicUsize::new(0) });
        let addresses =
            Addresses::new("192.0.2.1".to_owned(), 443, script, Duration::from_secs(5), Clock::Tokio);
        let addresses = Addresses { translates: true, ..addresses };
        assert_eq!(addresses.resolve().await.unwrap(), [v4(1)]);
        assert_eq!(addresses.resolve().await.unwrap(), [v4(1)], "nobody answers");
    }

    fn addresses(answers: Vec<Result<Vec<SocketAddr>, io::ErrorKind>>) -> (Arc<Addresses>, Arc<Script>) {
        let script = Arc::new(Script { answers, asked: AtomicUsize::new(0) });
        let limit = Duration::from_secs(5);
        let resolver = Arc::clone(&script) as Arc<dyn Resolve>;
        (Arc::new(Addresses::new("example.com".into(), 443, resolver, limit, Clock::Tokio)), script)
    }

    #[tokio::test(start_paused = true)]
    async fn dials_at_one_time_ask_once() {
        let (addresses, script) = addresses(vec![Ok(vec![v4(1)])]);
        let (a, b) = tokio::join!(addresses.resolve(), addresses.resolve());
        assert_eq!((a.unwrap(), b.unwrap()), (vec![v4(1)], vec![v4(1)]));
        assert_eq!(script.asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_dial_asks_again_and_falls_back_on_the_last_answer() {
        let (addresses, script) = addresses(vec![Ok(vec![v4(1)]), Err(io::ErrorKind::Other), Ok(vec![])]);
        addresses.resolve().await.unwrap();
        for asked in [2, 3] {
            addresses.handle_failed_dial();
            assert_eq!(addresses.resolve().await.unwrap(), [v4(1)]);
            assert_eq!(addresses.resolve().await.unwrap(), [v4(1)], "not asked for a while");
            assert_eq!(script.asked.load(Ordering::Relaxed), asked);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_resolver_that_never_answers_is_a_timeout() {
        let (addresses, _) = addresses(vec![]);
        let error = addresses.resolve().await.unwrap_err();
        assert!(matches!(error, DialError::Timeout { stage: DialStage::Resolve, .. }), "{error:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn no_answer_and_an_empty_one_are_told_apart() {
        let (addresses, _) = addresses(vec![Err(io::ErrorKind::Other), Ok(vec![])]);
        assert!(matches!(addresses.resolve().await, Err(DialError::Resolve { .. })));
        assert!(matches!(addresses.resolve().await, Err(DialError::NoAddress { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_lookup_of_the_last_network_nor_keeps_its_answer() {
        let (addresses, script) = addresses(vec![Ok(vec![v4(1)]), Ok(vec![v4(2)])]);
        let old = async {
            let answer = addresses.resolve().await;
            (answer.unwrap(), script.asked.load(Ordering::Relaxed))
        };
        let new = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            addresses.handle_path_change();
            addresses.resolve().await.unwrap()
        };
        let ((old, asked), new) = tokio::join!(old, new);
        assert_eq!((old, new), (vec![v4(1)], vec![v4(2)]));
        assert_eq!(asked, 2, "the new lookup began before the old one ended");
        assert_eq!(addresses.resolve().await.unwrap(), [v4(2)], "the old answer was not kept");
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_needs_no_lookup() {
        let script = Arc::new(Script { answers: vec![], asked: AtomicUsize::new(0) });
        let resolver = Arc::clone(&script) as Arc<dyn Resolve>;
        let limit = Duration::from_secs(5);
        let addresses = Addresses::new("2001:db8::1".into(), 443, resolver, limit, Clock::Tokio);
        assert_eq!(addresses.resolve().await.unwrap(), [v6(1)]);
        assert_eq!(script.asked.load(Ordering::Relaxed), 0);
    }
}
