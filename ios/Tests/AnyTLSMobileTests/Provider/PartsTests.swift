import TestSupport
import XCTest

@testable import AnyTLSMobile

/// The adapter's tools, each by itself.
final class PartsTests: XCTestCase {
  // MARK: - The core's streams

  func testStatesComeAsTheyAreAndEndWithTheirReader() async throws {
    let (server, core) = (try TestServer(), Tunnel(platform: nil))
    let seen = Collector<TunnelState>()
    let reader = Task { for await state in core.states() { seen.add(state) } }
    try await seen.take("the first state") { $0 == .stopped ? () : nil }
    let tun = try TestTun()
    try await core.start(config: server.uri, tun: tun.fd)
    try await seen.take("connected") { $0 == .connected ? () : nil }
    reader.cancel()
    await reader.value
    let heard = seen.all.count
    await core.stop()
    XCTAssertEqual(seen.all.count, heard)
    server.stop()
  }

  func testASubscriptionEndsWithItsStream() async throws {
    final class Token: Sendable {}
    let core = Tunnel(platform: nil)
    weak var held: Token?
    let reader = {
      let token = Token()
      held = token
      let stream = core.events(every: nil) { _ in token }
      return Task { for await _ in stream {} }
    }()
    XCTAssertNotNil(held)
    reader.cancel()
    await reader.value
    try await waitUntil("the core lets its listener go") { held == nil }
  }

  func testASlowReaderHearsTheLastState() async throws {
    let core = Tunnel(platform: nil)
    let states = core.states()
    let other = Collector<TunnelState>()
    let reader = Task { for await state in core.states() { other.add(state) } }
    let (config, tun) = (Settings(port: try deadPort()).json, try TestTun())
    try await core.start(config: config, tun: tun.fd)
    core.networkChanged(path: nil)
    try await other.take("no network") { $0 == .waitingForNetwork ? () : nil }
    var last: TunnelState?
    for await state in states {
      last = state
      if state == .waitingForNetwork { break }
    }
    XCTAssertEqual(last, .waitingForNetwork)
    reader.cancel()
    await core.stop()
    XCTAssertFalse(tun.isHeld)
  }

  func testStatsComeAtTheirInterval() async throws {
    let (core, tun) = (Tunnel(platform: nil), try TestTun())
    try await core.start(config: Settings(port: try deadPort()).json, tun: tun.fd)
    for interval in [0.1, -1] {
      for await stats in core.stats(every: interval) {
        XCTAssertGreaterThan(stats.memory.limitBytes, 0)
        break
      }
    }
    await core.stop()
    XCTAssertFalse(tun.isHeld)
  }

  // MARK: - Waiting

  func testWorkIsWaitedForOrNot() async throws {
    let done = try await within(60) { 7 }
    XCTAssertEqual(done, 7)
    let gate = Gate()
    gate.shut()
    let late: Int? = try await within(0) {
      try await gate.pass()
      return 7
    }
    XCTAssertNil(late)
    struct Trouble: Error {}
    do {
      _ = try await within(60) { throw Trouble() }
      XCTFail("nothing was thrown")
    } catch { XCTAssertTrue(error is Trouble) }

    let waiting = Task { try await within(3600) { try await gate.pass() } }
    try await waitUntil("it waits") { gate.arrivals == 2 }
    waiting.cancel()
    let result = await waiting.result
    XCTAssertThrowsError(try result.get()) { XCTAssertTrue($0 is CancellationError) }
    gate.open()
  }

  func testServersAreLookedUp() async throws {
    let literals = ["192.0.2.7", "2001:db8::7"]
    for literal in literals {
      let addresses = try await ServerAddresses.of(literal)
      XCTAssertEqual(addresses, [literal])
    }
    let loopback = try await ServerAddresses.of("localhost")
    XCTAssertFalse(loopback.isEmpty)
    XCTAssertTrue(Set(loopback).isSubset(of: ["127.0.0.1", "::1"]), "\(loopback)")
    XCTAssertEqual(loopback.count, Set(loopback).count)
    let nothing = try await ServerAddresses.of("no such name.invalid")
    XCTAssertEqual(nothing, [])
  }

  // MARK: - Packets

  func testNoPacketOfARunReachesTheNext() async throws {
    let provider = TestProvider()
    let config = Settings(port: try deadPort()).json
    try await provider.start(config, .packetFlow)
    try await provider.flow.ping("first")
    await provider.stop()
    try provider.flow.send(.ping(from: "172.19.0.1", to: "192.0.2.1", Data("between".utf8)))
    try await waitUntil("it was read") { provider.flow.readers == 0 }
    provider.flow.written.drain()

    try await provider.start(config, .packetFlow)
    try await provider.flow.ping("second")
    let pongs = provider.flow.written.all.filter { $0.packet.suffix(7) == Data("between".utf8) }
    XCTAssertEqual(pongs.count, 0)
    XCTAssertEqual(provider.flow.readers, 1)
    await provider.stop()
  }

  func testBatchesStayWholeAndInOrder() async throws {
    let provider = TestProvider()
    try await provider.start(Settings(port: try deadPort()).json, .packetFlow)
    let texts = (0..<100).map { "packet \($0)" }
    provider.flow.send(texts.map { IPPacket.ping(from: "172.19.0.1", to: "192.0.2.1", Data($0.utf8)).data })
    for text in texts {
      let pong = IPPacket.pong(from: "192.0.2.1", to: "172.19.0.1", Data(text.utf8))
      let next = try await provider.flow.receive("a pong") { $0 }
      XCTAssertEqual(next, pong)
    }
    await provider.stop()
  }

  func testWhatIsNoPacketHarmsNobody() async throws {
    let provider = TestProvider()
    try await provider.start(Settings(port: try deadPort()).json, .packetFlow)
    provider.flow.send([Data(), Data([0x45]), Data(repeating: 0xff, count: 70_000)])
    provider.flow.send([])
    try await provider.flow.ping()
    await provider.stop()
  }
}
