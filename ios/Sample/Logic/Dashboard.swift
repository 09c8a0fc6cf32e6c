import AnyTLSMobile
import Foundation

/// What came of moving the switch.
public enum SwitchAction: Sendable, Hashable {
  case start, stop
  /// There is nothing to start with: the user is asked for it.
  case configure
}

/// What the main screen knows. Times are of a clock that only goes forward.
public struct Dashboard: Sendable {
  public private(set) var seen: Seen
  public private(set) var stats: TunnelStats?
  private var speeds: SpeedHistory
  /// Taken for granted until the system's settings were read.
  public var hasConfig = true

  public init(now: TimeInterval, span: TimeInterval = 60) {
    seen = Seen(.stopped, at: now)
    speeds = SpeedHistory(span: span)
  }

  /// Whether the VPN has come up by that: then its extension is to be told and asked what it is only once.
  public mutating func handle(_ state: VPNState, now: TimeInterval) -> Bool {
    let wasUp = seen.isUp
    seen = seen.next(state, at: now)
    if !seen.isUp {
      stats = nil
      speeds.clear()
    }
    return seen.isUp && !wasUp
  }

  /// An answer that comes after the end is of no use.
  public mutating func handle(_ stats: TunnelStats, now: TimeInterval) {
    guard seen.isUp else { return }
    self.stats = stats
    speeds.add(stats.traffic, now: now)
  }

  public func action(turningOn: Bool) -> SwitchAction {
    if !turningOn { return .stop }
    return hasConfig ? .start : .configure
  }

  public func view(now: TimeInterval) -> ViewState {
    ViewState(seen, now: now, hasConfig: hasConfig)
  }

  public var traffic: TrafficText { TrafficText(stats, speed: speeds.current) }

  public func graph(now: TimeInterval) -> SpeedGraph { speeds.graph(now: now) }
}
