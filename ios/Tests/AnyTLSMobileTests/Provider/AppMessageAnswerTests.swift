import NetworkExtension
import TestSupport
import XCTest

@testable import AnyTLSMobile

/// What the extension answers to the app.
final class AppMessageAnswerTests: XCTestCase {
  func testEveryMessageIsAnsweredWithoutATunnel() async throws {
    let provider = TestProvider()
    let notStarted = AppReply.failure(.core(TunnelError.NotStarted.failure()))
    let replies: [(AppMessage, AppReply)] = [
      (.state, .state(.stopped)), (.sessions, .sessions([])), (.connections, .connections([])),
      (.closeConnection(id: 1), .closed(false)), (.setLogLevel(.info), .done), (.lastRun, .lastRun(nil)),
      (.logs(after: 0), .logs([], missed: 0)), (.reload(VPNConfig(text: "anytls://x@192.0.2.1")), notStarted),
      (.testLatency(destination: "192.0.2.1:80"), notStarted),
    ]
    for (message, expected) in replies {
      let reply = try await provider.ask(message)
      XCTAssertEqual(reply, expected, "\(message)")
    }
    guard case .stats = try await provider.ask(.stats) else { return XCTFail("no stats") }
  }

  func testGarbageIsAnswered() async throws {
    let provider = TestProvider()
    for text in ["", "{", "[]", #"{"unheardOf":{}}"#, "\u{0}\u{0}", #"{"reload":{"_0":{"text":7}}}"#] {
      let answer = await provider.handleAppMessage(Data(text.utf8))
      guard case .failure(let failure) = try AppReply(data: try XCTUnwrap(answer)) else {
        return XCTFail("\(text) was understood")
      }
      XCTAssertEqual(failure.code, "no_answer")
    }
  }

