import AnyTLSCore

/// Whether this app's VPN is there, and how it is doing.
///
/// ```text
/// stopped ─► starting ─► up ─► stopping ─► stopped
///    failed ◄───┴────────┘
/// ```
public enum VPNState: Sendable, Hashable {
  /// No VPN: nobody has asked for it, or it was turned off.
  case stopped
  /// Asked for; the interface is not there yet.
  case starting
  /// The interface is there and traffic goes into it. The core's state says how far it comes; nil while the
  /// extension has not said.
  case up(TunnelState?)
  /// Being turned off: a second at most.
  case stopping
  /// No VPN, for a reason that is not a call to stop; nil when the system does not tell which, before
  /// iOS 16 and macOS 13.
  case failed(VPNFailure?)
}
