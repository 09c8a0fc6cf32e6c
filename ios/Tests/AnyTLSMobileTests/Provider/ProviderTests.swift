import NetworkExtension
import TestSupport
import XCTest

@testable import AnyTLSMobile

/// From `startTunnel` to `stopTunnel`, with the real core and a real server.
final class ProviderTests: XCTestCase {
  func testItCarriesPacketsThroughTheDescriptor() async throws { try await carries(.descriptor) }

  func testItCarriesPacketsThroughThePacketFlow() async throws { try await carries(.packetFlow) }

  private func carries(_ packets: VPNOptions.PacketSource) async throws {
    let (server, names, provider) = (try TestServer(), try NameServer(), TestProvider())
    try await provider.start(
      server.config { $0.dns = #""server": "tcp://127.0.0.1:\#(names.port)""# }, packets)
    let apps = try provider.apps(packets)
    try await apps.ping()

    // A datagram, with an answer from beyond the server.
    let app = Endpoint("172.19.0.1", 40_000)
    let resolver = Endpoint("172.19.0.2", 53)
    try apps.send(.udp(from: app, to: resolver, DNSMessage.question(id: 7, "name.example")))
    let answer = try await apps.receive("an answer") { packet -> Data? in
      guard let datagram = packet.datagram, datagram.from == resolver, datagram.to == app else { return nil }
      return datagram.data
    }
    XCTAssertEqual(DNSMessage.address(in: answer), NameServer.address)

    // A connection; the loopback's address is none that a packet may have.
    if let machine = ownAddress() {
      let target = try EchoTarget()
      let web = Endpoint(machine, target.port)
      try apps.send(.tcp(from: app, to: web, flags: .syn, sequence: 1000))
      let reply = try await apps.receive("an answer to the SYN") { packet -> TCPSegment? in
        packet.segment.flatMap { $0.from == web && $0.to == app ? $0 : nil }
      }
      XCTAssertEqual(reply.flags, [.syn, .ack])
      XCTAssertEqual(reply.acknowledged, 1001)
    }

    try await provider.awaitState(.connected)
    await provider.stop()
    XCTAssertEqual(provider.adapter.core.state(), .stopped)
    XCTAssertEqual(provider.tuns.filter(\.isHeld).count, 0)
    XCTAssertEqual(provider.cancellations.all, [])
    names.stop()
    server.stop()
  }

  func testItIsUpBeforeTheServerIsReached() async throws {
    let provider = TestProvider()
    try await provider.start(Settings(port: try deadPort()).json)
    try await provider.apps(.descriptor).ping()
    await provider.stop()
  }

  func testTheSystemIsToldOfTheInterface() async throws {
    let provider = TestProvider(addresses: ["198.51.100.7", "2001:db8::7"])
    try await provider.start(
      Settings(port: 9).json.replacingOccurrences(of: "127.0.0.1", with: "vpn.example"))
    let seen = try await provider.settings.take("settings")
    XCTAssertEqual(seen.remote, "198.51.100.7")
    XCTAssertEqual(seen.excluded, ["198.51.100.7", "2001:db8::7"])
    XCTAssertEqual(seen.addresses.first, "172.19.0.1")
    XCTAssertEqual(seen.dns.count, 2)
    await provider.stop()
  }

  func testFamiliesOfPacketsAreNamedInTheSystemsNumbers() async throws {
    let provider = TestProvider()
    try await provider.start(Settings(port: try deadPort()).json, .packetFlow)
    try provider.flow.send(.ping(from: "172.19.0.1", to: "192.0.2.1", Data()))
    let v4 = try await provider.flow.written.take("a pong")
    try provider.flow.send(.ping(from: "fdfe:dcba:9876::1", to: "2001:db8::1", Data()))
    let v6 = try await provider.flow.written.take("a pong")
    XCTAssertEqual([v4.family, v6.family], [AF_INET, AF_INET6])
    await provider.stop()
  }

  func testTheSavedConfigIsForStartsWithoutOne() async throws {
    final class Saved: AnyTLSPacketTunnelProvider, @unchecked Sendable {
      let settings: NETunnelProviderProtocol
      init(_ settings: NETunnelProviderProtocol) {
        self.settings = settings
        super.init(surroundings: Surroundings(breadcrumb: .temporary()))
      }
      override var protocolConfiguration: NEVPNProtocol { settings }
    }
    let store = ConfigStore()
    var config = VPNConfig(text: Settings(port: try deadPort()).json)
    config.options.packets = .packetFlow
    let settings = try store.make(
      config, summary: try parseConfig(text: config.text), onDemand: .off, providerBundleIdentifier: "x")
    let provider = Saved(settings)
    XCTAssertEqual(try provider.loadConfig(options: nil), config)
    var other = config
    other.options.packets = .descriptor
    XCTAssertEqual(try provider.loadConfig(options: try other.startOptions()), other)
    try await provider.startTunnel(options: nil)
    await provider.stopTunnel(with: .none)
    store.delete(settings)
    XCTAssertThrowsError(try provider.loadConfig(options: nil)) {
      XCTAssertEqual(($0 as? VPNFailure)?.code, "no_config")
    }
  }

  // MARK: - What goes wrong

  func testEveryFailureIsOfAKindAndLeavesNothing() async throws {
    let provider = TestProvider()
    await assertFails(.noConfig) { try await provider.startTunnel(options: nil) }
    await assertFails("config") { try await provider.start("{}") }

    let config = Settings(port: try deadPort()).json
    provider.hideTun()
    await assertFails(.noDescriptor) { try await provider.start(config) }
    provider.hideTun(false)

    provider.refuseSettings(NEVPNError(.configurationInvalid))
    await assertFails("settings") { try await provider.start(config) }
    provider.refuseSettings(nil)

    let badTLS = config.replacingOccurrences(
      of: #""insecure": true"#, with: #""certificate_path": "/nowhere/ca.pem""#)
    await assertFails("core.tls_settings") { try await provider.start(badTLS) }

    XCTAssertEqual(provider.adapter.core.state(), .stopped)
    XCTAssertEqual(provider.tuns.filter(\.isHeld).count, 0)
    try await waitUntil("nobody listens") { provider.paths.streams + provider.memory.streams == 0 }

    try await provider.start(config)
    try await provider.apps(.descriptor).ping()
    await assertFails("core.already_started") { try await provider.start(config) }
    try await provider.apps(.descriptor).ping("still there")
    await provider.stop()
  }

  func testADescriptorThatIsNoneIsTheCoresFailure() async throws {
    final class Broken: AnyTLSPacketTunnelProvider, @unchecked Sendable {
      override func findTun() -> Int32? { 987_654 }
    }
    let provider = Broken(surroundings: Surroundings(breadcrumb: .temporary()))
    let config = VPNConfig(text: Settings(port: try deadPort()).json)
    await assertFails("core.descriptor") {
      try await provider.startTunnel(options: try config.startOptions())
    }
    XCTAssertEqual(provider.adapter.core.state(), .stopped)
  }

  func testACoreThatEndsByItselfEndsTheVPN() async throws {
    let (server, provider) = (try TestServer(), TestProvider())
    try await provider.start(server.uri)
    try await provider.awaitState(.connected)
    provider.tuns.last?.hangUp()
    let failure = try await provider.cancellations.take("the end of the VPN")
    XCTAssertEqual(failure.code, "core.tunnel.ended")
    XCTAssertEqual(provider.breadcrumb.read()?.reason, failure.code)
    try await waitUntil("nobody listens") { provider.paths.streams + provider.memory.streams == 0 }
    await provider.stop()
    XCTAssertEqual(provider.cancellations.all.count, 1)

    try await provider.start(server.uri)
    try await provider.apps(.descriptor).ping()
    await provider.stop()
  }

  // MARK: - The phone

  func testTheCoreHearsOfThePhone() async throws {
    let (server, provider) = (try TestServer(), TestProvider())
    provider.paths.say("en0 192.0.2.1")
    try await provider.start(server.uri)
    try await provider.awaitState(.connected)
    provider.paths.say(nil)
    try await provider.awaitState(.waitingForNetwork)
    provider.paths.say("pdp_ip0")
    try await provider.awaitState(.connected)
    provider.sleep {}
    try await provider.awaitState(.paused)
    provider.wake()
    try await provider.awaitState(.connected)

    let core = provider.adapter.core
    provider.memory.say(.available(11 << 20))
    try await waitUntil("low") { core.stats().memory.pressure == .low }
    provider.memory.say(.event(.critical))
    try await waitUntil("critical") { core.stats().memory.pressure == .critical }
    provider.memory.say(.event(.normal))
    try await waitUntil("low again") { core.stats().memory.pressure == .low }
    provider.memory.say(.available(30 << 20))
    try await waitUntil("normal") { core.stats().memory.pressure == .normal }
    XCTAssertEqual(provider.intervals.all, [60, 5, 60])
    await provider.stop()
  }

  func testAWakeIsNotOvertakenByTheSleepBeforeIt() async throws {
    let (server, provider) = (try TestServer(), TestProvider())
    try await provider.start(server.uri)
    try await provider.awaitState(.connected)
    let asleep = Collector<Bool>()
    for _ in 0..<50 {
      provider.sleep { asleep.add(true) }
      provider.wake()
    }
    XCTAssertEqual(asleep.all.count, 50)
    try await provider.awaitState(.connected)
    await provider.stop()
    server.stop()
  }

  func testAPhoneThatSleptStartsAwake() async throws {
    let (server, provider) = (try TestServer(), TestProvider())
    try await provider.start(server.uri)
    provider.sleep {}
    await provider.stop()
    try await provider.start(server.uri)
    try await provider.awaitState(.connected)
    await provider.stop()
  }

  func testItReassertsOnlyWhatWasThere() async throws {
    let (provider, port) = (TestProvider(), try deadPort())
    var settings = Settings(port: port)
    settings.server = #""idle_session_check_interval": "1s""#
    try await provider.start(settings.json)
    try await waitUntil("dials fail") {
      if case .reconnecting = provider.adapter.core.state() { true } else { false }
    }
    var server = try TestServer(port: port)
    try await provider.awaitState(.connected)
    XCTAssertEqual(provider.reassertions.all.contains(true), false)

    server.stop()
    try await waitUntil("it reasserts") { provider.reasserting }
    server = try TestServer(port: port)
    try await waitUntil("it is there") { !provider.reasserting }
    try await provider.awaitState(.connected)

    server.stop()
    try await waitUntil("it reasserts") { provider.reasserting }
    await provider.stop()
    try await provider.start(settings.json)
    await provider.stop()
    XCTAssertEqual(provider.reassertions.all, [true, false, true, false], "nothing is said twice")
  }

  // MARK: - Nothing is left

  func testFiftyCyclesLeaveNothing() async throws {
    let (server, provider) = (try TestServer(), TestProvider())
    func cycle(_ packets: VPNOptions.PacketSource) async throws {
      try await provider.start(server.uri, packets)
      try await provider.apps(packets).ping()
      await provider.stop()
    }
    for packets in VPNOptions.PacketSource.allCases { try await cycle(packets) }
    let before = openDescriptors().count - provider.tuns.count
    let threadsBefore = coreThreads().count
    for round in 0..<50 { try await cycle(round.isMultiple(of: 2) ? .descriptor : .packetFlow) }

    XCTAssertEqual(provider.tuns.filter(\.isHeld).count, 0)
    XCTAssertEqual(provider.flow.readers, 1, "one read for all runs")
    try await waitUntil("nobody listens") { provider.paths.streams + provider.memory.streams == 0 }
    try await waitUntil("no thread more than \(threadsBefore): \(coreThreads())") {
      coreThreads().count <= threadsBefore
    }
    // Each interface's other end is the test's, about which it was counted.
    try await waitUntil("no descriptor more than \(before): \(openDescriptors().count - provider.tuns.count)")
    {
      openDescriptors().count - provider.tuns.count <= before
    }
  }

  private func assertFails(
    _ expected: VPNFailure, line: UInt = #line, _ call: () async throws -> Void
  ) async {
    await assertFails(expected.code, line: line, call)
  }

  private func assertFails(_ code: String, line: UInt = #line, _ call: () async throws -> Void) async {
    do {
      try await call()
      XCTFail("nothing was thrown", line: line)
    } catch {
      XCTAssertEqual((error as? VPNFailure)?.code, code, "\(error)", line: line)
    }
  }
}

/// The names of the core's threads in this process.
private func coreThreads() -> [String] {
  threads().compactMap { try? String(contentsOfFile: "/proc/self/task/\($0)/comm", encoding: .utf8) }
    .filter { $0.hasPrefix("anytls") }
}
