import AnyTLSCore
import Foundation
import TestSupport
import XCTest

/// The log, as an app gets it. The process has one.
final class LogTests: XCTestCase {
  /// A name that the server finds and that stands nowhere else.
  private let destination = "localhost"

  override func tearDownWithError() throws {
    try setLogger(options: LogOptions(level: .off, toSystem: false), sink: nil)
  }

  func testLinesComeInOrderAndNameNobody() async throws {
    let lines = Lines()
    try setLogger(options: LogOptions(level: .trace, toSystem: false), sink: lines)
    let port = try await useTunnel()
    let records = try await lines.untilEnd()
    XCTAssertTrue(records.allSatisfy { $0.level != .off && $0.target.hasPrefix("anytls_mobile") })
    XCTAssertTrue(zip(records, records.dropFirst()).allSatisfy { $0.time <= $1.time })
    let text = records.map(\.line).joined(separator: "\n")
    XCTAssertFalse(text.contains(destination))
    XCTAssertFalse(text.contains("127.0.0.1:\(port)"))
    assertNoSecret(text)
  }

  func testLinesNameDestinationsWhenTheyAreAskedToAndNeverThePassword() async throws {
    let lines = Lines()
    let options = LogOptions(level: .debug, toSystem: false, showsDestinations: true)
    try setLogger(options: options, sink: lines)
    try await useTunnel()
    let records = try await lines.untilEnd()
    let text = records.map(\.line).joined(separator: "\n")
    XCTAssertTrue(text.contains(destination), text)
    XCTAssertFalse(records.contains { $0.level == .trace })
    assertNoSecret(text)
  }

  func testTheLevelChangesWhileTheLogRuns() async throws {
    let lines = Lines()
    try setLogger(options: LogOptions(level: .debug, toSystem: false), sink: lines)
    setLogLevel(level: .off)
    try await useTunnel()
    setLogLevel(level: .debug)
    try await useTunnel()
    _ = try await lines.untilEnd()
    XCTAssertEqual(lines.ends, 1)
  }

  func testASinkThatThrowsGetsTheNextBatchAllTheSame() async throws {
    let lines = Lines(throwing: true)
    try setLogger(options: LogOptions(level: .debug, toSystem: false), sink: lines)
    for _ in 0..<2 {
      try await useTunnel()
      _ = try await lines.untilEnd()
    }
  }

  func testASinkThatHangsLosesLinesAndIsToldHowMany() async throws {
    let sink = HangingSink()
    defer { sink.goOn() }
    try setLogger(options: LogOptions(level: .trace, toSystem: false), sink: sink)
    try await useTunnel()
    let first = try await sink.dropped.take("a batch")
    XCTAssertEqual(first, 0)
    for _ in 0..<60 { try await useTunnel() }
    sink.goOn()
    try await sink.dropped.take("a batch after lost lines") { $0 > 0 ? () : nil }
  }

  func testWithoutASinkNobodyIsCalledAnyMore() async throws {
    let (first, second) = (Lines(), Lines())
    try setLogger(options: LogOptions(level: .debug, toSystem: false), sink: first)
    try await useTunnel()
    _ = try await first.untilEnd()
    try setLogger(options: LogOptions(level: .debug, toSystem: false), sink: nil)
    let count = first.records.all.count
    try await useTunnel()
    try setLogger(options: LogOptions(level: .debug, toSystem: false), sink: second)
    try await useTunnel()
    _ = try await second.untilEnd()
    XCTAssertEqual(second.ends, 1)
    XCTAssertEqual(first.records.all.count, count)
  }

  /// Moves a few bytes through a tunnel of its own; the server's port.
  @discardableResult
  private func useTunnel() async throws -> UInt16 {
    let echo = try EchoTarget()
    defer { echo.stop() }
    var port: UInt16 = 0
    try await withTunnel { rig in
      port = rig.server.port
      let socket = try StreamPair()
      let to = "\(destination):\(echo.port)"
      let id = try rig.tunnel.connectStream(socket: socket.fd, destination: to)
      try socket.write(Data([1, 2, 3]))
      let back = try await socket.read(3)
      XCTAssertEqual(back.count, 3)
      XCTAssertTrue(rig.tunnel.closeConnection(id: id))
      try await waitUntil("the end") { rig.tunnel.stats().traffic.closedConnections == 1 }
    }
    return port
  }
}

private final class Lines: LogSink {
  let records = Collector<LogRecord>()
  private let isThrowing: Bool

  init(throwing: Bool = false) { isThrowing = throwing }

  func log(batch: [LogRecord], dropped: UInt64) throws {
    records.add(batch)
    if isThrowing { throw OnPurpose() }
  }

  /// The lines until a connection's end.
  func untilEnd() async throws -> [LogRecord] {
    try await records.take("a line of the end") { $0.line.contains("flow ended") ? () : nil }
    return records.all
  }

  var ends: Int { records.all.filter { $0.line.contains("flow ended") }.count }
}

/// Does not return before it may; then it says how many lines it has lost.
private final class HangingSink: LogSink, @unchecked Sendable {
  /// What each batch says of lines before it.
  let dropped = Collector<UInt64>()
  private let condition = NSCondition()
  private var mayGoOn = false

  func log(batch: [LogRecord], dropped: UInt64) throws {
    self.dropped.add(dropped)
    condition.lock()
    while !mayGoOn { condition.wait() }
    condition.unlock()
  }

  func goOn() {
    condition.lock()
    mayGoOn = true
    condition.broadcast()
    condition.unlock()
  }
}
