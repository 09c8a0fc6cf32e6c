import Foundation

/// Lets time pass; tests let it pass at once.
public typealias Pause = @Sendable (TimeInterval) async throws -> Void

/// The real time. Throws when the task is cancelled.
@Sendable func pauseForReal(seconds: TimeInterval) async throws {
  try await Task.sleep(nanoseconds: UInt64(max(0, seconds) * 1e9))
}

/// Waits for what need not end, nor heed its cancellation. Nil: not within `seconds`. The work is cancelled then, as it
/// is with the task, and goes on alone when it does not care.
func within<T: Sendable>(
  _ seconds: TimeInterval, pause: @escaping Pause = pauseForReal(seconds:),
  _ work: @escaping @Sendable () async throws -> T
) async throws -> T? {
  let (results, continuation) = AsyncStream.makeStream(
    of: Result<T, any Error>?.self, bufferingPolicy: .bufferingOldest(1))
  let working = Task {
    do {
      continuation.yield(.success(try await work()))
    } catch {
      continuation.yield(.failure(error))
    }
  }
  let alarm = Task {
    try await pause(seconds)
    continuation.yield(nil)
  }
  defer {
    working.cancel()
    alarm.cancel()
  }
  for await result in results { return try result?.get() }
  throw CancellationError()
}
