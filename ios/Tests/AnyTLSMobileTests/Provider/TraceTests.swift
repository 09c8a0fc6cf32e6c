import TestSupport
import XCTest

@testable import AnyTLSMobile

/// What a run leaves behind on purpose: its breadcrumb and its log.
final class TraceTests: XCTestCase {
  // MARK: - The breadcrumb

  func testAKilledRunIsFoundByTheNext() async throws {
    let (server, clock) = (try TestServer(), TestClock())
    let killed = TestProvider(clock: clock)
    try await killed.start(server.uri)
    try await killed.awaitState(.connected)
    try await waitUntil("that is written") {
      killed.breadcrumb.read()?.state == .connected
    }
    killed.memory.say(.available(5 << 20))
    try await waitUntil("this, too") { killed.breadcrumb.read()?.availableBytes == 5 << 20 }

    // The file as it is when the system kills the process.
    let trace = try XCTUnwrap(killed.breadcrumb.read())
    let breadcrumb = Breadcrumb.temporary()
    try FileManager.default.createDirectory(
      at: try XCTUnwrap(breadcrumb.file).deletingLastPathComponent(), withIntermediateDirectories: true)
    try FileManager.default.copyItem(
      at: try XCTUnwrap(killed.breadcrumb.file), to: try XCTUnwrap(breadcrumb.file))
    XCTAssertEqual(breadcrumb.read(), trace)
    XCTAssertEqual(trace.pressure, .critical)
    XCTAssertEqual(trace.time, clock.now)
    XCTAssertFalse(trace.endedCleanly)
    let next = TestProvider(clock: clock, breadcrumb: breadcrumb)
    let asked = try await next.ask(.lastRun)
    XCTAssertEqual(asked, .lastRun(trace), "even before a start")
    try await next.start(server.uri)
    let later = try await next.ask(.lastRun)
    XCTAssertEqual(later, .lastRun(trace))
    await next.stop()
    XCTAssertEqual(breadcrumb.read()?.reason, "stopped by the user")

    try await next.start(server.uri)
    guard case .lastRun(let clean?) = try await next.ask(.lastRun) else { return XCTFail("no last run") }
    XCTAssertTrue(clean.endedCleanly)
    await next.stop()
    await killed.stop()
    server.stop()
  }

  func testMemoryAloneIsWrittenOnceAMinute() async throws {
    let (server, clock) = (try TestServer(), TestClock())
    let phone = TestProvider(clock: clock)
    try await phone.start(server.uri)
    try await phone.awaitState(.connected)
    try await waitUntil("the state is written") { phone.breadcrumb.read()?.state == .connected }
    try await waitUntil("somebody listens") { phone.memory.streams == 1 }

    let start = clock.now
    func hear(_ mib: UInt64) async throws {
      phone.memory.say(.available(mib << 20))
      try await waitUntil("\(mib) MiB are heard of") {
        await phone.adapter.run?.memory.availableBytes == mib << 20
      }
    }
    try await hear(49)
    clock.pass(59)
    try await hear(48)
    XCTAssertNil(phone.breadcrumb.read()?.availableBytes)
    clock.pass(1)
    try await hear(47)
    XCTAssertEqual(phone.breadcrumb.read()?.availableBytes, 47 << 20)
    XCTAssertEqual(phone.breadcrumb.read()?.time, start.addingTimeInterval(60))
    try await hear(11)
    XCTAssertEqual(phone.breadcrumb.read()?.pressure, .low, "at once")
    await phone.stop()
    server.stop()
  }

  func testTheBreadcrumbNamesNobody() async throws {
    let provider = TestProvider(addresses: [])
    let config = Settings(port: try deadPort()).json
    try await provider.start(config)
    try await waitUntil("a failure is written") {
      if case .reconnecting = provider.breadcrumb.read()?.state { true } else { false }
    }
    let file = try XCTUnwrap(provider.breadcrumb.file)
    let text = try String(contentsOf: file, encoding: .utf8)
    for secret in ["127.0.0.1", TestServer.password, "certificate"] {
      XCTAssertFalse(text.contains(secret), text)
    }
    await provider.stop()
  }

