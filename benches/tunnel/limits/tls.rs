//! What TLS costs at least: records of 16 KiB, in memory, by rustls' interface that copies least.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{ClientConfig, RootCertStore, ServerConfig, ServerConnection};

use super::median;
use crate::Failure;
use crate::server::NAME;

const RECORD: usize = 16 * 1024;

/// What is done at once, so that looking at the clock costs nothing.
const RECORDS: u32 = 64;
const BATCH: usize = RECORD * RECORDS as usize;

/// Of ciphertext and plaintext together, in the client's connection.
const ROOM: usize = 2 * 1024 * 1024;

/// What encrypting and decrypting 10^9 bytes takes, in the suite that both ends choose.
pub(super) fn seconds_per_gb(length: Duration) -> Result<(f64, f64), Failure> {
    let (mut server, mut client) = connected()?;
    let plain = vec![0x5a; RECORD];
    let mut wire = vec![0; ROOM];
    let encrypt = median(length, || {
        let begin = Instant::now();
        let mut filled = 0;
        for _ in 0..RECORDS {
            filled += client.encrypt(&plain, &mut wire[filled..])?;
        }
        Ok(begin.elapsed())
    })?;
    let decrypt = median(length, || {
        let mut filled = Vec::with_capacity(ROOM);
        for _ in 0..RECORDS {
            server.writer().write_all(&plain)?;
            while server.wants_write() {
                server.write_tls(&mut filled)?;
            }
        }
        let begin = Instant::now();
        let count = client.decrypt(&mut filled)?;
        let time = begin.elapsed();
        if count == BATCH { Ok(time) } else { Err("not all records came back".into()) }
    })?;
    let each =
        |time: Duration| time.as_secs_f64() * 1e9 / f64::from(u32::try_from(BATCH).unwrap_or(u32::MAX));
    Ok((each(encrypt), each(decrypt)))
}

/// The client's end. What comes is decrypted in place; what goes is encrypted into the caller's buffer.
struct Client(UnbufferedClientConnection);

impl Client {
    fn encrypt(&mut self, plain: &[u8], wire: &mut [u8]) -> Result<usize, Failure> {
        let UnbufferedStatus { state, .. } = self.0.process_tls_records(&mut []);
        match state? {
            ConnectionState::WriteTraffic(mut traffic) => {
                traffic.encrypt(plain, wire).map_err(|error| format!("{error:?}").into())
            }
            state => Err(format!("cannot write: {state:?}").into()),
        }
    }

    /// How many bytes of plaintext there were.
    fn decrypt(&mut self, wire: &mut [u8]) -> Result<usize, Failure> {
        let (mut begin, mut total) = (0, 0);
        while begin < wire.len() {
            let UnbufferedStatus { mut discard, state } = self.0.process_tls_records(&mut wire[begin..]);
            if let ConnectionState::ReadTraffic(mut traffic) = state? {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    total += record.payload.len();
                }
            }
            begin += discard;
        }
        Ok(total)
    }

    /// Takes part in the handshake; gives what is to be sent, until nothing of what came is left.
    fn shake(&mut self, incoming: &mut Vec<u8>) -> Result<Vec<u8>, Failure> {
        let mut outgoing = Vec::new();
        loop {
            let UnbufferedStatus { discard, state } = self.0.process_tls_records(incoming);
            let is_done = match state? {
                ConnectionState::EncodeTlsData(mut data) => {
                    let mut piece = vec![0; RECORD];
                    let count = data.encode(&mut piece).map_err(|error| format!("{error:?}"))?;
                    outgoing.extend_from_slice(&piece[..count]);
                    false
                }
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    false
                }
                ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) => true,
                state => return Err(format!("in a handshake: {state:?}").into()),
            };
            incoming.drain(..discard);
            if is_done {
                return Ok(outgoing);
            }
        }
    }
}

/// Two ends in this process, past their handshake and the tickets that follow it.
fn connected() -> Result<(ServerConnection, Client), Failure> {
    let certified = rcgen::generate_simple_self_signed(vec![NAME.to_owned()])?;
    let certificate = certified.cert.der().clone();
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der())?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    let mut client = Client(UnbufferedClientConnection::new(Arc::new(client), ServerName::try_from(NAME)?)?);
    let mut incoming = Vec::new();
    loop {
        let outgoing = client.shake(&mut incoming)?;
        let is_quiet = outgoing.is_empty();
        feed(&mut server, &outgoing)?;
        while server.wants_write() {
            server.write_tls(&mut incoming)?;
        }
        if is_quiet && incoming.is_empty() {
            return Ok((server, client));
        }
    }
}

fn feed(server: &mut ServerConnection, mut wire: &[u8]) -> Result<(), Failure> {
    while !wire.is_empty() {
        server.read_tls(&mut wire)?;
        server.process_new_packets().map_err(io::Error::other)?;
    }
    Ok(())
}
