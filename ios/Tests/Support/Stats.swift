import AnyTLSCore

extension TunnelStats {
  /// Those of a tunnel that has done nothing.
  public static var zero: TunnelStats {
    TunnelStats(
      traffic: TrafficStats(
        upBytes: 0, downBytes: 0, openConnections: 0, totalConnections: 0, refusedConnections: 0,
        failedConnections: 0, closedConnections: 0),
      pool: PoolStats(
        idleSessions: 0, activeSessions: 0, dialing: 0, dialed: 0, dialsFailed: 0, reused: 0, shared: 0,
        retried: 0, closed: 0, lost: 0, heartbeatsSent: 0, heartbeatsAnswered: 0, heartbeatsMissed: 0,
        heartbeatBursts: 0, paddingBytes: 0),
      packets: PacketStats(
        packetsIn: 0, packetsOut: 0, bytesIn: 0, bytesOut: 0, dropped: 0, tcpFlows: 0, udpFlows: 0,
        refusedDatagrams: 0),
      dns: DnsStats(queries: 0, cacheHits: 0, forwarded: 0, failures: 0, medianTime: nil),
      memory: MemoryStats(limitBytes: 0, heldBytes: 0, pressure: .normal))
  }
}
