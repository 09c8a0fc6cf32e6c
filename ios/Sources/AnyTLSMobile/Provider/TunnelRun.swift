import AnyTLSCore
import Foundation

/// One time that the core is on, with what was begun for it. The adapter's.
struct TunnelRun: Sendable {
  /// Rising, so that what is heard late of one run is not taken for another's.
  let id: UInt64
  /// It owns the adapter.
  weak var provider: AnyTLSPacketTunnelProvider?
  var config: VPNConfig
  var summary: ConfigSummary
  /// Who listen, to the core or to the phone; they end with the run.
  var watchers: [Task<Void, Never>] = []
  var reassertion = Reassertion()
  var state = TunnelState.starting
  var memory = MemoryReport(pressure: .normal)
  /// When the breadcrumb was last written.
  var noted = Date.distantPast

  /// Whether the system has to set up another interface for a config.
  func needsInterface(for config: VPNConfig, _ summary: ConfigSummary) -> Bool {
    config.options.packets != self.config.options.packets || summary.tun != self.summary.tun
  }

  /// Whether it has to hear of a config that goes with the same interface.
  func needsRoutes(for config: VPNConfig, _ summary: ConfigSummary) -> Bool {
    config.options.excludesServer != self.config.options.excludesServer
      || summary.serverHost != self.summary.serverHost
  }

  func end() {
    for watcher in watchers { watcher.cancel() }
    // Only what is on: the system takes it for a change of the VPN's status.
    if provider?.reasserting == true { provider?.reasserting = false }
  }
}
