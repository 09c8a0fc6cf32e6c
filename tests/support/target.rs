//! An HTTP server for curl to ask, and the bytes that it sends.

use std::collections::HashMap;
use std::net::{Ipv6Addr, TcpListener};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use std::{io, iter};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

use super::netns::Netns;

/// The port that it listens on.
pub const PORT: u16 = 80;

/// Answers on all addresses of its namespace until it is dropped, one request a connection:
///
/// | request | answer |
/// |---|---|
/// | `GET /seeded/SEED/COUNT` | [`seeded`] bytes |
/// | `GET /echo/TEXT` | the text and a line feed |
/// | `PUT /SEED` | the [`digest`] of what was sent |
pub struct Target {
    uploads: Arc<Uploads>,
    _runtime: Runtime,
}

/// How much has come of each upload, by its seed.
#[derive(Default)]
struct Uploads {
    received: Mutex<HashMap<u64, u64>>,
    more: Condvar,
}

impl Target {
    pub fn start(netns: &Netns) -> Self {
        let listener = netns.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT))).unwrap();
        listener.set_nonblocking(true).unwrap();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let uploads = Arc::<Uploads>::default();
        let theirs = Arc::clone(&uploads);
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let uploads = Arc::clone(&theirs);
                tokio::spawn(async move {
                    // A client that is gone is what some tests are about; theirs is to complain otherwise.
                    let _gone = answer(socket, &uploads).await;
                });
            }
        });
        Self { uploads, _runtime: runtime }
    }

    /// Waits until `count` bytes of an upload have come, or half a minute.
    pub fn wait_until_received(&self, seed: u64, count: u64) {
        let lacking = |received: &mut HashMap<u64, u64>| received.get(&seed).copied().unwrap_or(0) < count;
        let received = self.uploads.received.lock().unwrap();
        drop(self.uploads.more.wait_timeout_while(received, Duration::from_secs(30), lacking).unwrap());
    }
}

async fn answer(socket: TcpStream, uploads: &Uploads) -> io::Result<()> {
    let mut socket = BufReader::with_capacity(64 * 1024, socket);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if socket.read_line(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let mut words = head.split([' ', '/']).filter(|word| !word.is_empty());
    let mut word = || words.next().unwrap_or_else(|| panic!("not a request: {head:?}"));
    match (word(), word()) {
        ("GET", "seeded") => {
            let (seed, count) = (word().parse().unwrap(), word().parse().unwrap());
            write_head(&mut socket, count).await?;
            for piece in seeded(seed, count) {
                socket.write_all(&piece).await?;
            }
            Ok(())
        }
        ("GET", "echo") => write(&mut socket, &format!("{}\n", word())).await,
        ("PUT", seed) => {
            let seed = seed.parse().unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            let mut left: u64 = length.expect("curl was told the length").parse().unwrap();
            let mut hash = Sha256::new();
            while left > 0 {
                let read = socket.fill_buf().await?;
                if read.is_empty() {
                    return Ok(());
                }
                let count = read.len();
                hash.update(read);
                socket.consume(count);
                let count = u64::try_from(count).unwrap();
                left -= count;
                *uploads.received.lock().unwrap().entry(seed).or_default() += count;
                uploads.more.notify_all();
            }
            uploads.received.lock().unwrap().remove(&seed);
            write(&mut socket, &hex(hash)).await
        }
        _ => panic!("not a request: {head:?}"),
    }
}

async fn write(socket: &mut BufReader<TcpStream>, body: &str) -> io::Result<()> {
    write_head(socket, u64::try_from(body.len()).unwrap()).await?;
    socket.write_all(body.as_bytes()).await
}

async fn write_head(socket: &mut BufReader<TcpStream>, length: u64) -> io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    socket.write_all(head.as_bytes()).await
}

/// How long the pieces of [`seeded`] bytes are.
pub const PIECE: u64 = 32 * 1024;

/// `count` bytes that no other seed gives, in pieces; lost, doubled and moved ones change the [`digest`].
pub fn seeded(seed: u64, count: u64) -> impl Iterator<Item = Vec<u8>> {
    let mut generator = StdRng::seed_from_u64(seed);
    let mut left = count;
    iter::from_fn(move || {
        let next = left.min(PIECE);
        left -= next;
        let mut piece = vec![0; usize::try_from(next).unwrap()];
        generator.fill_bytes(&mut piece);
        (next > 0).then_some(piece)
    })
}

/// SHA-256, in hex.
pub fn digest(pieces: impl IntoIterator<Item = Vec<u8>>) -> String {
    let mut hash = Sha256::new();
    for piece in pieces {
        hash.update(piece);
    }
    hex(hash)
}

/// The same of all there is to read, and how much that was.
pub fn digest_of(mut from: impl io::Read) -> (String, u64) {
    let (mut hash, mut count) = (Sha256::new(), 0);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).unwrap();
        if read == 0 {
            return (hex(hash), count);
        }
        hash.update(&buffer[..read]);
        count += u64::try_from(read).unwrap();
    }
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
