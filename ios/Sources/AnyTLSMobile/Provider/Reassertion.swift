import AnyTLSCore

/// Whether the system is to show that the VPN is being found again: only after it was there, and while the core
/// looks for the server. Pure.
struct Reassertion: Sendable {
  private var wasConnected = false

  mutating func isOn(in state: TunnelState) -> Bool {
    switch state {
    case .connected:
      wasConnected = true
      return false
    case .reconnecting:
      return wasConnected
    case .stopped, .starting, .connecting, .degraded, .waitingForNetwork, .paused, .stopping, .failed:
      return false
    }
  }
}
