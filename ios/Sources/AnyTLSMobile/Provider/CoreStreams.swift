import AnyTLSCore
import Foundation

extension Tunnel {
  /// The core's state, first as it is. A slow reader misses states in between, never the last one. The subscription
  /// ends with the stream.
  func states() -> AsyncStream<TunnelState> {
    events(every: nil) { event in
      guard case .state(let state) = event else { return nil }
      return state
    }
  }

  /// The core's counters, while it runs and the phone is interactive.
  func stats(every interval: TimeInterval) -> AsyncStream<TunnelStats> {
    // The bindings end the process over a negative one.
    events(every: max(interval, 0)) { event in
      guard case .stats(let stats) = event else { return nil }
      return stats
    }
  }

  /// Runs `start`, and stops the core when the task is cancelled meanwhile: a foreign future does not hear of it.
  /// When this returns or throws, no stop is under way any more that could meet a later start.
  func cancellably(_ start: () async throws -> Void) async throws {
    let stopper = Stopper(self)
    let result: Result<Void, any Error>
    do {
      try await withTaskCancellationHandler(operation: start) { stopper.begin() }
      result = .success(())
    } catch {
      result = .failure(error)
    }
    await stopper.finish()
    if Task.isCancelled {
      await stop()  // it came before the start had begun, or after
      throw CancellationError()
    }
    do {
      try result.get()
    } catch TunnelError.Cancelled {
      throw CancellationError()
    }
  }

  /// What `pick` finds in the core's events, until the stream ends.
  func events<T: Sendable>(
    every interval: TimeInterval?, _ pick: @escaping @Sendable (Event) -> T?
  ) -> AsyncStream<T> {
    AsyncStream(bufferingPolicy: .bufferingNewest(1)) { continuation in
      let listener = Listener { event in
        if let value = pick(event) { continuation.yield(value) }
      }
      guard let id = try? subscribe(listener: listener, statsInterval: interval) else {
        continuation.finish()  // the system has no thread left
        return
      }
      continuation.onTermination = { [weak self] _ in self?.unsubscribe(id: id) }
    }
  }
}

private final class Listener: EventListener {
  private let hear: @Sendable (Event) -> Void

  init(_ hear: @escaping @Sendable (Event) -> Void) {
    self.hear = hear
  }

  func onEvent(event: Event) { hear(event) }
}

/// Begins a stop from where nobody can wait, and waits for it later.
private final class Stopper: @unchecked Sendable {
  private let core: Tunnel
  private let lock = NSLock()
  private var task: Task<Void, Never>?  // under the lock

  init(_ core: Tunnel) {
    self.core = core
  }

  func begin() {
    lock.withLock { task = Task { [core] in await core.stop() } }
  }

  func finish() async {
    await lock.withLock { task }?.value
  }
}
