import AnyTLSCore
import Foundation
import TestSupport
import XCTest

/// Calls whose tasks are cancelled, that meet each other, and that come again and again.
final class TaskTests: XCTestCase {
  func testAStopCallsOffAStartThatIsUnderWay() async throws {
    try await whileStarting { tunnel, tun, start, goOn in
      await tunnel.stop()
      goOn()
      await self.assertResult("cancelled", start)
      XCTAssertEqual(tunnel.state(), .stopped)
      try await waitUntil("the TUN is let go") { !tun.isHeld }
    }
  }

  func testASecondStartIsRefusedWhileTheFirstIsUnderWay() async throws {
    try await whileStarting { tunnel, _, start, goOn in
      let second = try TestTun()
      await assertFails("already_started", isRetryable: false) {
        try await tunnel.start(config: Settings(port: 443).json, tun: second.fd)
      }
      try await waitUntil("the TUN is let go") { !second.isHeld }
      goOn()
      try await start.value
    }
  }

  func testCancellingATaskCancelsNoStart() async throws {
    try await whileStarting { tunnel, tun, start, goOn in
      start.cancel()
      goOn()
      try await start.value
      XCTAssertTrue(tun.isHeld)
      XCTAssertNotEqual(tunnel.state(), .stopped)
    }
  }

  func testStartsAndStopsAtOnceEndWithTheTunnelOffAndNoTUNHeld() async throws {
    let server = try TestServer()
    let tunnel = Tunnel(platform: nil)
    let tuns = try (0..<32).map { _ in try TestTun() }
    await withTaskGroup(of: Void.self) { group in
      for tun in tuns {
        group.addTask {
          // Refused or called off by another's stop.
          try? await tunnel.start(config: server.uri, tun: tun.fd)
          await tunnel.stop()
        }
      }
    }
    XCTAssertEqual(tunnel.state(), .stopped)
    try await waitUntil("every TUN is let go") { !tuns.contains { $0.isHeld } }
  }

  func testAStartWaitsForTheStopBeforeIt() async throws {
    let server = try TestServer()
    let tunnel = Tunnel(platform: nil)
    for _ in 0..<20 {
      let (first, second) = try (TestTun(), TestTun())
      try await tunnel.start(config: server.uri, tun: first.fd)
      async let stop: Void = tunnel.stop()
      try await waitUntil("the stop has begun") { [.stopping, .stopped].contains(tunnel.state()) }
      try await tunnel.start(config: server.uri, tun: second.fd)
      await stop
      XCTAssertFalse(first.isHeld)
      XCTAssertTrue(second.isHeld)
      await tunnel.stop()
    }
  }

  func testAMeasurementGoesOnWhenItsTaskIsCancelledAndEndsWithTheTunnel() async throws {
    let silent = try SilentPort()
    try await withTunnel {
      $0.port = silent.port
      $0.server = #""ensure_idle_session": 0"#
    } body: { rig in
      let tunnel = rig.tunnel
      let measurement = Task { _ = try await tunnel.testLatency(destination: "127.0.0.1:80") }
      let connection = try await eventually("it has connected") { silent.connection() }
      measurement.cancel()
      await tunnel.stop()
      await assertResult("not_started", measurement)
      try await connection.awaitEnd()
    }
  }

  func testCallsOfManyThreadsAtOnceAreAllAnswered() async throws {
    let destination = "127.0.0.1:\(try deadPort())"
    try await withTunnel { rig in
      try await rig.ears.state(.connected)
      let tasks: UInt64 = 16
      let rounds: UInt64 = 20
      try await withThrowingTaskGroup(of: Void.self) { group in
        for _ in 0..<tasks {
          group.addTask {
            for round in 0..<rounds { try await callEverything(rig, round, destination) }
          }
        }
        try await group.waitForAll()
      }
      try await waitUntil("every stream has ended") { rig.tunnel.connections().isEmpty }
      XCTAssertEqual(rig.tunnel.stats().traffic.totalConnections, tasks * rounds)
      try await rig.tunnel.reload(config: rig.server.config())
    }
  }

