import Foundation
import NetworkExtension

// The callback forms, since the system's classes are not Sendable: its async methods would take them off the main
// actor. Not to be cancelled: whoever does not wait for a change does not know what is saved.
@MainActor
extension NETunnelProviderManager {
  var settings: NETunnelProviderProtocol? { protocolConfiguration as? NETunnelProviderProtocol }

  /// All of this app's.
  static func loadAll() async throws -> [NETunnelProviderManager] {
    try await withCheckedThrowingContinuation { (waiting: CheckedContinuation<Handed<_>, any Error>) in
      loadAllFromPreferences { @Sendable managers, error in
        waiting.resume(with: result(Handed(managers ?? []), error))
      }
    }.value
  }

  /// What was saved cannot be started before it is loaded again.
  func save() async throws {
    try await withCheckedThrowingContinuation { waiting in
      saveToPreferences { @Sendable error in waiting.resume(with: result((), error)) }
    }
  }

  func load() async throws {
    try await withCheckedThrowingContinuation { waiting in
      loadFromPreferences { @Sendable error in waiting.resume(with: result((), error)) }
    }
  }

  func remove() async throws {
    try await withCheckedThrowingContinuation { waiting in
      removeFromPreferences { @Sendable error in waiting.resume(with: result((), error)) }
    }
  }
}

private func result<T>(_ value: T, _ error: (any Error)?) -> Result<T, any Error> {
  error.map { .failure(VPNFailure(storing: $0)) } ?? .success(value)
}

/// What the system makes and hands over: nobody else has it.
private struct Handed<Value>: @unchecked Sendable {
  let value: Value

  init(_ value: Value) {
    self.value = value
  }
}

/// What a manager is set to, to go back to when that could not be saved.
@MainActor
struct Snapshot {
  let settings: NEVPNProtocol?
  private let name: String?
  private let rules: [NEOnDemandRule]?
  private let isOnDemandEnabled: Bool
  private let isEnabled: Bool

  init(of manager: NEVPNManager) {
    settings = manager.protocolConfiguration
    name = manager.localizedDescription
    rules = manager.onDemandRules
    isOnDemandEnabled = manager.isOnDemandEnabled
    isEnabled = manager.isEnabled
  }

  func restore(_ manager: NEVPNManager) {
    manager.protocolConfiguration = settings
    manager.localizedDescription = name
    manager.onDemandRules = rules
    manager.isOnDemandEnabled = isOnDemandEnabled
    manager.isEnabled = isEnabled
  }
}

@MainActor
extension NEVPNConnection {
  /// The status of every notification, as it was then: none may be lost, for what follows from their order.
  func statuses() -> AsyncStream<NEVPNStatus> {
    let (statuses, continuation) = AsyncStream.makeStream(of: NEVPNStatus.self)
    nonisolated(unsafe) let observer = NotificationCenter.default.addObserver(
      forName: .NEVPNStatusDidChange, object: self, queue: nil
    ) { @Sendable notification in
      if let connection = notification.object as? NEVPNConnection { continuation.yield(connection.status) }
    }
    continuation.onTermination = { _ in NotificationCenter.default.removeObserver(observer) }
    return statuses
  }
}

/// Asks the system why a VPN has ended.
@available(iOS 16, macOS 13, *)
@MainActor
struct ErrorFetcher {
  let connection: NEVPNConnection

  func fetch() async throws -> (any Error)? {
    try await awaitAnswer { done in connection.fetchLastDisconnectError { @Sendable error in done(error) } }
  }
}

/// One at a time, in the order of asking.
@MainActor
final class Turn {
  private var isTaken = false
  private var waiting: [CheckedContinuation<Void, Never>] = []

  func take<T>(_ work: @MainActor () async throws -> T) async rethrows -> T {
    if isTaken { await withCheckedContinuation { waiting.append($0) } }
    isTaken = true
    defer {
      // Handed on without being given up, so that nobody comes between.
      if waiting.isEmpty { isTaken = false } else { waiting.removeFirst().resume() }
    }
    return try await work()
  }
}
