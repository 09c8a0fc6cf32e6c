//! What the app may show of a tunnel. Counters rise from the start; what is called a gauge is of now. Bytes and
//! ids are `u64`.

use std::time::Duration;

use super::MemoryPressure;
use crate::client::{self, SessionInfo as CoreSession};
use crate::proto::settings::PeerVersion;
use crate::tunnel::{self, Connection, Latency, Stats};

/// What a tunnel has counted since it was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, uniffi::Record)]
pub struct TunnelStats {
    /// Apps' connections and bytes.
    pub traffic: TrafficStats,
    /// Sessions with the server.
    pub pool: PoolStats,
    /// Packets of the TUN.
    pub packets: PacketStats,
    /// Apps' DNS queries.
    pub dns: DnsStats,
    /// Memory held of `tun.memory_limit`.
    pub memory: MemoryStats,
}

/// Apps' connections and bytes, TCP and UDP.
#[derive(Clone, Debug, Default, PartialEq, Eq, uniffi::Record)]
pub struct TrafficStats {
    /// Bytes from apps, without headers.
    pub up_bytes: u64,
    /// Bytes to apps, without headers.
    pub down_bytes: u64,
    /// Gauge: connections that live.
    pub open_connections: u64,
    /// Connections seen.
    pub total_connections: u64,
    /// Connections refused because the server did not open their stream.
    pub refused_connections: u64,
    /// Connections that ended with a failure.
    pub failed_connections: u64,
    /// Connections closed by the app of the VPN, or by the tunnel's end.
    pub closed_connections: u64,
}

/// Sessions with the server, and streams on them.
#[derive(Clone, Debug, Default, PartialEq, Eq, uniffi::Record)]
pub struct PoolStats {
    /// Gauge: sessions that serve no stream.
    pub idle_sessions: u64,
    /// Gauge: sessions that serve a stream.
    pub active_sessions: u64,
    /// Gauge: dials under way.
    pub dialing: u64,
    /// Sessions made.
    pub dialed: u64,
    /// Dials that failed, and sessions refused right after authentication.
    pub dials_failed: u64,
    /// Streams that were given a session which had served another.
    pub reused: u64,
    /// Streams that share a session with another.
    pub shared: u64,
    /// Streams opened a second time because their session was dead.
    pub retried: u64,
    /// Sessions that have ended.
    pub closed: u64,
    /// Of those: because they did not answer, or broke.
    pub lost: u64,
    /// Heartbeats asked for.
    pub heartbeats_sent: u64,
    /// Heartbeats answered.
    pub heartbeats_answered: u64,
    /// Heartbeats not answered in time.
    pub heartbeats_missed: u64,
    /// Times that the radio was woken for heartbeats.
    pub heartbeat_bursts: u64,
    /// Padding sent, in bytes.
    pub padding_bytes: u64,
}

/// Packets of the TUN.
#[derive(Clone, Debug, Default, PartialEq, Eq, uniffi::Record)]
pub struct PacketStats {
    /// Packets from apps.
    pub packets_in: u64,
    /// Packets to apps.
    pub packets_out: u64,
    /// Bytes from apps, headers included.
    pub bytes_in: u64,
    /// Bytes to apps, headers included.
    pub bytes_out: u64,
    /// Packets dropped, for any reason.
    pub dropped: u64,
    /// Gauge: TCP flows.
    pub tcp_flows: u64,
    /// Gauge: UDP flows.
    pub udp_flows: u64,
    /// Datagrams answered with port unreachable, QUIC among them.
    pub refused_datagrams: u64,
}

/// Apps' DNS queries.
#[derive(Clone, Debug, Default, PartialEq, Eq, uniffi::Record)]
pub struct DnsStats {
    /// Queries, over UDP and TCP.
    pub queries: u64,
    /// Questions answered from the cache.
    pub cache_hits: u64,
    /// Questions sent to the resolver.
    pub forwarded: u64,
    /// Questions without an answer.
    pub failures: u64,
    /// How long the resolver takes, at the median of the last ones; `None` before the first.
    pub median_time: Option<Duration>,
}

/// Memory held of `tun.memory_limit`, in bytes.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct MemoryStats {
    /// The limit.
    pub limit_bytes: u64,
    /// Gauge: held by buffers that exist once, sessions, flows, datagrams, fragments and DNS.
    pub held_bytes: u64,
    /// What the system last said.
    pub pressure: MemoryPressure,
}

impl Default for MemoryStats {
    fn default() -> Self {
        Self { limit_bytes: 0, held_bytes: 0, pressure: MemoryPressure::Normal }
    }
}

impl From<Stats> for TunnelStats {
    fn from(stats: Stats) -> Self {
        let Stats { client, netstack, flows, dns, memory } = stats;
        let bytes = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        Self {
            traffic: TrafficStats {
                up_bytes: flows.up_bytes,
                down_bytes: flows.down_bytes,
                open_connections: flows.open,
                total_connections: flows.total,
                refused_connections: flows.refused,
                failed_connections: flows.failed,
                closed_connections: flows.closed_by_us,
            },
            pool: client.into(),
            packets: PacketStats {
                packets_in: netstack.packets_in,
                packets_out: netstack.packets_out,
                bytes_in: netstack.bytes_in,
                bytes_out: netstack.bytes_out,
                dropped: netstack.dropped.total(),
                tcp_flows: netstack.flows_open,
                udp_flows: netstack.udp_flows_open,
                refused_datagrams: netstack.unreachable_out,
            },
            dns: DnsStats {
                queries: dns.desk.udp_queries + dns.desk.tcp_queries,
                cache_hits: dns.desk.cache_hits,
                forwarded: dns.desk.forwarded,
                failures: dns.desk.failures + dns.desk.refused_overload,
                median_time: dns.desk.resolve_times.median(),
            },
            memory: MemoryStats {
                limit_bytes: bytes(memory.limit),
                held_bytes: bytes(memory.held()),
                pressure: memory.pressure.into(),
            },
        }
    }
}

