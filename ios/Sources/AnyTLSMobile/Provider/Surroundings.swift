import Foundation

/// What the adapter asks of the machine it runs on: the system, or a test.
struct Surroundings: Sendable {
  /// The networks' names, nil for none; see `PathMonitor`.
  var paths: @Sendable () -> AsyncStream<String?> = PathMonitor.names
  var memory: @Sendable () -> MemorySource = MemorySource.system
  /// The server's addresses; see `ServerAddresses`.
  var addresses: @Sendable (_ host: String) async throws -> [String] = ServerAddresses.of
  var breadcrumb = Breadcrumb.system
  var now: @Sendable () -> Date = { Date() }
}