  func testARunningTunnelIsSeenAndMeasured() async throws {
    let (server, target, provider) = (try TestServer(), try EchoTarget(), TestProvider())
    try await provider.start(server.config { $0.log = #""level": "debug""# })
    try await provider.awaitState(.connected)
    let state = try await provider.ask(.state)
    XCTAssertEqual(state, .state(.connected))
    guard case .sessions(let sessions) = try await provider.ask(.sessions) else {
      return XCTFail("no sessions")
    }
    XCTAssertFalse(sessions.isEmpty)
    let latency = try await provider.ask(.testLatency(destination: "127.0.0.1:\(target.port)"))
    guard case .latency = latency else { return XCTFail("\(latency)") }
    let nowhere = try await provider.ask(.testLatency(destination: "nowhere"))
    guard case .failure(let failure) = nowhere else { return XCTFail("\(nowhere)") }
    XCTAssertEqual(failure.code, "core.destination")

    let lines = try await eventually("lines of the log") { () -> [LogLine]? in
      guard case .logs(let lines, let missed) = try await provider.ask(.logs(after: 0)), missed == 0 else {
        return nil
      }
      return lines.isEmpty ? nil : lines
    }
    XCTAssertEqual(lines.first?.number, 1_700_000_000_000_001, "one after the time of the start")
    XCTAssertFalse(lines.contains { $0.line.contains(TestServer.password) })
    target.stop()
    await provider.stop()
    server.stop()
  }

  // MARK: - Reload

  func testAReloadKeepsTheInterface() async throws {
    let (first, second, provider) = (
      try TestServer(), try TestServer(), TestProvider(addresses: ["192.0.2.7"])
    )
    try await provider.start(first.uri)
    try await provider.awaitState(.connected)
    first.stop()
    let reply = try await provider.ask(.reload(VPNConfig(text: second.uri)))
    XCTAssertEqual(reply, .done)
    try await provider.awaitState(.connected)
    XCTAssertEqual(provider.tuns.count, 1)
    XCTAssertEqual(provider.settings.all.count, 1, "the same host needs no other routes")
    try await provider.apps(.descriptor).ping()

    var options = VPNOptions()
    options.excludesServer = false
    let routes = try await provider.ask(.reload(VPNConfig(text: second.uri, options: options)))
    XCTAssertEqual(routes, .done)
    XCTAssertEqual(provider.settings.all.map(\.excluded), [["192.0.2.7"], []])
    XCTAssertEqual(provider.tuns.count, 1)
    await provider.stop()
    second.stop()
  }

  func testAReloadWithAnotherInterfaceSetsItUp() async throws {
    let (server, provider) = (try TestServer(), TestProvider())
    try await provider.start(server.uri)
    try await provider.awaitState(.connected)
    for tun in [#""mtu": 1400"#, #""memory_limit": 8388608"#] {
      let reply = try await provider.ask(.reload(VPNConfig(text: server.config { $0.tun = tun })))
      XCTAssertEqual(reply, .done)
      try await provider.apps(.descriptor).ping(tun)
    }
    XCTAssertEqual(provider.settings.all.map(\.mtu).suffix(2).first, 1400)
    XCTAssertEqual(provider.tuns.map(\.isHeld), [false, false, true])

    let flow = try await provider.ask(.reload(VPNConfig(text: server.uri, packets: .packetFlow)))
    XCTAssertEqual(flow, .done)
    try await provider.apps(.packetFlow).ping()
    XCTAssertEqual(provider.tuns.filter(\.isHeld).count, 0)

    let back = try await provider.ask(.reload(VPNConfig(text: server.uri)))
    XCTAssertEqual(back, .done)
    try await provider.apps(.descriptor).ping()
    try await provider.awaitState(.connected)
    XCTAssertEqual(provider.cancellations.all, [])
    await provider.stop()
    XCTAssertEqual(provider.tuns.filter(\.isHeld).count, 0)
    server.stop()
  }

  func testTheEndOfACoreThatWasReplacedMeanwhileIsNone() async throws {
    let (server, provider) = (try TestServer(), TestProvider())
    try await provider.start(server.uri)
    provider.settingsGate.shut()
    let smaller = VPNConfig(text: server.config { $0.tun = #""mtu": 1400"# })
    let reload = Task { try await provider.ask(.reload(smaller)) }
    try await waitUntil("the system is asked") { provider.settingsGate.arrivals == 2 }
    provider.tuns.last?.hangUp()
    try await waitUntil("that is heard of") {
      if case .failed = await provider.adapter.run?.state { true } else { false }
    }
    provider.settingsGate.open()
    let reply = try await reload.value
    XCTAssertEqual(reply, .done)
    try await provider.awaitState(.connected)
    try await provider.apps(.descriptor).ping()
    XCTAssertEqual(provider.cancellations.all, [])
    await provider.stop()
    server.stop()
  }

  func testAStopDuringTheWayBackIsNoFailure() async throws {
    let (server, provider) = (try TestServer(), TestProvider())
    try await provider.start(server.uri)
    let late = VPNConfig(
      text: server.config {
        $0.tun = #""mtu": 1400"#
        $0.tls = #""certificate_path": "/nowhere/ca.pem""#
      })
    provider.settingsGate.shut(after: 1)
    let reload = Task { try await provider.ask(.reload(late)) }
    try await waitUntil("the system is asked to go back") { provider.settingsGate.arrivals == 3 }
    await provider.stop()
    provider.settingsGate.open()
    guard case .failure = try await reload.value else { return XCTFail("the reload was done") }
    XCTAssertEqual(provider.cancellations.all, [])
    XCTAssertEqual(provider.adapter.core.state(), .stopped)
    XCTAssertEqual(provider.tuns.filter(\.isHeld).count, 0)
    server.stop()
  }

  func testAReloadThatCannotBeKeepsTheRun() async throws {
    let (server, provider) = (try TestServer(), TestProvider())
    try await provider.start(server.uri)
    try await provider.awaitState(.connected)
    let smaller = VPNConfig(text: server.config { $0.tun = #""mtu": 1400"# })
    let badTLS = #""certificate_path": "/nowhere/ca.pem""#

    func assertRefused(_ config: VPNConfig, _ code: String, line: UInt = #line) async throws {
      let reply = try await provider.ask(.reload(config))
      guard case .failure(let failure) = reply else { return XCTFail("\(reply)", line: line) }
      XCTAssertEqual(failure.code, code, line: line)
      try await provider.apps(.descriptor).ping("\(line)")
      XCTAssertEqual(provider.cancellations.all, [], line: line)
    }
    try await assertRefused(VPNConfig(text: "{}"), "config")
    try await assertRefused(VPNConfig(text: server.config { $0.tls = badTLS }), "core.tls_settings")
    provider.hideTun()
    try await assertRefused(smaller, "no_descriptor")
    provider.hideTun(false)
    XCTAssertEqual(provider.settings.all.last, provider.settings.all.first, "the system was told to go back")
    provider.refuseSettings(NEVPNError(.connectionFailed))
    try await assertRefused(smaller, "settings")
    provider.refuseSettings(nil)
    XCTAssertEqual(provider.tuns.count, 1)

    // Found out only when the one before has gone.
    let late = VPNConfig(
      text: server.config {
        $0.tun = #""mtu": 1400"#
        $0.tls = badTLS
      })
    try await assertRefused(late, "core.tls_settings")
    XCTAssertEqual(provider.settings.all.last, provider.settings.all.first)
    try await provider.awaitState(.connected)
    await provider.stop()
    XCTAssertEqual(provider.tuns.filter(\.isHeld).count, 0)
    server.stop()
  }
}
