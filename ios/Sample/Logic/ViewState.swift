import AnyTLSMobile
import Foundation

/// A state, and when it began, by a clock that only goes forward.
public struct Seen: Sendable, Hashable {
  public let state: VPNState
  public let at: TimeInterval

  public init(_ state: VPNState, at: TimeInterval) {
    self.state = state
    self.at = at
  }

  /// Whether the extension is there to be asked.
  public var isUp: Bool {
    if case .up = state { return true }
    return false
  }

  /// The same state told again keeps its time: what counts down is counted from when it was told first.
  public func next(_ state: VPNState, at now: TimeInterval) -> Seen {
    state == self.state ? self : Seen(state, at: now)
  }
}

/// How things are, at a glance: the name of a colour.
public enum Tone: Sendable, Hashable {
  case off, busy, good, trouble
}

/// What the switch and the words beside it show.
public struct ViewState: Sendable, Hashable {
  public let tone: Tone
  public let headline: String
  /// More about it, a sentence a line; may be empty.
  public let detail: String
  /// Where the switch stands.
  public let isOn: Bool
  public let canSwitch: Bool

  public init(_ seen: Seen, now: TimeInterval, hasConfig: Bool) {
    switch seen.state {
    case .stopped: self = .off(.off, Texts.off, hasConfig ? "" : Texts.addAConfig)
    case .starting: self = .on(.busy, Texts.starting)
    case .stopping: self.init(.busy, Texts.stopping, "", isOn: false, canSwitch: false)
    case .failed(nil): self = .off(.trouble, Texts.failed, Texts.noReason)
    case .failed(let failure?): self = .off(.trouble, Texts.failed, describe(failure))
    case .up(nil): self = .on(.busy, Texts.on)
    case .up(let tunnel?): self = .up(tunnel, for: now - seen.at)
    }
  }

  private init(_ tone: Tone, _ headline: String, _ detail: String, isOn: Bool, canSwitch: Bool) {
    self.tone = tone
    self.headline = headline
    self.detail = detail
    self.isOn = isOn
    self.canSwitch = canSwitch
  }

  private static func up(_ tunnel: TunnelState, for time: TimeInterval) -> ViewState {
    let (tone, title) = (tunnel.tone, tunnel.headline)
    switch tunnel {
    case .stopped, .stopping, .starting, .connecting, .connected: return on(tone, title)
    case .waitingForNetwork: return on(tone, title, Texts.goesOnWithOne)
    case .paused: return on(tone, title, Texts.phoneSleeps)
    case .degraded(let failure): return on(tone, title, describe(failure))
    case .reconnecting(let attempt, let retryIn, let failure):
      // Rounded up: it says 1 s until the try begins.
      let seconds = Int(positive(retryIn - time).rounded(.up))
      return on(tone, title, lines(describe(failure), Texts.retry(attempt, seconds: seconds)))
    case .failed(let failure, let isTrafficBlocked):
      return on(tone, title, lines(describe(failure), isTrafficBlocked ? Texts.trafficBlocked : ""))
    }
  }

  private static func on(_ tone: Tone, _ headline: String, _ detail: String = "") -> ViewState {
    ViewState(tone, headline, detail, isOn: true, canSwitch: true)
  }

  private static func off(_ tone: Tone, _ headline: String, _ detail: String) -> ViewState {
    ViewState(tone, headline, detail, isOn: false, canSwitch: true)
  }
}

extension TunnelState {
  var headline: String {
    switch self {
    case .stopped, .stopping: Texts.stopping
    case .starting, .connecting: Texts.connecting
    case .connected: Texts.connected
    case .degraded: Texts.degraded
    case .waitingForNetwork: Texts.noNetwork
    case .reconnecting: Texts.reconnecting
    case .paused: Texts.paused
    case .failed: Texts.failed
    }
  }

  fileprivate var tone: Tone {
    switch self {
    case .stopped, .stopping, .starting, .connecting, .waitingForNetwork, .paused: .busy
    case .connected: .good
    case .degraded, .reconnecting, .failed: .trouble
    }
  }
}

/// The code is for whoever helps the user.
private func describe(_ failure: Failure) -> String {
  "\(failure.userMessage) (\(failure.code))"
}

private func describe(_ failure: VPNFailure) -> String {
  switch failure {
  case .noConfig: Texts.addAConfig
  case .badConfig(let problems): ([failure.userMessage] + problemLines(problems)).joined(separator: "\n")
  case .core(let failure): describe(failure)
  case .settingsRefused, .noDescriptor, .store, .noAnswer, .system:
    "\(failure.userMessage) (\(failure.code))"
  }
}

private func lines(_ lines: String...) -> String {
  lines.filter { !$0.isEmpty }.joined(separator: "\n")
}