impl From<client::ClientStats> for PoolStats {
    fn from(stats: client::ClientStats) -> Self {
        Self {
            idle_sessions: stats.idle,
            active_sessions: stats.active,
            dialing: stats.dialing,
            dialed: stats.dialed,
            dials_failed: stats.dials_failed,
            reused: stats.reused,
            shared: stats.shared,
            retried: stats.retried,
            closed: stats.closed,
            lost: stats.closed_broken + stats.closed_no_answer,
            heartbeats_sent: stats.beats_sent,
            heartbeats_answered: stats.beats_answered,
            heartbeats_missed: stats.beats_missed,
            heartbeat_bursts: stats.bursts,
            padding_bytes: stats.padding_bytes,
        }
    }
}

/// A session with the server.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct SessionInfo {
    /// Its number within the tunnel, rising.
    pub seq: u64,
    /// How long ago it was dialled.
    pub age: Duration,
    /// For how long the server was not heard.
    pub silent: Duration,
    /// For how long it has served no stream; `None` while it serves one.
    pub idle: Option<Duration>,
    /// The round trip to the server, smoothed.
    pub round_trip: Duration,
    /// Streams on it.
    pub streams: u32,
    /// The server's protocol version; `None` before it is known.
    pub server_version: Option<u32>,
    /// Apps' bytes sent.
    pub sent_bytes: u64,
    /// Apps' bytes received.
    pub received_bytes: u64,
    /// Padding sent, in bytes.
    pub padding_bytes: u64,
    /// Heartbeats asked for.
    pub heartbeats_sent: u64,
    /// Heartbeats answered.
    pub heartbeats_answered: u64,
}

impl From<CoreSession> for SessionInfo {
    fn from(session: CoreSession) -> Self {
        let CoreSession { seq, age, silent, idle, round_trip, streams, peer, padding_md5: _, counters } =
            session;
        Self {
            seq: seq.0,
            age,
            silent,
            idle,
            round_trip,
            streams: u32::try_from(streams).unwrap_or(u32::MAX),
            server_version: peer.map(|version| match version {
                PeerVersion::V1 => 1,
                PeerVersion::V2 => 2,
            }),
            sent_bytes: counters.sent_bytes,
            received_bytes: counters.received_bytes,
            padding_bytes: counters.padding_bytes,
            heartbeats_sent: counters.beats_sent,
            heartbeats_answered: counters.beats_answered,
        }
    }
}

/// A connection of an app.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct ConnectionInfo {
    /// Its number within the tunnel, rising.
    pub id: u64,
    /// What it is on the app's side.
    pub kind: ConnectionKind,
    /// Where it goes: `host:port`. Private: what somebody does on the network.
    pub destination: String,
    /// How far it has come.
    pub phase: ConnectionPhase,
    /// How long it has lived.
    pub age: Duration,
    /// Bytes from the app.
    pub up_bytes: u64,
    /// Bytes to the app.
    pub down_bytes: u64,
}

/// What a connection is on the app's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum ConnectionKind {
    /// TCP out of the TUN's packets.
    Tcp,
    /// UDP out of the TUN's packets.
    Udp,
    /// A socket handed to `connect_stream`.
    Socket,
    /// Datagrams of a program's own.
    Association,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum ConnectionPhase {
    /// The server has not opened the stream yet.
    Opening,
    /// Bytes may move.
    Open,
}

impl From<Connection> for ConnectionInfo {
    fn from(connection: Connection) -> Self {
        let Connection { id, kind, destination, phase, age, up_bytes, down_bytes } = connection;
        Self {
            id: id.0,
            kind: match kind {
                tunnel::ConnectionKind::Tcp => ConnectionKind::Tcp,
                tunnel::ConnectionKind::Udp => ConnectionKind::Udp,
                tunnel::ConnectionKind::Socket => ConnectionKind::Socket,
                tunnel::ConnectionKind::Association => ConnectionKind::Association,
            },
            destination: destination.to_string(),
            phase: match phase {
                tunnel::ConnectionPhase::Opening => ConnectionPhase::Opening,
                tunnel::ConnectionPhase::Open => ConnectionPhase::Open,
            },
            age,
            up_bytes,
            down_bytes,
        }
    }
}

/// How long the server takes, step by step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Record)]
pub struct LatencyReport {
    /// The TCP connect.
    pub tcp: Duration,
    /// The TLS handshake.
    pub tls: Duration,
    /// The first stream, the server's own connect to the destination included.
    pub first_stream: Duration,
    /// Another stream on the same session.
    pub warm_stream: Duration,
}

impl From<Latency> for LatencyReport {
    fn from(latency: Latency) -> Self {
        let Latency { tcp, tls, first_stream, warm_stream } = latency;
        Self { tcp, tls, first_stream, warm_stream }
    }
}
