//! The phone's apps, in a process of their own: connections that send all they can, and read or do not.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::{Failure, runtime};

/// Connections opened at once.
const STEP: usize = 16;

/// A datagram of a call or a game, and how often each app sends one.
const DATAGRAM_BYTES: usize = 1200;
const PAUSE: Duration = Duration::from_millis(20);

/// A process full of apps, which is killed when this is dropped.
pub(super) struct Apps(Child);

impl Apps {
    /// Starts them in the network of the calling thread; returns when every connection to `target` stands. Each
    /// sends from then on. One TCP connection of two never reads.
    pub(super) fn start(target: SocketAddr, tcp: usize, udp: usize) -> Result<Self, Failure> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["bench", "apps"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(stdin), Some(stdout)) = (&mut process.stdin, &mut process.stdout) else {
            return Err("the apps have no pipes".into());
        };
        writeln!(stdin, "{}", json!({ "target": target, "tcp": tcp, "udp": udp }))?;
        let mut answer = String::new();
        BufReader::new(stdout).read_line(&mut answer)?;
        let apps = Self(process);
        if answer.is_empty() { Err("the apps were not connected".into()) } else { Ok(apps) }
    }
}

impl Drop for Apps {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The apps' side: what to do on standard input, a line on standard output when all stands, until the input ends.
pub(super) fn run() -> Result<(), Failure> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let asked: Value = serde_json::from_str(&line)?;
    let number = |name: &str| usize::try_from(asked[name].as_u64().unwrap_or(0)).unwrap_or(0);
    let target: SocketAddr = asked["target"].as_str().unwrap_or_default().parse()?;
    let (tcp, udp) = (number("tcp"), number("udp"));
    std::thread::spawn(|| {
        let mut rest = Vec::new();
        let _ = std::io::stdin().lock().read_to_end(&mut rest);
        std::process::exit(0); // whoever started us is gone
    });
    runtime()?.block_on(async {
        let mut apps = JoinSet::new();
        let streams = connect(target, tcp).await?;
        for _ in 0..udp {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
            socket.connect(target).await?;
            apps.spawn(call(socket));
        }
        for (number, stream) in streams.into_iter().enumerate() {
            let (mut from, mut to) = stream.into_split();
            apps.spawn(async move { while to.write_all(&[0x5a; 4096]).await.is_ok() {} });
            apps.spawn(async move {
                if number % 2 == 1 {
                    std::future::pending::<()>().await;
                }
                while from.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0) {}
            });
        }
        println!("connected");
        while apps.join_next().await.is_some() {}
        std::future::pending().await
    })
}

/// Sends at a steady pace, and drops what comes.
async fn call(socket: UdpSocket) {
    loop {
        let _full = socket.try_send(&[0x5a; DATAGRAM_BYTES]);
        while socket.try_recv(&mut [0; DATAGRAM_BYTES]).is_ok() {}
        sleep(PAUSE).await;
    }
}

async fn connect(target: SocketAddr, count: usize) -> Result<Vec<TcpStream>, Failure> {
    let mut streams = Vec::with_capacity(count);
    while streams.len() < count {
        let mut step = JoinSet::new();
        for _ in 0..STEP.min(count - streams.len()) {
            step.spawn(TcpStream::connect(target));
        }
        while let Some(stream) = step.join_next().await {
            streams.push(stream??);
        }
    }
    Ok(streams)
}
