import AnyTLSCore
import Foundation

extension TunnelAdapter {
  /// The answer to a message of the app's: always one, whatever came. Nil when not even that can be put into words.
  nonisolated func answer(_ message: Data) async -> Data? {
    let reply: AppReply
    do {
      reply = try await answer(try AppMessage(data: message))
    } catch {
      reply = .failure(asFailure(error) ?? .core(TunnelError.Cancelled.failure()))
    }
    return try? reply.data()
  }

  private nonisolated func answer(_ message: AppMessage) async throws -> AppReply {
    switch message {
    case .state: return .state(core.state())
    case .stats: return .stats(core.stats())
    case .sessions: return .sessions(core.sessions())
    case .connections: return .connections(core.connections())
    case .closeConnection(let id): return .closed(core.closeConnection(id: id))
    case .testLatency(let destination): return .latency(try await core.testLatency(destination: destination))
    case .lastRun: return .lastRun(await lastRun)
    case .logs(let number):
      let (lines, missed) = logs.lines(after: number)
      return .logs(lines, missed: missed)
    case .setLogLevel(let level):
      setLogLevel(level: level)
      return .done
    case .reload(let config):
      try await reload(config)
      return .done
    }
  }
}

/// Nil: it was called off.
func asFailure(_ error: any Error) -> VPNFailure? {
  switch error {
  case is CancellationError, TunnelError.Cancelled: nil
  case let failure as VPNFailure: failure
  case TunnelError.Config(let problems): .badConfig(problems)
  case let error as TunnelError: .core(error.failure())
  default: .core(TunnelError.Internal(reason: "\(error)").failure())
  }
}
