import AnyTLSCore
import NetworkExtension

/// Tells the VPN's state from what the system says and what the app has asked for. Pure: what has to be asked is
/// returned, and the answer given back.
struct StateTracker {
  /// Something to ask. The answer counts when nothing has happened meanwhile.
  enum Question: Equatable {
    /// The extension, for the core's state.
    case tunnelState(turn: Int)
    /// The system, why the VPN has ended.
    case disconnectError(turn: Int)
  }

  private(set) var state = VPNState.stopped
  /// Whether the system has begun with what `handleStart` told. What it said before is of the run before.
  private var hasBegun = true
  private var wasUp = false
  private var isStopAsked = false
  private(set) var turn = 0

  /// The app is about to start the VPN.
  mutating func handleStart() {
    turn += 1
    (state, hasBegun, wasUp, isStopAsked) = (.starting, false, false, false)
  }

  /// The system did not take the start.
  mutating func handleRefusal(_ failure: VPNFailure) {
    turn += 1
    (state, hasBegun) = (.failed(failure), true)
  }

  /// The VPN is off, and the system has said nothing since that turn, in which it took a start.
  mutating func handleSilence(since start: Int) -> Question? {
    guard start == turn, !hasBegun else { return nil }
    turn += 1
    (state, hasBegun) = (.stopping, true)
    return .disconnectError(turn: turn)
  }

  /// The app is about to stop the VPN.
  mutating func handleStop() {
    isStopAsked = true
    if state == .starting, !hasBegun { (state, hasBegun) = (.stopped, true) }
  }

  mutating func handle(_ status: NEVPNStatus) -> Question? {
    if !hasBegun, status == .disconnecting || status == .disconnected { return nil }
    turn += 1
    switch status {
    case .invalid:
      state = .stopped
    case .connecting:
      if !state.isActive { (wasUp, isStopAsked) = (false, false) }
      (state, hasBegun) = (.starting, true)
    case .connected, .reasserting:
      (wasUp, hasBegun) = (true, true)
      if case .up = state {} else { state = .up(nil) }
      return .tunnelState(turn: turn)
    case .disconnecting:
      state = .stopping
    case .disconnected:
      guard state.isActive else { break }
      if isStopAsked {
        state = .stopped
      } else {
        state = .stopping
        return .disconnectError(turn: turn)
      }
    @unknown default:
      break
    }
    return nil
  }

  /// Asks once more how the tunnel is doing.
  func question() -> Question? {
    if case .up = state { .tunnelState(turn: turn) } else { nil }
  }

  mutating func handle(_ tunnel: TunnelState, to question: Question) {
    guard question == .tunnelState(turn: turn), case .up = state else { return }
    state = .up(tunnel)
  }

  /// The answer to `.disconnectError`. `isTold` is false where the system has no such function: who was never up has
  /// failed then, and for the others the user is the likelier cause.
  mutating func handle(_ error: (any Error)?, isTold: Bool, to question: Question) {
    guard question == .disconnectError(turn: turn) else { return }
    if let error {
      state = .failed(VPNFailure(ending: error))
    } else {
      state = isTold || wasUp ? .stopped : .failed(nil)
    }
  }
}

extension VPNState {
  /// Whether there is something to stop.
  var isActive: Bool {
    switch self {
    case .starting, .up, .stopping: true
    case .stopped, .failed: false
    }
  }
}
