import Foundation
import XCTest

@testable import AnyTLSMobile

final class TunnelClientTests: XCTestCase {
  private let time = TestTime()

  // MARK: Messages and replies

  func testEachFunctionHasItsMessage() async throws {
    let asked = Notes<AppMessage>()
    let config = VPNConfig(text: "{}")
    let line = LogLine(number: 9, time: Date(), level: .info, target: "pool", line: "idle")
    let client = client { message in
      await asked.add(message)
      return switch message {
      case .state: .state(.paused)
      case .stats: .stats(.sample(up: 3))
      case .sessions: .sessions([])
      case .connections: .connections([])
      case .closeConnection(let id): .closed(id == 4)
      case .reload, .setLogLevel: .done
      case .testLatency: .latency(LatencyReport(tcp: 1, tls: 2, firstStream: 3, warmStream: 4))
      case .logs: .logs([line], missed: 8)
      case .lastRun: .lastRun(nil)
      }
    }
    let state = try await client.state()
    XCTAssertEqual(state, .paused)
    let stats = try await client.stats()
    XCTAssertEqual(stats, .sample(up: 3))
    let sessions = try await client.sessions()
    XCTAssertEqual(sessions, [])
    let connections = try await client.connections()
    XCTAssertEqual(connections, [])
    let (hit, miss) = (try await client.closeConnection(id: 4), try await client.closeConnection(id: 5))
    XCTAssertTrue(hit)
    XCTAssertFalse(miss)
    try await client.reload(config)
    try await client.setLogLevel(.trace)
    let latency = try await client.testLatency(destination: "a.example:1")
    XCTAssertEqual(latency.warmStream, 4)
    let page = try await client.logs(after: 8)
    XCTAssertEqual(page.lines, [line])
    XCTAssertEqual(page.missed, 8)
    let run = try await client.lastRun()
    XCTAssertNil(run)
    let messages = await asked.all
    XCTAssertEqual(
      messages,
      [
        .state, .stats, .sessions, .connections, .closeConnection(id: 4), .closeConnection(id: 5),
        .reload(config), .setLogLevel(.trace), .testLatency(destination: "a.example:1"), .logs(after: 8),
        .lastRun,
      ])
  }

  func testAFailureOfTheExtensionIsThrown() async {
    let client = client { _ in .failure(.noDescriptor) }
    let thrown = await failure { _ = try await client.stats() }
    XCTAssertEqual(thrown, .noDescriptor)
  }

  func testTheReplyToAnotherMessageIsNoAnswer() async {
    let client = client { _ in .closed(true) }
    let calls: [@Sendable () async throws -> Void] = [
      { _ = try await client.state() }, { _ = try await client.stats() }, { _ = try await client.sessions() },
      { _ = try await client.connections() }, { try await client.reload(VPNConfig(text: "")) },
      { try await client.setLogLevel(.off) }, { _ = try await client.testLatency() },
      { _ = try await client.logs() }, { _ = try await client.lastRun() },
    ]
    for call in calls {
      let thrown = await failure { try await call() }
      XCTAssertEqual(thrown?.code, "no_answer")
    }
    let other = self.client { _ in .done }
    let thrown = await failure { try await other.closeConnection(id: 1) }
    XCTAssertEqual(thrown?.code, "no_answer")
  }

