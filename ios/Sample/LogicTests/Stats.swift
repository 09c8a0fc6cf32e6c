import AnyTLSMobile
import TestSupport

func traffic(up: UInt64 = 0, down: UInt64 = 0) -> TrafficStats { stats(up: up, down: down).traffic }

/// Those of a tunnel with three sessions.
func stats(up: UInt64 = 0, down: UInt64 = 0) -> TunnelStats {
  var stats = TunnelStats.zero
  (stats.traffic.upBytes, stats.traffic.downBytes) = (up, down)
  (stats.traffic.openConnections, stats.traffic.totalConnections, stats.traffic.closedConnections) = (1, 9, 8)
  (stats.pool.idleSessions, stats.pool.activeSessions, stats.pool.dialed) = (2, 1, 3)
  return stats
}
