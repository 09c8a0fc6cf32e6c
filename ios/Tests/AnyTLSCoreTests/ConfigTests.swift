import AnyTLSCore
import Foundation
import TestSupport
import XCTest

/// Configs and URIs, as an app shows and edits them, and what goes between its processes.
final class ConfigTests: XCTestCase {
  func testAConfigIsSummedUpWithoutItsSecrets() throws {
    var settings = Settings(port: 8443)
    settings.host = "vpn.example"
    settings.server = #""tag": "home", "what": 1"#
    settings.tun = #""mtu": 1400, "addresses": ["10.1.0.1/30", "fd00::1/126"]"#
    settings.log = #""level": "debug""#
    let summary = try parseConfig(text: settings.json)
    XCTAssertEqual(summary.name, "home")
    XCTAssertEqual(summary.serverHost, "vpn.example")
    XCTAssertEqual(summary.serverPort, 8443)
    XCTAssertTrue(summary.isInsecure)
    XCTAssertEqual(summary.logLevel, .debug)
    XCTAssertEqual(summary.tun.mtu, 1400)
    let addresses = summary.tun.addresses.map { "\($0.address)/\($0.prefixLength)" }
    XCTAssertEqual(addresses, ["10.1.0.1/30", "fd00::1/126"])
    XCTAssertEqual(summary.tun.dnsServers, ["10.1.0.2", "fd00::2"])
    XCTAssertTrue(summary.warnings.contains { $0.severity == .warning && $0.path == "server.what" })
    assertNoSecret("\(summary)")
  }

  func testAllProblemsOfAConfigAreToldAtOnceWithTheirPlaces() async throws {
    let text = """
      { "server": { "server": "vpn.example", "server_port": 70000, "password": "\(TestServer.password)",
        "heartbeat": "\(TestServer.password)" }, "tun": { "mtu": 1, "mto": 2 } }
      """
    let error = await assertFails("config", isRetryable: false) { _ = try parseConfig(text: text) }
    guard case .Config(let problems) = error else { return XCTFail("\(String(describing: error))") }
    let errors = problems.filter { $0.severity == .error }
    XCTAssertEqual(Set(errors.map(\.path)), ["server.server_port", "server.heartbeat", "tun.mtu"])
    XCTAssertTrue(problems.dropFirst(errors.count).contains { $0.path == "tun.mto" }, "\(problems)")
    XCTAssertFalse(problems.contains { $0.reason.isEmpty })
  }

  func testAURIIsTakenApartAndPutTogetherAgain() throws {
    let parts = ServerUri(
      password: "p:ä @/?#%", host: "2001:db8::1", port: 8443, sni: "vpn.example", isInsecure: true,
      name: "at home")
    let text = try buildUri(parts: parts)
    XCTAssertTrue(text.hasPrefix("anytls://"), text)
    XCTAssertEqual(try parseUri(text: text), parts)
    XCTAssertEqual(try parseConfig(text: text).serverHost, parts.host)
  }

  func testAURIsPartsAreShownWithoutThePassword() {
    let parts = ServerUri(password: TestServer.password, host: "vpn.example")
    assertNoSecret("\(parts) \(String(reflecting: parts))")
    XCTAssertTrue("\(parts)".contains("vpn.example"))
    XCTAssertEqual(parts.port, 443)
  }

  func testAURIThatIsNoneIsRefused() async {
    for text in ["", "https://vpn.example", "anytls://vpn.example", "anytls://word@:x"] {
      await assertFails("config", isRetryable: false) { _ = try parseUri(text: text) }
    }
  }

  func testPartsThatMakeNoURIAreRefusedByTheirNames() async {
    let bad = [
      "uri.password": ServerUri(password: "", host: "vpn.example"),
      "uri.host": ServerUri(password: "word", host: "two words"),
      "uri.port": ServerUri(password: "word", host: "vpn.example", port: 0),
      "uri.sni": ServerUri(password: "word", host: "vpn.example", sni: "two words"),
    ]
    for (path, parts) in bad {
      let error = await assertFails("config", isRetryable: false) { _ = try buildUri(parts: parts) }
      guard case .Config(let problems) = error else { return XCTFail("\(String(describing: error))") }
      XCTAssertEqual(problems.map(\.path), [path])
    }
  }

  func testThePresetsAreListedTheDefaultOneFirst() throws {
    let presets = presets()
    let first = try XCTUnwrap(presets.first)
    XCTAssertEqual(first.name, "mobile")
    XCTAssertEqual(first.ensureIdleSession, 2)
    XCTAssertEqual(first.idleSessionTimeout, 300)
    XCTAssertEqual(first.heartbeat, 30)
    XCTAssertEqual(first.heartbeatBackground, 270)
    XCTAssertEqual(Set(presets.map(\.name)).count, 6)
    for preset in presets {
      var settings = Settings(port: 443)
      settings.server = #""preset": "\#(preset.name)""#
      XCTAssertNoThrow(try parseConfig(text: settings.json))
    }
  }

  func testStatesAndStatsGoThroughJSONUnchanged() throws {
    let failure = Failure(code: "dial.refused", isRetryable: true, userMessage: "No.", detail: "no")
    let states: [TunnelState] = [
      .stopped, .starting, .connecting, .connected, .degraded(failure: failure), .waitingForNetwork,
      .reconnecting(attempt: 3, retryIn: 1.5, failure: failure), .paused, .stopping,
      .failed(failure: failure, isTrafficBlocked: true),
    ]
    for state in states { try assertGoesThroughJSON(state) }
    var stats = Tunnel(platform: nil).stats()
    stats.traffic.upBytes = .max
    stats.dns.medianTime = 0.25
    try assertGoesThroughJSON(stats)
    try assertGoesThroughJSON(failure)
    try assertGoesThroughJSON(parseConfig(text: Settings(port: 443).json))
  }

  private func assertGoesThroughJSON<T: Codable & Equatable>(_ value: T) throws {
    let data = try JSONEncoder().encode(value)
    XCTAssertEqual(try JSONDecoder().decode(T.self, from: data), value)
  }
}