  func testNothingAndGarbageAreNoAnswer() async {
    for reply in [nil, Data(), Data("hunter2".utf8), Data(#"{"state":{"_0":{"asleep":{}}}}"#.utf8)] {
      let client = TunnelClient(transport: { _ in reply }, pause: time.pause)
      let thrown = await failure { _ = try await client.state() }
      XCTAssertEqual(thrown?.code, "no_answer")
      XCTAssertFalse("\(thrown as Any)".contains("hunter2"))
    }
  }

  func testATransportThatThrowsIsNoAnswer() async {
    struct Down: Error {}
    let client = TunnelClient(transport: { _ in throw Down() }, pause: time.pause)
    let thrown = await failure { _ = try await client.state() }
    XCTAssertEqual(thrown?.code, "no_answer")
  }

  // MARK: Silence

  func testWaitingEndsAtTheDeadline() async throws {
    let client = TunnelClient(transport: { _ in await Self.silence() }, pause: time.pause)
    let failures = Notes<VPNFailure?>()
    Task { await failures.add(await failure { _ = try await client.state() }) }
    Task { await failures.add(await failure { _ = try await client.testLatency() }) }
    var seconds: [TimeInterval] = []
    for await waiting in time.waiting {
      seconds.append(waiting.seconds)
      waiting.end()
      if seconds.count == 2 { break }
    }
    XCTAssertEqual(seconds.sorted(), [10, 60])
    try await until("both have given up") { await failures.count == 2 }
    let all = await failures.all
    XCTAssertEqual(Set(all), [.noAnswer("none within 10 seconds"), .noAnswer("none within 60 seconds")])
  }

  func testCancellingEndsTheWaiting() async throws {
    let sent = Notes<Bool>()
    let client = TunnelClient(
      transport: { _ in
        await sent.add(true)
        return await Self.silence()
      }, pause: time.pause)
    let asking = Task { try await client.state() }
    try await until("it is sent") { await sent.count == 1 }
    asking.cancel()
    let result = await asking.result
    XCTAssertThrowsError(try result.get()) { XCTAssertTrue($0 is CancellationError, "\($0)") }
  }

  func testTheFirstOfTwoAnswersCounts() async throws {
    let answer: Int = try await awaitAnswer { done in
      done(1)
      done(2)
    }
    XCTAssertEqual(answer, 1)
  }

  func testAnAnswerAfterTheDeadlineIsDropped() async throws {
    let (gate, opener) = AsyncStream.makeStream(of: Void.self)
    let answered = Notes<Bool>()
    let client = TunnelClient(
      transport: { _ in
        await Task.detached { for await _ in gate { break } }.value  // does not heed its cancellation
        await answered.add(true)
        return try AppReply.state(.connected).data()
      }, pause: time.pause)
    let asking = Task { await failure { _ = try await client.state() } }
    for await waiting in time.waiting {
      waiting.end()
      break
    }
    let thrown = await asking.value
    XCTAssertEqual(thrown, .noAnswer("none within 10 seconds"))
    opener.yield()
    try await until("the answer comes") { await answered.count == 1 }
  }

  // MARK: Streams

  func testStatsAreAskedForAsOftenAsWished() async throws {
    let asked = Notes<AppMessage>()
    let paused = Notes<TimeInterval>()
    let untilCancelled = time.pause
    let pause: Pause = { seconds in
      if seconds == 10 { try await untilCancelled(seconds) } else { await paused.add(seconds) }
    }
    let client = client(pause: pause) { message in
      await asked.add(message)
      return .stats(.sample(up: UInt64(await asked.count)))
    }
    var stats = client.stats(every: 7).makeAsyncIterator()
    let first = await stats.next()
    XCTAssertEqual(first?.traffic.upBytes, 1)
    for _ in 0..<100 { await Task.yield() }
    let count = await asked.count
    XCTAssertEqual(count, 1, "nobody asks while nobody waits")
    let none = await paused.all
    XCTAssertEqual(none, [], "the first comes at once")
    let second = await stats.next()
    XCTAssertEqual(second?.traffic.upBytes, 2)
    let seconds = await paused.all
    XCTAssertEqual(seconds, [7])
  }

  func testAStreamOutlivesATunnelThatIsDown() async throws {
    let asked = Notes<Bool>()
    let client = TunnelClient(
      transport: { _ in
        await asked.add(true)
        return await asked.count < 4 ? nil : try AppReply.stats(.sample(up: 1)).data()
      }, pause: immediately)
    var stats = client.stats().makeAsyncIterator()
    let first = await stats.next()
    XCTAssertEqual(first, .sample(up: 1))
  }

  func testAStreamEndsWithItsTask() async throws {
    let asked = Notes<Bool>()
    let client = TunnelClient(
      transport: { _ in
        await asked.add(true)
        return nil
      }, pause: immediately)
    let reading = Task { for await _ in client.stats() {} }
    try await until("it is asked") { await asked.count > 2 }
    reading.cancel()
    await reading.value
    let count = await asked.count
    for _ in 0..<100 { await Task.yield() }
    let later = await asked.count
    XCTAssertEqual(later, count)
  }

  func testStatesComeWhenTheyChange() async throws {
    let answers: [TunnelState] = [.connecting, .connecting, .connected, .connected, .paused]
    let asked = Notes<Bool>()
    let client = TunnelClient(
      transport: { _ in
        await asked.add(true)
        return try AppReply.state(answers[min(await asked.count, answers.count) - 1]).data()
      }, pause: immediately)
    var states: [TunnelState] = []
    for await state in client.states() {
      states.append(state)
      if states.count == 3 { break }
    }
    XCTAssertEqual(states, [.connecting, .connected, .paused])
  }

  func testLogsGoOnWhereTheyWere() async throws {
    let asked = Notes<UInt64>()
    let client = client(pause: immediately) { message in
      guard case .logs(let number) = message else { return .done }
      await asked.add(number)
      func line(_ number: UInt64) -> LogLine {
        LogLine(number: number, time: Date(), level: .info, target: "t", line: "\(number)")
      }
      return switch await asked.count {
      case 1: .logs([line(5), line(6)], missed: 4)
      case 2: .logs([], missed: 0)
      case 3: .logs([line(7)], missed: 0)
      default: .logs([line(1)], missed: 0)  // another run
      }
    }
    var numbers: [UInt64] = []
    for await page in client.logs() {
      numbers += page.lines.map(\.number)
      if numbers.count == 5 { break }
    }
    XCTAssertEqual(numbers, [5, 6, 7, 1, 1])
    let after = await asked.all
    XCTAssertEqual(after, [0, 6, 6, 7, 1])
  }

  // MARK: Helpers

  /// Between two questions no time passes, and the deadline of 10 seconds never comes.
  private var immediately: Pause {
    let untilCancelled = time.pause
    return { seconds in
      if seconds == 10 { try await untilCancelled(seconds) } else { await Task.yield() }
      try Task.checkCancellation()
    }
  }

  private func client(
    pause: Pause? = nil, _ answer: @escaping @Sendable (AppMessage) async -> AppReply
  ) -> TunnelClient {
    TunnelClient(transport: { try await answer(AppMessage(data: $0)).data() }, pause: pause ?? time.pause)
  }

  private nonisolated static func silence() async -> Data? {
    try? await awaitAnswer { (_: @escaping @Sendable (Data?) -> Void) in }
  }
}
