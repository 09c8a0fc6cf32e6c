//! What an app does: HTTP requests over the network that the tunnel serves.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::Instant;

use super::network::Network;
use super::target::{hash_body, send_body};
use crate::Failure;

/// One transfer, as both ends saw it.
pub(super) struct Transfer {
    /// SHA-256 of what the sender sent.
    pub(super) sent: String,
    /// SHA-256 of what the receiver received.
    pub(super) received: String,
    pub(super) time: Duration,
}

/// From the connect to the first byte of the answer.
pub(super) async fn first_byte(network: &Network, target: SocketAddr) -> Result<Duration, Failure> {
    let begin = Instant::now();
    let mut socket = network.connect(target).await?;
    socket.write_all(b"GET /1 HTTP/1.1\r\nHost: demo\r\n\r\n").await?;
    socket.read_u8().await?;
    let time = begin.elapsed();
    socket.read_to_end(&mut Vec::new()).await?;
    Ok(time)
}

pub(super) async fn download(network: &Network, target: SocketAddr, bytes: u64) -> Result<Transfer, Failure> {
    let begin = Instant::now();
    let mut socket = BufReader::with_capacity(128 * 1024, network.connect(target).await?);
    socket.write_all(format!("GET /{bytes} HTTP/1.1\r\nHost: demo\r\n\r\n").as_bytes()).await?;
    skip_head(&mut socket).await?;
    let received = hash_body(&mut socket, bytes).await?;
    let time = begin.elapsed();
    let mut sent = String::new();
    socket.read_to_string(&mut sent).await?;
    Ok(Transfer { sent, received, time })
}

pub(super) async fn upload(network: &Network, target: SocketAddr, bytes: u64) -> Result<Transfer, Failure> {
    let begin = Instant::now();
    let mut socket = BufReader::new(network.connect(target).await?);
    let head = format!("PUT /{bytes} HTTP/1.1\r\nHost: demo\r\nContent-Length: {bytes}\r\n\r\n");
    socket.write_all(head.as_bytes()).await?;
    let sent = send_body(&mut socket, bytes).await?;
    skip_head(&mut socket).await?;
    let mut received = String::new();
    socket.read_to_string(&mut received).await?;
    Ok(Transfer { sent, received, time: begin.elapsed() })
}

async fn skip_head(socket: &mut (impl AsyncBufReadExt + Unpin)) -> Result<(), Failure> {
    let mut line = String::new();
    loop {
        line.clear();
        if socket.read_line(&mut line).await? == 0 {
            return Err("the answer was cut off".into());
        }
        if line.trim().is_empty() {
            return Ok(());
        }
    }
}
