import NetworkExtension
import TestSupport
import XCTest

@testable import AnyTLSMobile

/// Calls that come while others are under way.
final class AdapterTests: XCTestCase {
  func testStopCallsOffAStartThatWaitsForTheSystem() async throws {
    let (server, provider) = (try TestServer(), TestProvider())
    provider.settingsGate.shut()
    let start = Task { try await provider.start(server.uri) }
    try await waitUntil("the system is asked") { provider.settingsGate.arrivals == 1 }
    await provider.stop()
    await assertCancelled(start)
    provider.settingsGate.open()
    assertOff(provider)

    try await provider.start(server.uri)
    try await provider.apps(.descriptor).ping()
    await provider.stop()
  }

  func testStopCallsOffAStartThatLooksTheServerUp() async throws {
    let (server, provider) = (try TestServer(), TestProvider())
    provider.lookupGate.shut()
    let start = Task { try await provider.start(server.uri) }
    try await waitUntil("the server is looked up") { provider.lookupGate.arrivals == 1 }
    await provider.stop()
    await assertCancelled(start)
    assertOff(provider)
    XCTAssertEqual(provider.settings.all, [])
  }

  func testAStopRightBehindAStartIsNotOvertaken() async throws {
    let (config, provider) = (VPNConfig(text: Settings(port: try deadPort()).json), TestProvider())
    for round in 1...200 {
      let (starts, stops) = (Collector<Bool>(), Collector<Bool>())
      provider.startTunnel(options: try config.startOptions()) { starts.add($0 == nil) }
      provider.stopTunnel(with: .userInitiated) { stops.add(true) }
      _ = try await starts.take("the end of start \(round)")
      _ = try await stops.take("the end of stop \(round)")
      assertOff(provider)
    }
  }

  func testACancelledTaskStopsItsStart() async throws {
    let (server, provider) = (try TestServer(), TestProvider())
    provider.settingsGate.shut()
    let start = Task { try await provider.adapter.start(VPNConfig(text: server.uri), for: provider) }
    try await waitUntil("the system is asked") { provider.settingsGate.arrivals == 1 }
    start.cancel()
    await assertCancelled(start)
    assertOff(provider)
    XCTAssertEqual(provider.breadcrumb.read()?.reason, "cancelled")
  }

  func testAStartBehindACalledOffOneComesThrough() async throws {
    let (server, provider) = (try TestServer(), TestProvider())
    provider.settingsGate.shut()
    let first = Task { try await provider.start(server.uri) }
    try await waitUntil("the system is asked") { provider.settingsGate.arrivals == 1 }
    await provider.stop()
    provider.settingsGate.open()
    try await provider.start(server.uri)
    await assertCancelled(first)
    try await provider.apps(.descriptor).ping()
    await provider.stop()
    assertOff(provider)
  }

  func testOfTwoStartsOneRuns() async throws {
    let (server, provider) = (try TestServer(), TestProvider())
    let results = await withTaskGroup(of: String?.self) { group in
      for _ in 0..<2 {
        group.addTask {
          do {
            try await provider.start(server.uri)
            return nil
          } catch {
            return (error as? VPNFailure)?.code
          }
        }
      }
      return await group.reduce(into: [String?]()) { $0.append($1) }
    }
    XCTAssertEqual(results.compactMap { $0 }, ["core.already_started"])
    try await provider.apps(.descriptor).ping()
    await provider.stop()
    await provider.stop()
    assertOff(provider)
  }

  func testStopBeforeAnyStartIsFine() async {
    let provider = TestProvider()
    await provider.stop()
    assertOff(provider)
    XCTAssertNil(provider.breadcrumb.read())
  }

  func testAnyOrderEndsRight() async throws {
    let (server, provider) = (try TestServer(), TestProvider())
    var random = SeededRandom(seed: 4711)
    for round in 0..<60 {
      let packets: VPNOptions.PacketSource = random.next() % 2 == 0 ? .descriptor : .packetFlow
      let config = VPNConfig(text: server.uri, packets: packets)
      await withTaskGroup(of: Void.self) { group in
        for _ in 0..<(1 + random.next() % 5) {
          let (choice, isHasty) = (random.next() % 5, random.next() % 2 == 0)
          group.addTask {
            switch choice {
            case 0, 1: try? await provider.start(config)
            case 2: await provider.stop()
            case 3: _ = try? await provider.ask(.reload(config))
            default: await hastily(provider, config)
            }
          }
          if isHasty { await Task.yield() }
        }
      }
      await provider.stop()
      XCTAssertEqual(provider.adapter.core.state(), .stopped, "round \(round)")
      XCTAssertEqual(provider.tuns.filter(\.isHeld).count, 0, "round \(round)")
    }
    try await provider.start(server.uri)
    try await provider.apps(.descriptor).ping()
    await provider.stop()
    assertOff(provider)
    XCTAssertEqual(provider.cancellations.all, [])
  }

  func testAStartCancelledAtAnyMomentLeavesNothing() async throws {
    let (server, core) = (try TestServer(), Tunnel(platform: nil))
    for round in 0..<40 {
      let tun = try TestTun()
      let start = Task {
        try await core.cancellably { try await core.start(config: server.uri, tun: tun.fd) }
      }
      for _ in 0..<(round % 10) { await Task.yield() }
      start.cancel()
      await assertCancelled(start, orDone: { await core.stop() })
      XCTAssertEqual(core.state(), .stopped)
      XCTAssertFalse(tun.isHeld)
    }
    let tun = try TestTun()
    try await core.cancellably { try await core.start(config: server.uri, tun: tun.fd) }
    try await tun.ping()
    await core.stop()
  }

  func testTheStopOfACancelledStartMeetsNoLaterOne() async throws {
    let (config, core) = (Settings(port: try deadPort()).json, Tunnel(platform: nil))
    for _ in 0..<200 {
      let cancelled = Task {
        try await core.cancellably { withUnsafeCurrentTask { $0?.cancel() } }
      }
      await assertCancelled(cancelled)
      let tun = try TestTun()
      try await core.start(config: config, tun: tun.fd)
      try await tun.ping()
      await core.stop()
    }
  }

  func testAStoppedStartOfTheCoreIsACancellation() async throws {
    let core = Tunnel(platform: nil)
    do {
      try await core.cancellably { throw TunnelError.Cancelled }
      XCTFail("nothing was thrown")
    } catch {
      XCTAssertTrue(error is CancellationError, "\(error)")
    }
  }

  // MARK: -

  private func assertCancelled(
    _ start: Task<Void, any Error>, orDone: (() async -> Void)? = nil, line: UInt = #line
  ) async {
    do {
      try await start.value
      guard let orDone else { return XCTFail("nothing was thrown", line: line) }
      await orDone()
    } catch {
      XCTAssertTrue(error is CancellationError, "\(error)", line: line)
    }
  }

  private func assertOff(_ provider: TestProvider, line: UInt = #line) {
    XCTAssertEqual(provider.adapter.core.state(), .stopped, line: line)
    XCTAssertEqual(provider.tuns.filter(\.isHeld).count, 0, line: line)
    XCTAssertFalse(provider.reasserting, line: line)
  }
}

/// Starts, and cancels that.
private func hastily(_ provider: TestProvider, _ config: VPNConfig) async {
  let start = Task { try await provider.adapter.start(config, for: provider) }
  await Task.yield()
  start.cancel()
  _ = await start.result
}

/// SplitMix64.
struct SeededRandom: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
    return mixed ^ (mixed >> 31)
  }
}
