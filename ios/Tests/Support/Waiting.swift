import Foundation

/// Longer than any machine needs: only a hang reaches it.
public let patience: TimeInterval = 60

/// Nothing came of what a test waited for.
public struct WaitedInVain: Error, CustomStringConvertible {
  public let description: String

  public init(_ what: String) {
    description = "not within \(Int(patience)) s: \(what)"
  }
}

/// What `look` finds, looking until it is not nil. Runs where its caller does.
public func eventually<T: Sendable>(
  _ what: @autoclosure () -> String,
  isolation: isolated (any Actor)? = #isolation,
  _ look: () async throws -> T?
) async throws -> T {
  let deadline = ProcessInfo.processInfo.systemUptime + patience
  while true {
    if let found = try await look() { return found }
    guard ProcessInfo.processInfo.systemUptime < deadline else { throw WaitedInVain(what()) }
    try await Task.sleep(nanoseconds: glance)
  }
}

/// Waits for a condition.
public func waitUntil(
  _ what: @autoclosure () -> String,
  isolation: isolated (any Actor)? = #isolation,
  _ isTrue: () async throws -> Bool
) async throws {
  let _: Void = try await eventually(what()) { try await isTrue() ? () : nil }
}

private let glance: UInt64 = 2_000_000
