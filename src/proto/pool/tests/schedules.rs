//! Random schedules of everything that can happen to a pool, each step judged by the [`Oracle`].

use std::io;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::oracle::{Oracle, Step};
use super::*;

const SEEDS: u64 = 100_000;
const STEPS: usize = 100;

#[test]
fn no_schedule_breaks_a_rule() {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get().min(2) as u64); // 1 or 2
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || (thread..SEEDS).step_by(threads as usize).for_each(run)); // 1 or 2
        }
    });
}

fn run(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let options = options(&mut rng);
    let mut schedule = Schedule {
        pool: Pool::new(options.clone(), START),
        oracle: Oracle::new(seed, options),
        server: rng.random_range(0..4),
        rng,
    };
    schedule.settle();
    for number in 0..STEPS {
        schedule.oracle.step = Step { number, ..Step::default() };
        schedule.step();
        schedule.settle();
    }
    schedule.end();
}

fn pick<T: Copy, const N: usize>(rng: &mut StdRng, choices: [T; N]) -> T {
    choices[rng.random_range(0..N)]
}

fn options(rng: &mut StdRng) -> PoolOptions {
    let heartbeats = [Heartbeat::Off, every(10), every(30), every(120), Heartbeat::Auto];
    PoolOptions {
        idle_session_check_interval: pick(rng, [secs(1), secs(10), secs(30), ms(7_777)]),
        idle_session_timeout: pick(rng, [secs(0), secs(5), secs(60), secs(300)]),
        min_idle_session: pick(rng, [0, 0, 1, 3]),
        min_idle_session_for_age: pick(rng, [0, 0, 1, 2]),
        ensure_idle_session: pick(rng, [0, 0, 1, 2, 5]),
        ensure_idle_session_background: pick(rng, [None, Some(0), Some(1)]),
        ensure_idle_session_create_rate: pick(rng, [0, 0, 1, 2]),
        heartbeat: pick(rng, heartbeats),
        heartbeat_background: pick(rng, [None, Some(secs(0)), Some(secs(60))]),
        max_connection_lifetime: pick(rng, [secs(0), secs(0), secs(40), secs(600)]),
        connection_lifetime_jitter: pick(rng, [secs(0), secs(10), secs(50)]),
        synack_timeout: None,
        max_sessions: pick(rng, [0, 1, 2, 3, 6, 128]),
        reuse: rng.random_bool(0.9),
    }
}

struct Schedule {
    pool: Pool,
    oracle: Oracle,
    /// How well the server is: 0 for one that fails mostly.
    server: u32,
    rng: StdRng,
}

