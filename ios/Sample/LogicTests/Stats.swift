import AnyTLSMobile

func traffic(up: UInt64 = 0, down: UInt64 = 0) -> TrafficStats {
  TrafficStats(
    upBytes: up, downBytes: down, openConnections: 1, totalConnections: 9, refusedConnections: 0,
    failedConnections: 0, closedConnections: 8)
}

/// Those of a tunnel with three sessions.
func stats(up: UInt64 = 0, down: UInt64 = 0) -> TunnelStats {
  TunnelStats(
    traffic: traffic(up: up, down: down),
    pool: PoolStats(
      idleSessions: 2, activeSessions: 1, dialing: 0, dialed: 3, dialsFailed: 0, reused: 0, shared: 0,
      retried: 0, closed: 0, lost: 0, heartbeatsSent: 0, heartbeatsAnswered: 0, heartbeatsMissed: 0,
      heartbeatBursts: 0, paddingBytes: 0),
    packets: PacketStats(
      packetsIn: 0, packetsOut: 0, bytesIn: 0, bytesOut: 0, dropped: 0, tcpFlows: 0, udpFlows: 0,
      refusedDatagrams: 0),
    dns: DnsStats(queries: 0, cacheHits: 0, forwarded: 0, failures: 0, medianTime: nil),
    memory: MemoryStats(limitBytes: 0, heldBytes: 0, pressure: .normal))
}
