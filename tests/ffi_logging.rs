//! The log, as apps see it. Alone in its file: a process has one.
#![cfg(feature = "testserver")]

#[path = "ffi/support.rs"]
#[allow(dead_code)] // of which other tests use more
mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};

use anytls_mobile::ffi::{
    CallbackError, Event, EventListener, LogLevel, LogOptions, LogRecord, LogSink, Platform, Tunnel,
    set_log_level, set_logger,
};
use sha2::{Digest, Sha256};
use support::{LONG, PASSWORD, Server, start, wait, wait_until};

const DESTINATION: &str = "private-destination.example";

/// A sink that remembers, and may fail.
#[derive(Default)]
struct Lines {
    records: Mutex<Vec<LogRecord>>,
    news: Condvar,
    fails: AtomicBool,
}

impl LogSink for Lines {
    fn log(&self, batch: Vec<LogRecord>, dropped: u64) -> Result<(), CallbackError> {
        assert!(!batch.is_empty());
        assert_eq!(dropped, 0);
        // The server's own lines are no part of an app.
        let ours = batch.into_iter().filter(|record| !record.target.contains("testserver"));
        self.records.lock().unwrap().extend(ours);
        self.news.notify_all();
        if self.fails.load(Ordering::SeqCst) {
            return Err(CallbackError::Failed { reason: "on purpose".to_owned() });
        }
        Ok(())
    }
}

impl Lines {
    fn wait_for(&self, is_it: impl Fn(&LogRecord) -> bool) {
        let records = self.records.lock().unwrap();
        let waited = self.news.wait_timeout_while(records, LONG, |records| !records.iter().any(&is_it));
        let (records, timeout) = waited.unwrap();
        assert!(!timeout.timed_out(), "only {records:?}");
    }

    fn take(&self) -> Vec<LogRecord> {
        std::mem::take(&mut *self.records.lock().unwrap())
    }
}

