//! The apps in front of the TUN, each a process of its own: `load NAME ARGUMENT...`, which prints one line of JSON.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::Failure;
use crate::lab::TARGETS;
use crate::target::{self, CHUNK, LAST, MORE, QUESTION, Service};

/// What bulk is moved by.
pub const BLOCK: usize = 256 * 1024;

/// A connection that does nothing for so long has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many connections are opened beside each other.
const ABREAST: usize = 64;

pub fn main(words: &[String]) -> Result<(), Failure> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let report = match words[..] {
        ["target"] => return target::serve(),
        ["download", address, streams, ms] => download(address.parse()?, streams.parse()?, ms.parse()?)?,
        ["upload", address, streams, ms] => upload(address.parse()?, streams.parse()?, ms.parse()?)?,
        ["flood", address, streams, ms] => flood(address.parse()?, streams.parse()?, ms.parse()?)?,
        ["first-byte", count] => first_byte(count.parse()?)?,
        ["requests", ms] => alone(requests(Duration::from_millis(ms.parse()?)))?,
        ["chunks", count] => alone(chunks(count.parse()?))?,
        ["hold", count] => alone(hold(count.parse()?))?,
        _ => return Err(format!("no such load: {words:?}").into()),
    };
    println!("{report}");
    Ok(())
}

/// Moves streams beside each other; each gives its bytes.
fn bulk(
    streams: u32,
    one: impl Fn() -> io::Result<u64> + Send + Sync + Copy + 'static,
) -> Result<Value, Failure> {
    let begin = Instant::now();
    let threads: Vec<_> = (0..streams).map(|_| thread::spawn(one)).collect();
    let mut bytes = 0;
    for thread in threads {
        bytes += thread.join().map_err(|_| "a stream panicked")??;
    }
    Ok(json!({ "bytes": bytes, "seconds": begin.elapsed().as_secs_f64() }))
}

fn download(address: SocketAddr, streams: u32, ms: u64) -> Result<Value, Failure> {
    bulk(streams, move || {
        let mut connection = connect(address)?;
        connection.write_all(&ms.to_le_bytes())?;
        discard_all(&connection)
    })
}

/// Counts only what the target has confirmed: nothing that is still on its way.
fn upload(address: SocketAddr, streams: u32, ms: u64) -> Result<Value, Failure> {
    bulk(streams, move || {
        let mut connection = connect(address)?;
        let sent = send_for(&mut connection, Duration::from_millis(ms))?;
        let mut answer = [0; 8];
        connection.read_exact(&mut answer)?;
        let received = u64::from_le_bytes(answer);
        if received == sent {
            return Ok(received);
        }
        Err(io::Error::other(format!("of {sent} bytes, {received} came")))
    })
}

