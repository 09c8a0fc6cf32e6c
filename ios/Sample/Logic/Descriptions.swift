import AnyTLSMobile
import Foundation

/// What a config says about its server; no secret in it.
public struct Server: Sendable, Hashable, CustomStringConvertible {
  public let name: String?
  public let address: String

  public init(_ config: ConfigSummary) {
    let host = config.serverHost.contains(":") ? "[\(config.serverHost)]" : config.serverHost
    address = "\(host):\(config.serverPort)"
    let isBlank = config.name?.allSatisfy(\.isWhitespace) ?? true
    name = isBlank ? nil : config.name
  }

  public var description: String {
    name.map { "\($0) (\(address))" } ?? address
  }
}

/// A line for each, as they come: the errors first.
public func problemLines(_ problems: [ConfigProblem]) -> [String] {
  problems.map { problem in
    let kind = problem.severity == .error ? Texts.error : Texts.warning
    return problem.path.isEmpty ? "\(kind): \(problem.reason)" : "\(kind): \(problem.path): \(problem.reason)"
  }
}

/// What a config would do, for somebody who decides whether to take it; no secret in it.
public func describe(_ config: ConfigSummary) -> [String] {
  let server = Server(config)
  return (server.name.map { [Texts.name($0)] } ?? [])
    + [Texts.server(server.address)] + problemLines(config.warnings)
}

/// What a measurement came to.
public func describe(_ report: LatencyReport) -> String {
  Texts.latency(
    tcp: Format.time(report.tcp), tls: Format.time(report.tls),
    first: Format.time(report.firstStream), next: Format.time(report.warmStream))
}

/// How the run before this one ended, and what it wrote last; a sentence each.
public func describe(_ run: LastRun, now: Date) -> [String] {
  let end: String
  if let reason = run.reason {
    end = Texts.ended(reason)
  } else {
    let isTight = run.pressure != .normal || run.availableBytes.map { $0 < tightBytes } ?? false
    end = isTight ? Texts.killedForMemory : Texts.killed
  }
  return [
    end,
    Texts.lastWords(run.state.headline, when: Format.since(run.time, now: now)),
    Texts.memory(held: Format.bytes(run.heldBytes), left: run.availableBytes.map(Format.bytes)),
  ]
}

/// What the user reads of an error, whoever threw it.
public func sentence(for error: any Error) -> String {
  if let failure = VPNFailure(error) { return failure.userMessage }
  if let error = error as? TunnelError { return error.failure().userMessage }
  return Texts.notDone
}

/// What was counted, in words; nothing is claimed before anything was.
public struct TrafficText: Sendable, Hashable {
  public let speed: String
  public let totals: String
  public let counts: String

  public init(_ stats: TunnelStats?, speed: Speed?) {
    guard let stats else {
      (self.speed, totals, counts) = ("", "", "")
      return
    }
    let traffic = stats.traffic
    self.speed = Format.speed(speed ?? .none)
    totals = Texts.totals(Format.bytes(traffic.upBytes), Format.bytes(traffic.downBytes))
    counts = Texts.counts(
      sessions: stats.pool.idleSessions + stats.pool.activeSessions, connections: traffic.openConnections)
  }
}

/// With less than this left, one burst of traffic ends an extension: a guess.
private let tightBytes: UInt64 = 5_000_000