/// Moves a few bytes to the private destination, and is off again.
fn use_a_tunnel(server: &Server) {
    let tunnel = Tunnel::new(None);
    let _phone = start(&tunnel, server.config()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut app = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let socket = OwnedFd::from(listener.accept().unwrap().0);
    let id = tunnel.connect_stream(socket.into(), &format!("{DESTINATION}:7")).unwrap();
    app.write_all(b"hello").unwrap();
    app.read_exact(&mut [0; 5]).unwrap();
    assert!(tunnel.close_connection(id));
    wait_until("the connection to end", || tunnel.stats().traffic.open_connections == 0);
    wait(tunnel.stop());
}

fn options(level: LogLevel) -> LogOptions {
    LogOptions { level, to_system: false, shows_destinations: false }
}

fn is_end(record: &LogRecord) -> bool {
    record.line.contains("flow ended")
}

/// One test, since its parts change what is one for the process.
#[test]
fn lines_come_in_batches_at_the_level_of_now_and_name_nobody() {
    let server = Server::start();
    let lines = Arc::new(Lines::default());

    // All that there is, and nothing private in it.
    set_logger(options(LogLevel::Trace), Some(Arc::clone(&lines) as _)).unwrap();
    use_a_tunnel(&server);
    lines.wait_for(is_end);
    let text = format!("{:?}", lines.take());
    assert!(text.contains("[EnsureIdleSession]") && text.contains("seq="), "spans and decisions: {text}");
    let hash = Sha256::digest(PASSWORD).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    for private in [DESTINATION, PASSWORD, &hash, &server.address().to_string()] {
        assert!(!text.contains(private), "{private} in {text}");
    }
    assert!(!text.contains("h2::") && !text.contains("rustls::"), "other crates' lines: {text}");

    // Failures name nobody either: not a server that is not there, nor what apps ask meanwhile, nor the app's own words.
    let failing = Tunnel::new(Some(Arc::new(Talkative)));
    failing.subscribe(Arc::new(Talkative), None).unwrap();
    let config = format!("anytls://{}@{SERVER}/?insecure=1", PASSWORD.replace(' ', "%20"));
    let phone = start(&failing, config).unwrap();
    phone.send(&query()).unwrap();
    lines.wait_for(|record| record.line.contains("dial failed"));
    lines.wait_for(|record| record.line.contains("a listener has failed"));
    lines.wait_for(|record| record.line.contains("the DNS server"));
    wait(failing.stop());
    let text = format!("{:?}", lines.take());
    for private in [SERVER, DESTINATION, PASSWORD] {
        assert!(!text.contains(private), "{private} in {text}");
    }

    // The same for a person who debugs.
    let shown = LogOptions { shows_destinations: true, ..options(LogLevel::Debug) };
    set_logger(shown, Some(Arc::clone(&lines) as _)).unwrap();
    use_a_tunnel(&server);
    lines.wait_for(|record| is_end(record) && record.line.contains(DESTINATION));
    let records = lines.take();
    assert!(records.iter().all(|record| record.level <= LogLevel::Debug), "{records:?}");
    assert!(!format!("{records:?}").contains(PASSWORD));

    // The level changes while it runs; a sink that fails hears on.
    lines.fails.store(true, Ordering::SeqCst);
    set_log_level(LogLevel::Off);
    use_a_tunnel(&server);
    set_log_level(LogLevel::Debug);
    lines.take();
    use_a_tunnel(&server);
    lines.wait_for(is_end);
    let records = lines.take();
    assert_eq!(records.iter().filter(|record| is_end(record)).count(), 1, "{records:?}");

    // A sink that hangs costs a bounded number of lines, and is told how many went.
    let (arrive, arrived) = mpsc::sync_channel(8);
    let (release, released) = mpsc::sync_channel(8);
    let slow = Arc::new(Slow { arrive, released: Mutex::new(released) });
    set_logger(options(LogLevel::Debug), Some(Arc::clone(&slow) as _)).unwrap();
    use_a_tunnel(&server);
    assert_eq!(arrived.recv_timeout(LONG).unwrap().1, 0);
    for _ in 0..40 {
        use_a_tunnel(&server);
    }
    release.send(()).unwrap();
    let (count, dropped) = arrived.recv_timeout(LONG).unwrap();
    assert!(dropped > 0 && count > 0, "{count} lines, {dropped} dropped");
    release.send(()).unwrap();

    // Without a sink, nobody is called.
    set_logger(options(LogLevel::Debug), None).unwrap();
    use_a_tunnel(&server);
    drop(release);
    assert_eq!(Arc::strong_count(&lines), 1, "the old sink is free");
}

const SERVER: &str = "private-server.example";

/// An app that says too much.
struct Talkative;

fn talk<T>() -> Result<T, CallbackError> {
    Err(CallbackError::Failed { reason: format!("{SERVER} and {DESTINATION} are private") })
}

impl Platform for Talkative {
    fn protect(&self, _: i32) -> Result<bool, CallbackError> {
        talk()
    }

    fn resolve(&self, _: String) -> Result<Option<Vec<String>>, CallbackError> {
        talk()
    }
}

impl EventListener for Talkative {
    fn on_event(&self, _: Event) -> Result<(), CallbackError> {
        talk()
    }
}

/// A DNS query of an app for the private destination, as a packet.
fn query() -> Vec<u8> {
    let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in DESTINATION.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend(label.bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    let datagram = 8 + u16::try_from(message.len()).unwrap();
    let [high, low] = (20 + datagram).to_be_bytes();
    let mut packet = vec![0x45, 0, high, low, 0, 0, 0x40, 0, 64, 17, 0, 0, 172, 19, 0, 1, 172, 19, 0, 2];
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    packet[10..12].copy_from_slice(&(!folded).to_be_bytes());
    packet.extend([0x30, 0x39, 0, 53]);
    packet.extend(datagram.to_be_bytes());
    packet.extend([0, 0]); // no checksum, as IPv4 allows
    packet.extend(message);
    packet
}

struct Slow {
    arrive: mpsc::SyncSender<(usize, u64)>,
    released: Mutex<mpsc::Receiver<()>>,
}

impl LogSink for Slow {
    fn log(&self, batch: Vec<LogRecord>, dropped: u64) -> Result<(), CallbackError> {
        let _the_test_is_over = self.arrive.send((batch.len(), dropped));
        let _the_test_is_over = self.released.lock().unwrap().recv();
        Ok(())
    }
}