/// Sends for a time and goes, whatever has come of it.
fn flood(address: SocketAddr, streams: u32, ms: u64) -> Result<Value, Failure> {
    let end = Instant::now() + Duration::from_millis(ms);
    bulk(streams, move || {
        let mut connection = connect(address)?;
        connection.set_write_timeout(Some(Duration::from_millis(100)))?;
        let block = vec![MORE; BLOCK];
        let mut sent = 0;
        while Instant::now() < end {
            match connection.write(&block) {
                Ok(count) => sent += u64::try_from(count).unwrap_or(0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    })
}

fn send_for(connection: &mut TcpStream, time: Duration) -> io::Result<u64> {
    let end = Instant::now() + time;
    let mut block = vec![MORE; BLOCK];
    let mut sent = 0;
    while block[0] == MORE {
        if Instant::now() >= end {
            block[0] = LAST;
        }
        connection.write_all(&block)?;
        sent += u64::try_from(block.len()).unwrap_or(0);
    }
    Ok(sent)
}

pub fn discard_all(connection: &TcpStream) -> io::Result<u64> {
    let mut total = 0;
    loop {
        match discard(connection, BLOCK)? {
            0 => return Ok(total),
            count => total += u64::try_from(count).unwrap_or(0),
        }
    }
}

/// Reads so much, or to the end if that comes first, without a copy: the kernel drops what is read with this flag.
pub fn discard(connection: &TcpStream, count: usize) -> io::Result<usize> {
    let socket = SockRef::from(connection);
    let mut nowhere = [MaybeUninit::uninit(); BLOCK];
    let mut left = count;
    while left > 0 {
        match socket.recv_with_flags(&mut nowhere[..left.min(BLOCK)], libc::MSG_TRUNC) {
            Ok(0) => break,
            Ok(count) => left -= count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count - left)
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let connection = TcpStream::connect_timeout(&address, PATIENCE)?;
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    Ok(connection)
}

/// One request after the other, each on a connection of its own.
fn first_byte(count: usize) -> Result<Value, Failure> {
    let mut micros = Vec::with_capacity(count);
    for number in 0..count {
        let address = SocketAddr::new(target(number), Service::Ask.port());
        let begin = Instant::now();
        let mut connection = connect(address)?;
        connection.write_all(&[0x5a; QUESTION])?;
        connection.read_exact(&mut [0])?;
        micros.push(begin.elapsed().as_secs_f64() * 1e6);
        discard_all(&connection)?;
    }
    micros.sort_by(f64::total_cmp);
    let at = |percent: usize| micros.get((micros.len() * percent / 100).min(micros.len() - 1));
    Ok(json!({ "p50": at(50), "p99": at(99) }))
}

/// The target's addresses in turn.
fn target(number: usize) -> IpAddr {
    TARGETS[number % TARGETS.len()].into()
}

fn alone(work: impl Future<Output = Result<Value, Failure>>) -> Result<Value, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// Connects, asks, and reads to the end.
async fn talk(number: usize, service: Service, question: &[u8], answer: usize) -> io::Result<()> {
    let talk = async {
        let address = SocketAddr::new(target(number), service.port());
        let mut connection = tokio::net::TcpStream::connect(address).await?;
        connection.set_nodelay(true)?;
        connection.write_all(question).await?;
        let (mut total, mut buffer) = (0, [0; CHUNK]);
        loop {
            match connection.read(&mut buffer).await? {
                0 if total >= answer => return Ok(()),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => total += count,
            }
        }
    };
    tokio::time::timeout(PATIENCE, talk).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// [`ABREAST`] workers, each request on a connection of its own. One in a thousand may fail, and is told.
async fn requests(time: Duration) -> Result<Value, Failure> {
    let begin = Instant::now();
    let mut workers = JoinSet::new();
    for worker in 0..ABREAST {
        workers.spawn(async move {
            let (mut done, mut failed) = (0_u64, 0_u64);
            while begin.elapsed() < time {
                match talk(worker, Service::Ask, &[0x5a; QUESTION], 1).await {
                    Ok(()) => done += 1,
                    Err(_) => failed += 1,
                }
            }
            (done, failed)
        });
    }
    let counts = workers.join_all().await;
    let (done, failed) = counts.iter().fold((0, 0), |(a, b), (done, failed)| (a + done, b + failed));
    if failed * 1000 > done {
        return Err(format!("{failed} of {} requests failed", done + failed).into());
    }
    Ok(json!({ "requests": done, "failed": failed, "seconds": begin.elapsed().as_secs_f64() }))
}

/// Connections that move a chunk each and end.
async fn chunks(count: u64) -> Result<Value, Failure> {
    let left = Arc::new(AtomicU64::new(count));
    let mut workers = JoinSet::new();
    for worker in 0..ABREAST {
        let left = Arc::clone(&left);
        workers.spawn(async move {
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
            {
                talk(worker, Service::Chunk, &[0x5a], CHUNK).await?;
            }
            Ok::<_, io::Error>(())
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    Ok(json!({ "connections": count }))
}

/// Opens so many connections, says so, and holds them until it is killed.
async fn hold(count: usize) -> Result<Value, Failure> {
    let mut held = Vec::with_capacity(count);
    while held.len() < count {
        let mut abreast = JoinSet::new();
        for number in held.len()..count.min(held.len() + ABREAST) {
            abreast.spawn(tokio::time::timeout(PATIENCE, hold_one(number)));
        }
        while let Some(opened) = abreast.join_next().await {
            held.push(opened??.map_err(|error| format!("after {} connections: {error}", held.len()))?);
        }
    }
    println!("{HELD}");
    std::future::pending().await
}

pub const HELD: &str = "all are held";

async fn hold_one(number: usize) -> io::Result<tokio::net::TcpStream> {
    let address = SocketAddr::new(target(number), Service::Hold.port());
    let mut connection = tokio::net::TcpStream::connect(address).await?;
    connection.write_u8(0x5a).await?;
    connection.read_u8().await?;
    Ok(connection)
}

/// A first stream through a client that may not be ready; run in its namespace.
pub fn probe() -> io::Result<()> {
    let address = SocketAddr::from((TARGETS[0], Service::Ask.port()));
    let mut connection = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    connection.set_read_timeout(Some(Duration::from_secs(1)))?;
    connection.write_all(&[0x5a; QUESTION])?;
    connection.read_exact(&mut [0])
}
