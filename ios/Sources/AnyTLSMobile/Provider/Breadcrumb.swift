import AnyTLSCore
import Foundation

/// The file in which a run leaves how it is doing, for the next one to find: iOS kills an extension that takes too much
/// memory, and says nothing.
struct Breadcrumb: Sendable {
  /// Nil: nowhere to write.
  let file: URL?

  /// In the extension's own caches, which the app cannot see and a backup leaves out.
  static var system: Breadcrumb {
    let folder = FileManager.default.urls(for: .cachesDirectory, in: .userDomainMask).first
    return Breadcrumb(file: folder?.appendingPathComponent("io.anytls.mobile.last-run.json"))
  }

  /// Nil when there was no run, or its file cannot be read.
  func read() -> LastRun? {
    guard let file, let data = try? Data(contentsOf: file) else { return nil }
    return try? JSONDecoder().decode(LastRun.self, from: data)
  }

  /// A file that cannot be written is none: a VPN is worth more than its diary.
  func write(_ run: LastRun) {
    var run = run
    run.state = run.state.withoutDetail
    guard let file, let data = try? JSONEncoder().encode(run) else { return }
    try? FileManager.default.createDirectory(
      at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
    // No protection: a VPN may start on demand before the phone was unlocked.
    try? data.write(to: file, options: Self.writing)
  }

  #if os(Linux)
    private static let writing: Data.WritingOptions = [.atomic]
  #else
    private static let writing: Data.WritingOptions = [.atomic, .noFileProtection]
  #endif
}

extension LastRun {
  /// For the log, of a run that was killed.
  var obituary: String {
    let available = availableBytes.map { "\($0)" } ?? "unknown"
    return "the run before this one was killed after \(time): memory pressure \(pressure), "
      + "\(heldBytes) bytes held, \(available) available"
  }
}

extension TunnelState {
  /// The same without what may name the server.
  fileprivate var withoutDetail: TunnelState {
    switch self {
    case .degraded(let failure): .degraded(failure: failure.withoutDetail)
    case .reconnecting(let attempt, let retryIn, let failure):
      .reconnecting(attempt: attempt, retryIn: retryIn, failure: failure.withoutDetail)
    case .failed(let failure, let isTrafficBlocked):
      .failed(failure: failure.withoutDetail, isTrafficBlocked: isTrafficBlocked)
    case .stopped, .starting, .connecting, .connected, .waitingForNetwork, .paused, .stopping: self
    }
  }
}

extension Failure {
  fileprivate var withoutDetail: Failure {
    Failure(code: code, isRetryable: isRetryable, userMessage: userMessage, detail: "")
  }
}
