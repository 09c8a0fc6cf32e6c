//! One flow through the stack, packets of 1500 bytes on a device in memory. The app's kernel is played by hand; what
//! that costs is in the figures, and does not change with the stack.

use anytls_mobile::netstack::TcpStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

use crate::app::{App, connect};
use crate::rig::{Rig, settle};
use crate::{Failure, MIB, Work};

const SEGMENT: [u8; 1460] = [0x5a; 1460];

/// What a turn of the loop reads at most.
const BATCH: usize = 45;

/// In virtual time, in which nothing is ever waited for.
fn connected() -> Result<(Runtime, Rig, App, TcpStream), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let (rig, app, stream) = runtime.block_on(async {
        let mut rig = Rig::new();
        let (app, stream) = connect(&mut rig, 40_000).await;
        (rig, app, stream)
    });
    Ok((runtime, rig, app, stream))
}

pub fn up() -> Result<Work, Failure> {
    let (runtime, rig, mut app, mut stream) = connected()?;
    let mut buffer = vec![0; 256 * 1024];
    Ok(Box::new(move || {
        runtime.block_on(async {
            let mut received = 0;
            while received < MIB {
                for _ in 0..BATCH {
                    app.send_data(&SEGMENT);
                }
                let batch = received + BATCH * SEGMENT.len();
                while received < batch {
                    received += stream.read(&mut buffer).await?;
                }
                settle().await;
                rig.tap.clear(); // acknowledgements
            }
            Ok(())
        })
    }))
}

pub fn down() -> Result<Work, Failure> {
    let (runtime, rig, mut app, mut stream) = connected()?;
    runtime.spawn(async move {
        let block = vec![0x5a; 64 * 1024];
        while stream.write_all(&block).await.is_ok() {}
    });
    Ok(Box::new(move || {
        runtime.block_on(async {
            let mut received = 0;
            while received < MIB {
                settle().await;
                let before = received;
                while let Some(packet) = rig.tap.take() {
                    let (seq, length) = segment(&packet).ok_or("not a segment")?;
                    if seq != app.ack {
                        return Err("a segment is missing".into());
                    }
                    app.ack = app.ack.wrapping_add(u32::try_from(length)?);
                    received += length;
                }
                if received == before {
                    return Err("the stack sends nothing".into());
                }
                app.send_ack();
            }
            Ok(())
        })
    }))
}

/// Sequence number and length of the data of a TCP segment in IPv4.
fn segment(packet: &[u8]) -> Option<(u32, usize)> {
    const IP_HEADER: usize = 20;
    let tcp = packet.get(IP_HEADER..)?;
    let seq = u32::from_be_bytes(tcp.get(4..8)?.try_into().ok()?);
    let header = usize::from(tcp.get(12)? >> 4) * 4;
    Some((seq, tcp.len().checked_sub(header)?))
}
