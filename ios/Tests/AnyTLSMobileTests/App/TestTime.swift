import Foundation
import XCTest

@testable import AnyTLSMobile

/// A time that stands still until a test ends a pause.
struct TestTime: Sendable {
  struct Waiting: Sendable {
    let seconds: TimeInterval
    let end: @Sendable () -> Void
  }

  /// The pauses as they begin.
  let waiting: AsyncStream<Waiting>
  private let continuation: AsyncStream<Waiting>.Continuation

  init() {
    (waiting, continuation) = AsyncStream.makeStream(of: Waiting.self)
  }

  var pause: Pause {
    { [continuation] seconds in
      let _: Bool = try await awaitAnswer { done in
        continuation.yield(Waiting(seconds: seconds) { done(true) })
      }
    }
  }
}

/// What several tasks write down.
actor Notes<Note: Sendable> {
  private(set) var all: [Note] = []

  var count: Int { all.count }

  func add(_ note: Note) { all.append(note) }
}

struct Late: Error {
  let what: String
}

/// Waits for what other tasks bring about, and no longer than a broken test may take.
@MainActor
func until(_ what: String, _ condition: @MainActor () async throws -> Bool) async throws {
  let deadline = Date(timeIntervalSinceNow: 60)
  while try await !condition() {
    if Date() > deadline { throw Late(what: what) }
    await Task.yield()
  }
}

/// The error that `work` throws.
func failure(
  line: UInt = #line, isolation: isolated (any Actor)? = #isolation, _ work: () async throws -> Void
) async -> VPNFailure? {
  do {
    try await work()
    XCTFail("nothing is thrown", line: line)
  } catch let failure as VPNFailure {
    return failure
  } catch {
    XCTFail("\(error)", line: line)
  }
  return nil
}
