//! The targets behind the server, in a process of their own.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use std::{io, thread};

use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Failure;
use crate::load::{BLOCK, discard, discard_all};

/// What a connection to a port gets.
#[derive(Clone, Copy)]
pub enum Service {
    /// Reads how many milliseconds, 8 bytes little-endian; sends for so long and ends.
    Source,
    /// Reads blocks; the last is one that begins with [`LAST`]. Sends how many bytes they were, 8 bytes
    /// little-endian. An end of the stream would not do: AnyTLS closes both ways with it.
    Sink,
    /// Reads a question of [`QUESTION`] bytes, sends [`ANSWER`] and ends.
    Ask,
    /// Sends back one byte, then waits for the end.
    Hold,
    /// Reads one byte, sends [`CHUNK`] and ends.
    Chunk,
}

/// As small as an HTTP request and its answer get.
pub const QUESTION: usize = 100;
const ANSWER: usize = 300;

pub const CHUNK: usize = 16 * 1024;

/// How a block begins that others follow, and how the last.
pub const MORE: u8 = 1;
pub const LAST: u8 = 0;

impl Service {
    const ALL: [Self; 5] = [Self::Source, Self::Sink, Self::Ask, Self::Hold, Self::Chunk];

    pub const fn port(self) -> u16 {
        match self {
            Self::Source => 7001,
            Self::Sink => 7002,
            Self::Ask => 7003,
            Self::Hold => 7004,
            Self::Chunk => 7005,
        }
    }
}

/// Says `listening`, then serves until it is killed.
pub fn serve() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut small = Vec::new();
    for service in Service::ALL {
        let listener = listen(service)?;
        match service {
            Service::Source => drop(thread::spawn(move || bulk(&listener, source))),
            Service::Sink => drop(thread::spawn(move || bulk(&listener, sink))),
            Service::Ask | Service::Hold | Service::Chunk => small.push((service, listener)),
        }
    }
    println!("listening");
    runtime.block_on(async {
        let mut last = None;
        for (service, listener) in small {
            listener.set_nonblocking(true)?;
            last = Some(tokio::spawn(accept(service, tokio::net::TcpListener::from_std(listener)?)));
        }
        match last {
            Some(task) => task.await?,
            None => Ok(()),
        }
    })
}

fn listen(service: Service) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, service.port())).into())?;
    socket.listen(8192)?;
    Ok(socket.into())
}

/// A thread a connection: the cheapest way to move much.
fn bulk(listener: &TcpListener, serve: fn(TcpStream) -> io::Result<()>) {
    for connection in listener.incoming().flatten() {
        thread::spawn(move || {
            // Who went away early has its own report to make.
            let _gone = serve(connection);
        });
    }
}

fn source(mut connection: TcpStream) -> io::Result<()> {
    let mut asked = [0; 8];
    connection.read_exact(&mut asked)?;
    let end = Instant::now() + Duration::from_millis(u64::from_le_bytes(asked));
    let block = vec![0x5a; BLOCK];
    while Instant::now() < end {
        connection.write_all(&block)?;
    }
    connection.shutdown(Shutdown::Write)?;
    discard_all(&connection)?;
    Ok(())
}

fn sink(mut connection: TcpStream) -> io::Result<()> {
    let (mut count, mut first) = (0, [MORE]);
    while first == [MORE] {
        connection.read_exact(&mut first)?;
        let rest = discard(&connection, BLOCK - 1)?;
        count += 1 + u64::try_from(rest).unwrap_or(0);
    }
    connection.write_all(&count.to_le_bytes())
}

async fn accept(service: Service, listener: tokio::net::TcpListener) -> Result<(), Failure> {
    loop {
        let (connection, _) = listener.accept().await?;
        connection.set_nodelay(true)?;
        tokio::spawn(async move {
            let _gone = answer(service, connection).await;
        });
    }
}

async fn answer(service: Service, mut connection: tokio::net::TcpStream) -> io::Result<()> {
    match service {
        Service::Ask => {
            connection.read_exact(&mut [0; QUESTION]).await?;
            connection.write_all(&[0x5a; ANSWER]).await?;
        }
        Service::Hold => {
            let byte = connection.read_u8().await?;
            connection.write_u8(byte).await?;
        }
        Service::Chunk => {
            connection.read_u8().await?;
            connection.write_all(&[0x5a; CHUNK]).await?;
        }
        Service::Source | Service::Sink => unreachable!("these have threads"),
    }
    if !matches!(service, Service::Hold) {
        connection.shutdown().await?;
    }
    while connection.read(&mut [0; 64]).await? > 0 {}
    Ok(())
}