  func testAHundredStartsAndStopsLeaveNoDescriptorsAndNoThreads() async throws {
    let server = try TestServer()
    let tunnel = Tunnel(platform: nil)
    try await assertNoGrowth {
      let (tun, ears) = try (TestTun(), Ears())
      let id = try tunnel.subscribe(listener: ears, statsInterval: nil)
      try await tunnel.start(config: server.uri, tun: tun.fd)
      try await ears.state(.connecting)
      await tunnel.stop()
      tunnel.unsubscribe(id: id)
      XCTAssertFalse(tun.isHeld)
    }
  }

  func testObjectsAndFailedStartsLeaveNoDescriptorsAndNoThreads() async throws {
    try await assertNoGrowth {
      let (tunnel, tun) = try (Tunnel(platform: AppPlatform()), TestTun())
      _ = try tunnel.subscribe(listener: Ears(), statsInterval: nil)
      await assertFails("config", isRetryable: false) { try await tunnel.start(config: "{}", tun: tun.fd) }
      XCTAssertFalse(tun.isHeld)
    }
  }

  func testTheLastReferenceTurnsTheTunnelOff() async throws {
    let server = try TestServer()
    let tun = try TestTun()
    var tunnel: Tunnel? = Tunnel(platform: nil)
    try await tunnel?.start(config: server.uri, tun: tun.fd)
    XCTAssertTrue(tun.isHeld)
    tunnel = nil
    try await waitUntil("the TUN is let go") { !tun.isHeld }
  }

  /// A leak would be one a cycle.
  private func assertNoGrowth(_ cycle: () async throws -> Void) async throws {
    for _ in 0..<10 { try await cycle() }
    let (files, tasks) = (openDescriptors().count, threads().count)
    for _ in 0..<100 { try await cycle() }
    try await waitUntil("descriptors and threads are as few as before") {
      openDescriptors().count < files + 25 && threads().count < tasks + 25
    }
  }

  /// Hands over a start that goes no further until told: its certificate comes out of a pipe.
  private func whileStarting(
    _ body: (Tunnel, TestTun, Task<Void, any Error>, _ goOn: @Sendable () -> Void) async throws -> Void
  ) async throws {
    let pipe = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString).path
    XCTAssertEqual(mkfifo(pipe, 0o600), 0)
    defer { try? FileManager.default.removeItem(atPath: pipe) }
    let certificate = try anyCertificate()
    var settings = Settings(port: try deadPort())
    settings.tls = #""certificate_path": "\#(pipe)""#
    let config = settings.json
    let (tunnel, tun) = try (Tunnel(platform: nil), TestTun())
    let start = Task { try await tunnel.start(config: config, tun: tun.fd) }
    try await waitUntil("it is starting") { tunnel.state() == .starting }
    try await body(tunnel, tun, start) {
      Thread.detachNewThread {
        guard let file = FileHandle(forWritingAtPath: pipe) else { return }
        file.write(certificate)
        file.closeFile()
      }
    }
    await tunnel.stop()
  }

  private func assertResult(_ code: String, _ start: Task<Void, any Error>) async {
    await assertFails(code, isRetryable: false) { try await start.value }
  }

  /// The first that this machine trusts.
  private func anyCertificate() throws -> Data {
    let paths = ["/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem"]
    guard let text = paths.lazy.compactMap({ try? String(contentsOfFile: $0, encoding: .utf8) }).first,
      let begin = text.range(of: "-----BEGIN CERTIFICATE-----"),
      let end = text.range(of: "-----END CERTIFICATE-----")
    else { throw XCTSkip("SKIP: no certificates on this machine") }
    return Data("\(text[begin.lowerBound..<end.upperBound])\n".utf8)
  }
}

private func callEverything(_ rig: Rig, _ round: UInt64, _ destination: String) async throws {
  let tunnel = rig.tunnel
  _ = (tunnel.state(), tunnel.stats(), tunnel.sessions(), tunnel.connections())
  _ = tunnel.closeConnection(id: round)
  tunnel.memoryPressure(pressure: round % 2 == 0 ? .normal : .low)
  tunnel.unsubscribe(id: try tunnel.subscribe(listener: Ears(), statsInterval: nil))
  let socket = try StreamPair()
  _ = try tunnel.connectStream(socket: socket.fd, destination: destination)
  if round % 5 == 0 { try await tunnel.reload(config: rig.server.config()) }
}
