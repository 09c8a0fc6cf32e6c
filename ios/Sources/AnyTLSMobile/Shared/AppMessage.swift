import AnyTLSCore
import Foundation

/// What the app asks of the extension, as JSON through `sendProviderMessage`. `TunnelClient` has a function for each.
public enum AppMessage: Codable, Sendable, Hashable {
  case state
  case stats
  case sessions
  case connections
  case closeConnection(id: UInt64)
  case reload(VPNConfig)
  case setLogLevel(LogLevel)
  case testLatency(destination: String)
  /// Lines newer than that number; all that are kept after 0, and after a number of another run of the extension.
  case logs(after: UInt64)
  /// How the run before this one ended.
  case lastRun
}

/// What the extension answers.
public enum AppReply: Codable, Sendable, Hashable {
  case state(TunnelState)
  case stats(TunnelStats)
  case sessions([SessionInfo])
  case connections([ConnectionInfo])
  /// Whether there was such a connection.
  case closed(Bool)
  case latency(LatencyReport)
  /// `missed`: lines after the number asked for that are no longer kept.
  case logs([LogLine], missed: UInt64)
  case lastRun(LastRun?)
  /// To messages that have no other answer.
  case done
  case failure(VPNFailure)
}

/// A message in the form that goes from process to process. App and extension are of one version most of the time, but
/// not while an update is installed: what one adds must not break what the other knows.
protocol AppCoded: Codable {}

extension AppMessage: AppCoded {}
extension AppReply: AppCoded {}

extension AppCoded {
  /// Throws `VPNFailure.noAnswer` for what the other side's version has and this one does not know.
  init(data: Data) throws {
    do {
      self = try JSONDecoder().decode(Self.self, from: data)
    } catch {  // not passed on: it could quote a config
      throw VPNFailure.noAnswer("not a known \(Self.self)")
    }
  }

  /// Throws `VPNFailure.noAnswer` for what JSON cannot say: an infinite number.
  func data() throws -> Data {
    do {
      return try JSONEncoder().encode(self)
    } catch {
      throw VPNFailure.noAnswer("\(Self.self) has no JSON form")
    }
  }
}
