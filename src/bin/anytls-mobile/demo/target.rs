//! What the app talks to: a small HTTP server that makes and hashes bytes.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anytls_mobile::testserver::{Outbound, Service};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::Failure;

/// Bytes made or read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// A download's size at most, and a request head's line.
const MAX_LINE_BYTES: u64 = 1024;

/// Answers `GET /<count>` with that many bytes and their SHA-256 as a trailing line, and `PUT` with the
/// SHA-256 of its body.
pub(super) struct HttpTarget {
    address: SocketAddr,
}

impl HttpTarget {
    pub(super) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        tokio::task::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::task::spawn(async move {
                    if let Err(error) = answer(socket).await {
                        tracing::debug!(%error, "request failed");
                    }
                });
            }
        });
        Ok(Self { address })
    }

    /// Leads every stream here, whatever its target.
    pub(super) fn as_outbound(&self) -> Outbound {
        let address = self.address;
        Arc::new(move |_| Service::ConnectTo(address))
    }
}

async fn answer(socket: TcpStream) -> Result<(), Failure> {
    socket.set_nodelay(true)?;
    let mut socket = BufReader::with_capacity(CHUNK_BYTES, socket);
    let mut line = String::new();
    (&mut socket).take(MAX_LINE_BYTES).read_line(&mut line).await?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let count: u64 = path.trim_start_matches('/').parse()?;
    let is_put = method == "PUT";
    loop {
        let mut header = String::new();
        (&mut socket).take(MAX_LINE_BYTES).read_line(&mut header).await?;
        if header.trim().is_empty() {
            break;
        }
    }
    if is_put {
        let hash = hash_body(&mut socket, count).await?;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", hash.len());
        socket.write_all(format!("{head}{hash}").as_bytes()).await?;
    } else {
        let length = count + 64; // the bytes, then their SHA-256 in hexadecimal
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        socket.write_all(head.as_bytes()).await?;
        let hash = send_body(&mut socket, count).await?;
        socket.write_all(hash.as_bytes()).await?;
    }
    Ok(socket.shutdown().await?)
}

/// Writes `count` pseudo-random bytes and gives their SHA-256.
pub(super) async fn send_body(out: &mut (impl AsyncWriteExt + Unpin), count: u64) -> io::Result<String> {
    let mut rng = StdRng::seed_from_u64(count);
    let mut chunk = vec![0; CHUNK_BYTES];
    rng.fill_bytes(&mut chunk);
    let mut hash = Sha256::new();
    let mut left = count;
    let mut number = 0_u64;
    while left > 0 {
        // A chunk that was lost, repeated or moved changes the hash.
        chunk[..8].copy_from_slice(&number.to_le_bytes());
        number += 1;
        let part = usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        hash.update(&chunk[..part]);
        out.write_all(&chunk[..part]).await?;
        left -= part as u64; // at most 64 KiB
    }
    out.flush().await?;
    Ok(hex(&hash.finalize()))
}

/// Reads `count` bytes and gives their SHA-256.
pub(super) async fn hash_body(from: &mut (impl AsyncReadExt + Unpin), count: u64) -> io::Result<String> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut hash = Sha256::new();
    let mut left = count;
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        let read = from.read(&mut chunk[..want]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hash.update(&chunk[..read]);
        left -= read as u64; // at most 64 KiB
    }
    Ok(hex(&hash.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