impl Schedule {
    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..22 => self.request(),
            22..27 => self.cancel(),
            27..44 => self.finish_dial(),
            44..57 => self.give_back(),
            57..63 => self.lose(),
            63..67 => self.prove(),
            67..71 => self.revive(),
            71..76 => self.change_pulse(),
            76..78 => self.change_path(),
            78..82 => self.change_conditions(),
            82..84 => self.change_options(),
            84 => {
                self.name("shared");
                self.pool.handle_shared(self.oracle.now);
            }
            85 => {
                self.name("unclear sharing");
                self.pool.handle_unclear_sharing(self.oracle.now);
            }
            86 if self.rng.random_bool(0.5) => {
                self.name("refused sharing");
                self.oracle.can_share = false;
                self.pool.handle_refused_sharing();
            }
            86 if self.rng.random_bool(0.2) => {
                self.name("close");
                self.oracle.is_closed = true;
                self.pool.close();
            }
            86..92 => self.pass(),
            _ => self.tick(),
        }
    }

    fn name(&mut self, name: &'static str) {
        self.oracle.step.name = name;
    }

    /// Lets the pool finish, as its runner does, and has it judged.
    fn settle(&mut self) {
        self.carry_out();
        if self.pool.poll_timeout().is_some_and(|due| due <= self.oracle.now) {
            self.pool.handle_timeout(self.oracle.now);
            self.carry_out();
        }
        self.oracle.judge(&self.pool);
    }

    fn carry_out(&mut self) {
        while let Some(action) = self.pool.poll_action() {
            self.oracle.handle_action(&action);
        }
    }

    fn any_session(&mut self, fits: impl Fn(usize) -> bool) -> Option<SessionSeq> {
        let sessions: Vec<_> = self
            .oracle
            .sessions
            .iter()
            .filter(|(_, known)| fits(known.streams))
            .map(|(&seq, _)| seq)
            .collect();
        (!sessions.is_empty()).then(|| sessions[self.rng.random_range(0..sessions.len())])
    }

    fn request(&mut self) {
        self.name("request");
        let want = pick(&mut self.rng, [Want::Any, Want::Any, Want::Any, Want::Alone, Want::Fresh]);
        let ticket = self.pool.request(want, self.oracle.now);
        self.oracle.waiting.insert(ticket, (want, self.oracle.now));
    }

    fn cancel(&mut self) {
        self.name("cancel");
        let waiting: Vec<_> = self.oracle.waiting.keys().copied().collect();
        if !waiting.is_empty() {
            let ticket = waiting[self.rng.random_range(0..waiting.len())];
            self.oracle.waiting.remove(&ticket);
            self.pool.cancel(ticket);
        }
    }

    fn finish_dial(&mut self) {
        let now = self.oracle.now;
        let Some(dial) = self.oracle.dials.first().copied() else { return self.request() };
        self.oracle.dials.remove(&dial);
        if self.rng.random_range(0..=3) > self.server {
            self.name("failed dial");
            self.oracle.note_failed_dial();
            self.pool.handle_dial_failed(dial, now, &mut self.rng);
            return;
        }
        self.name("dialled");
        let pulse = Arc::new(Pulse::new(now));
        let round_trip = ms(self.rng.random_range(0..2_000));
        let seq = self.pool.handle_dialed(dial, Arc::clone(&pulse), round_trip, now, &mut self.rng);
        let Some(seq) = seq else { panic!("seed {}: a dial that is wanted", self.oracle.seed) };
        self.oracle.note_dialed(seq, pulse);
        let again = self.pool.handle_dialed(dial, Arc::new(Pulse::new(now)), round_trip, now, &mut self.rng);
        assert_eq!(again, None, "seed {}: the same dial twice", self.oracle.seed);
    }

    fn give_back(&mut self) {
        self.name("returned");
        if let Some(seq) = self.any_session(|streams| streams > 0) {
            self.oracle.note_returned(seq);
            self.pool.handle_returned(seq, self.oracle.now);
        }
    }

    fn lose(&mut self) {
        let Some(seq) = self.any_session(|_| true) else { return };
        let reason = match self.rng.random_range(0..7) {
            0 => SessionError::Closed,
            1 | 2 => SessionError::EndedByPeer,
            3 => SessionError::Lost(Arc::new(io::ErrorKind::ConnectionReset.into())),
            4 => SessionError::Alert("bye".into()),
            5 => SessionError::NoAnswer,
            _ if self.rng.random_bool(0.5) => SessionError::Violation("odd"),
            _ => SessionError::Rejected,
        };
        self.oracle.note_lost(seq, &reason);
        let now = self.oracle.now;
        if matches!(reason, SessionError::Rejected) {
            self.name("rejected");
            self.oracle.note_failed_dial();
            self.pool.handle_rejected(seq, now, &mut self.rng);
        } else {
            self.name("lost");
            self.pool.handle_lost(seq, &reason, now);
        }
    }

    fn prove(&mut self) {
        self.name("proven");
        self.oracle.failures = 0;
        self.pool.handle_proven(self.oracle.now);
    }

    /// A session that was asked answers.
    fn revive(&mut self) {
        self.name("alive");
        if let Some(seq) = self.any_session(|_| true) {
            self.oracle.sessions[&seq].pulse.hear(self.oracle.now);
            self.oracle.step.alive = Some(seq);
            self.pool.handle_alive(seq, self.oracle.now);
        }
    }

    fn change_pulse(&mut self) {
        self.name("pulse");
        let Some(seq) = self.any_session(|_| true) else { return };
        let Some(known) = self.oracle.sessions.get_mut(&seq) else { return };
        match self.rng.random_range(0..4) {
            0 => known.pulse.set_read(false),
            1 => known.pulse.set_read(true),
            2 => known.pulse.set_answers(self.rng.random_bool(0.7)),
            _ => known.pulse.hear(self.oracle.now),
        }
        known.was_mute |= !known.pulse.is_read() || !known.pulse.answers();
    }

    fn change_path(&mut self) {
        self.name("path");
        if self.oracle.is_closed {
            return;
        }
        self.oracle.note_stranded();
        self.oracle.step.changes_path = true;
        if self.oracle.conditions.is_online {
            self.oracle.note_new_network();
        }
        let name = pick(&mut self.rng, ["home", "train", "work"]);
        self.pool.handle_path_change(name, self.oracle.now);
    }

    fn change_conditions(&mut self) {
        self.name("conditions");
        let before = self.oracle.conditions;
        let conditions = &mut self.oracle.conditions;
        match self.rng.random_range(0..4) {
            0 => conditions.is_online = !conditions.is_online,
            1 => conditions.is_memory_short = !conditions.is_memory_short,
            _ => {
                let powers =
                    [Power::Interactive, Power::Interactive, Power::Background, Power::Doze, Power::Sleeping];
                conditions.power = pick(&mut self.rng, powers);
            }
        }
        let after = *conditions;
        if after.power == Power::Interactive && before.power != Power::Interactive {
            self.oracle.is_pause_known = false; // it is over: somebody looks at the phone
        }
        if after.is_online && !before.is_online && !self.oracle.is_closed {
            self.oracle.note_new_network();
        }
        self.pool.set_conditions(after, self.oracle.now);
    }

    fn change_options(&mut self) {
        self.name("options");
        let options = options(&mut self.rng);
        self.oracle.options = options.clone();
        self.oracle.ahead = (self.oracle.now, 0);
        self.pool.set_options(options, self.oracle.now);
    }

    /// Time passes up to what is due next, or not quite.
    fn tick(&mut self) {
        self.name("tick");
        let now = self.oracle.now;
        let next = self.pool.poll_timeout().map_or(secs(1), |due| due.since(now));
        self.oracle.now = now + next - pick(&mut self.rng, [ms(0), ms(0), next / 2]);
    }

    /// Time passes, and what is due comes late.
    fn pass(&mut self) {
        self.name("sleep");
        let span = pick(&mut self.rng, [ms(1), ms(300), secs(2), secs(31), secs(120), secs(3_600)]);
        self.oracle.now = self.oracle.now + span;
        if self.rng.random_bool(0.3) {
            self.request(); // before the timer has fired
        }
    }

    /// Closes the pool and gives everything back: nothing may be left.
    fn end(&mut self) {
        self.oracle.step = Step { number: STEPS, name: "end", ..Step::default() };
        self.oracle.is_closed = true;
        self.pool.close();
        self.settle();
        while self.oracle.sessions.values().any(|known| known.streams > 0) {
            self.give_back();
            self.settle();
        }
        let left = (self.pool.idle_count(), self.pool.leased_count(), self.pool.dialing_count());
        assert_eq!(left, (0, 0, 0), "seed {}", self.oracle.seed);
        assert!(self.oracle.waiting.is_empty(), "seed {}: somebody waits for ever", self.oracle.seed);
        assert_eq!(self.pool.poll_timeout(), None, "seed {}", self.oracle.seed);
    }
}