  func testABreadcrumbThatCannotBeIsNone() throws {
    let breadcrumb = Breadcrumb.temporary()
    let file = try XCTUnwrap(breadcrumb.file)
    XCTAssertNil(breadcrumb.read())
    let run = LastRun(state: .connected, time: Date(), availableBytes: nil, heldBytes: 1, pressure: .low)
    breadcrumb.write(run)
    XCTAssertEqual(breadcrumb.read(), run)
    try Data("{".utf8).write(to: file)
    XCTAssertNil(breadcrumb.read())
    let nowhere = Breadcrumb(file: URL(fileURLWithPath: "/proc/nowhere/last-run.json"))
    nowhere.write(run)
    XCTAssertNil(nowhere.read())
    Breadcrumb(file: nil).write(run)
  }

  // MARK: - The log

  func testLinesAreNumberedAndKeptWithinBounds() {
    let buffer = LogBuffer(began: epoch, maxBytes: 1 << 20, maxLines: 3)
    XCTAssertEqual(numbers(buffer, after: 0), [])
    buffer.log(batch: (1...2).map(record), dropped: 0)
    XCTAssertEqual(numbers(buffer, after: 0), [1, 2])
    XCTAssertEqual(numbers(buffer, after: 1), [2])
    XCTAssertEqual(numbers(buffer, after: 2), [])
    buffer.log(batch: (3...5).map(record), dropped: 0)
    let (lines, missed) = buffer.lines(after: 1)
    XCTAssertEqual(lines.map(\.line), ["line 3", "line 4", "line 5"])
    XCTAssertEqual(lines.map(\.number), [3, 4, 5])
    XCTAssertEqual(missed, 1)
    XCTAssertEqual(buffer.lines(after: 5).missed, 0)
  }

  func testNumbersRiseFromRunToRun() throws {
    let (first, second) = (
      Date(timeIntervalSince1970: 1_700_000_000), Date(timeIntervalSince1970: 1_700_000_001)
    )
    let (before, buffer) = (LogBuffer(began: first), LogBuffer(began: second, maxLines: 3))
    before.log(batch: (1...2000).map(record), dropped: 0)
    buffer.log(batch: (1...4).map(record), dropped: 0)
    let old = try XCTUnwrap(before.lines(after: 0).lines.last)
    XCTAssertEqual(old.number, 1_700_000_000_002_000)
    XCTAssertEqual(numbers(buffer, after: 0).first, 1_700_000_001_000_002)

    for number in [0, old.number, old.number * 2] {  // the last one of a clock that was set back
      let (lines, missed) = buffer.lines(after: number)
      XCTAssertEqual(lines.map(\.line), ["line 2", "line 3", "line 4"], "\(number)")
      XCTAssertEqual(missed, 1, "\(number)")
    }
  }

  func testLinesThatTheCoreDroppedAreMissed() {
    let buffer = LogBuffer(began: epoch)
    buffer.log(batch: [record(1)], dropped: 0)
    buffer.log(batch: [record(2)], dropped: 7)
    XCTAssertEqual(numbers(buffer, after: 0), [1, 9])
    XCTAssertEqual(buffer.lines(after: 0).missed, 7)
    XCTAssertEqual(buffer.lines(after: 9).missed, 0)
  }

  func testLongLinesPushOutOthers() {
    let buffer = LogBuffer(began: epoch, maxBytes: 10_000, maxLines: 1000)
    let long = LogRecord(time: Date(), level: .info, target: "x", line: String(repeating: "y", count: 6000))
    buffer.log(batch: [record(1), long, record(2)], dropped: 0)
    XCTAssertEqual(numbers(buffer, after: 0), [1, 2, 3])
    buffer.log(batch: [long], dropped: 0)
    XCTAssertEqual(numbers(buffer, after: 0), [3, 4])
    let huge = LogRecord(time: Date(), level: .info, target: "x", line: String(repeating: "y", count: 20_000))
    buffer.log(batch: [huge], dropped: 0)
    XCTAssertEqual(numbers(buffer, after: 0), [])
    XCTAssertEqual(buffer.lines(after: 0).missed, 5)
  }

  private let epoch = Date(timeIntervalSince1970: 0)

  private func record(_ number: Int) -> LogRecord {
    LogRecord(time: Date(), level: .info, target: "anytls_mobile", line: "line \(number)")
  }

  private func numbers(_ buffer: LogBuffer, after number: UInt64) -> [UInt64] {
    buffer.lines(after: number).lines.map(\.number)
  }
}
