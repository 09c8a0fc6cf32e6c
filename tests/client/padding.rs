//! What leaves the client, record by record, against the padding scheme in force.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use anytls_mobile::client::Client;
use anytls_mobile::proto::padding::Scheme;
use anytls_mobile::proto::pool::PoolOptions;
use anytls_mobile::testserver::{ConnectionRecord, Faults, ServerOptions, Service, TestServer, raw_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing::field::Visit;
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::support::*;

const DEFAULT_MD5: &str = "75cff2ad89aadf5e257059ee571ebe11";

/// Frame headers are 7 bytes.
const HEADER: usize = 7;

#[derive(Clone, Copy)]
enum Entry {
    /// A record with a size from the first up to, not including, the second.
    Size(usize, usize),
    /// Go on only while payload is left.
    Check,
}
use Entry::{Check, Size};

/// The default scheme's plans of the writes 1 to 7.
const DEFAULT_PLANS: [&[Entry]; 7] = [
    &[Size(100, 400)],
    &[
        Size(400, 500),
        Check,
        Size(500, 1000),
        Check,
        Size(500, 1000),
        Check,
        Size(500, 1000),
        Check,
        Size(500, 1000),
    ],
    &[Size(9, 10), Size(500, 1000)],
    &[Size(500, 1000)],
    &[Size(500, 1000)],
    &[Size(500, 1000)],
    &[Size(500, 1000)],
];

const OTHER: &str =
    "stop=5\n0=200-300\n1=700-900,700-900\n2=50-60,c,2000-2100\n3=30-30,30-30\n4=c,16377-16377";
const OTHER_PLANS: [&[Entry]; 4] = [
    &[Size(700, 900), Size(700, 900)],
    &[Size(50, 60), Check, Size(2000, 2100)],
    &[Size(30, 31), Size(30, 31)],
    &[Check, Size(16_377, 16_378)],
];

/// Takes the records of one write with `payload` bytes off `records`; protocol.md, Padding scheme.
fn follow(plan: &[Entry], mut payload: usize, records: &mut &[usize]) -> Result<(), String> {
    for (at, entry) in plan.iter().enumerate() {
        let Size(low, high) = *entry else {
            if payload == 0 {
                return Ok(());
            }
            continue;
        };
        let (&record, rest) = records.split_first().ok_or("a record is missing")?;
        *records = rest;
        let sizes = low..high;
        let waste_alone = payload == 0 && record >= HEADER && sizes.contains(&(record - HEADER));
        let no_room_for_waste =
            payload == record && sizes.clone().any(|l| (payload..=payload + HEADER).contains(&l));
        let filled_up = payload > 0 && payload + HEADER < record && sizes.contains(&record);
        payload = if payload > record && sizes.contains(&record) {
            payload - record
        } else if waste_alone || no_room_for_waste || filled_up {
            0
        } else {
            return Err(format!("entry {at}: {payload} bytes of payload, a record of {record}"));
        };
    }
    direct(payload, records)
}

/// Takes the records of a write without a plan.
fn direct(payload: usize, records: &mut &[usize]) -> Result<(), String> {
    if payload == 0 {
        return Ok(());
    }
    let (&record, rest) = records.split_first().ok_or("a record is missing")?;
    *records = rest;
    if record == payload { Ok(()) } else { Err(format!("{record} bytes left directly instead of {payload}")) }
}

/// The payloads that each stream of these tests writes after the first write.
const WRITES: [usize; 9] = [2_500, 1, 40, 700, 9, 3_000, 5, 100, 12];

/// One session with one stream that writes [`WRITES`], each on its own, and then closes.
async fn use_a_session(client: &Client<Dialer>) {
    let mut stream = client.open(&target(), b"first").await.expect("opened");
    let mut echoed = vec![0; 4_000];
    stream.read_exact(&mut echoed[..5]).await.expect("read");
    for payload in WRITES {
        stream.write_all(&pattern(payload)).await.expect("written");
        stream.read_exact(&mut echoed[..payload]).await.expect("read");
    }
    drop(stream);
    until(|| client.stats().active == 0).await;
}

/// Checks everything that a session of [`use_a_session`] has sent.
fn check(seen: &ConnectionRecord, plans: &[&[Entry]]) -> Result<(), String> {
    let target_bytes = 1 + 1 + "example.com".len() + 2;
    let first = HEADER + seen.settings.len() + HEADER + HEADER + target_bytes + "first".len();
    let data = WRITES.iter().map(|payload| HEADER + payload);
    let fin = HEADER;
    let payloads: Vec<usize> = std::iter::once(first).chain(data).chain([fin]).collect();
    let mut records = &seen.records[1..];
    for (at, &payload) in payloads.iter().enumerate() {
        let followed = match plans.get(at) {
            Some(plan) => follow(plan, payload, &mut records),
            None => direct(payload, &mut records),
        };
        followed.map_err(|error| format!("write {}: {error} in {:?}", at + 1, seen.records))?;
    }
    if records.is_empty() { Ok(()) } else { Err(format!("records nobody planned: {records:?}")) }
}

fn single_use(server: &TestServer) -> Client<Dialer> {
    client_with(server, PoolOptions { reuse: false, ..pool() }, PASSWORD)
}

fn md5_line(scheme: &Scheme) -> String {
    format!("padding-md5={}", scheme.md5_hex())
}

#[tokio::test]
async fn three_hundred_sessions_follow_the_default_scheme() {
    let server = serving(Service::Echo).await;
    let client = single_use(&server);
    for _ in 0..300 {
        use_a_session(&client).await;
    }
    until(|| server.connections().iter().all(|seen| seen.ended)).await;
    let connections = server.connections();
    assert_eq!(connections.len(), 300);
    for seen in &connections {
        assert_eq!(seen.records[0], 34 + 30);
        assert!(seen.settings.lines().any(|line| line == md5_line(&Scheme::default_scheme())));
        check(seen, &DEFAULT_PLANS).unwrap_or_else(|error| panic!("{error}"));
    }
    // Write 2 begins with a record of 400 to 499, which 300 draws spread over.
    let drawn: HashSet<usize> = connections
        .iter()
        .filter_map(|seen| seen.records[2..].iter().find(|size| (400..500).contains(*size)).copied())
        .collect();
    assert!(drawn.len() > 80, "{} of 100 sizes were drawn", drawn.len());
}

#[tokio::test]
async fn later_sessions_follow_the_servers_scheme_from_their_first_record() {
    let scheme = Arc::new(Scheme::parse(OTHER.as_bytes()).expect("a good scheme"));
    let outbound: anytls_mobile::testserver::Outbound = Arc::new(|_| Service::Echo);
    let server = start(ServerOptions { scheme: Arc::clone(&scheme), outbound, ..server_options() }).await;
    let client = single_use(&server);
    for _ in 0..300 {
        use_a_session(&client).await;
    }
    until(|| server.connections().iter().all(|seen| seen.ended)).await;
    let connections = server.connections();
    let (first, later) = connections.split_first().expect("connections");
    // The session on which the update came goes on as it began.
    check(first, &DEFAULT_PLANS).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(first.sent.iter().filter(|frame| frame.command == 6).count(), 1);
    for seen in later {
        assert!((34 + 200..34 + 300).contains(&seen.records[0]), "{}", seen.records[0]);
        assert!(seen.settings.lines().any(|line| line == md5_line(&scheme)), "{}", seen.settings);
        check(seen, &OTHER_PLANS).unwrap_or_else(|error| panic!("{error}"));
        assert!(seen.sent.iter().all(|frame| frame.command != 6), "announced once is enough");
    }
}

#[tokio::test]
async fn the_default_schemes_md5_is_the_one_that_servers_know() {
    let server = serving(Service::Echo).await;
    let client = single_use(&server);
    use_a_session(&client).await;
    let settings = server.connections().remove(0).settings;
    assert!(settings.lines().any(|line| line == format!("padding-md5={DEFAULT_MD5}")), "{settings}");
}

#[tokio::test]
async fn evil_schemes_are_refused_whole_with_one_warning_and_traffic_goes_on() {
    let many_entries = format!("stop=3\n0=30-30\n1={}", vec!["9-9"; 15_000].join(","));
    assert!(many_entries.len() < 65_535, "it fits a frame");
    let evil = [
        "stop=8\n0=30-30\n1=4000000000-4000000000".to_owned(),
        "stop=8\n0=c,30-30\n1=100-400".to_owned(),
        "stop=8\n0=65535-65535\n1=100-400".to_owned(),
        many_entries,
    ];
    for text in evil {
        let warnings = Warnings::default();
        let _collecting = tracing::subscriber::set_default(warnings.clone());
        let server = serving(Service::Echo).await;
        let extra_frames = raw_frame(6, 0, text.as_bytes());
        server.set_faults(Faults { extra_frames: extra_frames.clone(), ..faults() });
        let client = single_use(&server);
        for _ in 0..4 {
            use_a_session(&client).await;
        }
        until(|| server.connections().iter().all(|seen| seen.ended)).await;
        let shown: String = text.chars().take(50).collect();
        for seen in server.connections() {
            assert!(seen.sent.iter().any(|frame| frame.command == 6), "{shown}: it was sent");
            assert_eq!(seen.records[0], 34 + 30, "{shown}");
            assert!(seen.settings.lines().any(|line| line == md5_line(&Scheme::default_scheme())), "{shown}");
            check(&seen, &DEFAULT_PLANS).unwrap_or_else(|error| panic!("{shown}: {error}"));
        }
        let warnings = warnings.texts();
        assert_eq!(warnings.len(), 1, "{shown}: {warnings:?}");
        assert!(warnings[0].contains("padding scheme"), "{warnings:?}");
    }
}

/// Collects what is logged as a warning or worse.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    fn texts(&self) -> Vec<String> {
        self.0.lock().expect("not poisoned").clone()
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        self.0.lock().expect("not poisoned").push(text.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!("{field}={value:?} "));
    }
}
