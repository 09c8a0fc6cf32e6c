import Network
import TestSupport
import XCTest

@testable import AnyTLSMobile

/// What is decided without a tunnel: paths, memory, reasserting.
final class JudgeTests: XCTestCase {
  // MARK: - Paths

  private let wifi = NetworkPath.Interface(name: "en0", kind: .wifi)
  private let cellular = NetworkPath.Interface(name: "pdp_ip0", kind: .cellular)
  private let own = NetworkPath.Interface(name: "utun3", kind: .other)

  func testAPathIsNamedByInterfaceAndGateways() {
    let path = NetworkPath(
      status: .available, interfaces: [wifi, cellular], gateways: ["192.0.2.1", "fe80::1"])
    XCTAssertEqual(path.name, "en0 192.0.2.1 fe80::1")
    var other = path
    other.gateways = ["fe80::1", "192.0.2.1"]
    XCTAssertEqual(other.name, path.name, "the order says nothing")
    other.gateways = ["192.0.2.2"]
    XCTAssertNotEqual(other.name, path.name, "another network by the same interface")
    other = path
    other.interfaces.reverse()
    XCTAssertNotEqual(other.name, path.name)
    other.interfaces = [cellular]
    other.gateways = []
    XCTAssertEqual(other.name, "pdp_ip0")
    other.status = .onDemand
    XCTAssertEqual(other.name, "pdp_ip0", "a dial brings it up")
  }

  func testOurOwnInterfaceIsNoNetwork() {
    let loopback = NetworkPath.Interface(name: "lo0", kind: .loopback)
    let path = NetworkPath(status: .available, interfaces: [own, loopback, wifi], gateways: [])
    XCTAssertEqual(path.name, "en0")
    XCTAssertNil(NetworkPath(status: .available, interfaces: [own, loopback], gateways: ["192.0.2.1"]).name)
    XCTAssertNil(NetworkPath(status: .none, interfaces: [wifi], gateways: ["192.0.2.1"]).name)
    XCTAssertNil(NetworkPath(status: .available, interfaces: [], gateways: []).name)
  }

  func testTheSystemsPathsAreRead() async {
    for (status, expected) in [
      (NWPath.Status.satisfied, NetworkPath.Status.available), (.requiresConnection, .onDemand),
      (.unsatisfied, .none),
    ] {
      let interface = NWInterface(name: "en0", type: .wifi)
      let path = NWPath(status: status, availableInterfaces: [interface], gateways: [NWEndpoint("192.0.2.1")])
      let expected = NetworkPath(status: expected, interfaces: [wifi], gateways: ["192.0.2.1"])
      XCTAssertEqual(NetworkPath(path), expected)
    }
    var names: [String?] = []
    for await name in PathMonitor.names() {
      names.append(name)
      break
    }
    XCTAssertEqual(names, ["eth0 192.0.2.1"])
  }

  // MARK: - Memory

  func testMemoryGetsBetterOnlyWellAboveWhatMadeItWorse() {
    XCTAssertEqual(
      pressures([.mib(50), .mib(12), .bytes(12 << 20 - 1), .mib(13), .mib(24), .bytes(24 << 20 + 1)]),
      [.normal, .normal, .low, .low, .low, .normal])
    XCTAssertEqual(
      pressures([
        .mib(6), .bytes(6 << 20 - 1), .mib(7), .mib(12), .bytes(12 << 20 + 1), .mib(25), .mib(5), .mib(25),
      ]),
      [.low, .critical, .critical, .critical, .low, .normal, .critical, .normal])
  }

  func testTheSystemsWarningCountsAsWell() {
    XCTAssertEqual(
      pressures([.event(.low), .mib(50), .event(.critical), .event(.low), .mib(5), .event(.normal), .mib(50)]
      ),
      [.low, .low, .critical, .low, .critical, .critical, .normal])
  }

  func testMemoryIsLookedAtMoreOftenWhileItPresses() async {
    let (readings, reading) = AsyncStream<MemoryReading>.makeStream()
    let intervals = Collector<Int>()
    for bytes in [50, 11, 10, 3, 40] as [UInt64] { reading.yield(.available(bytes << 20)) }
    reading.finish()
    let reports = Collector<MemoryReport>()
    await MemoryMonitor.follow(MemorySource(readings: readings) { intervals.add($0) }) { reports.add($0) }
    XCTAssertEqual(intervals.all, [60, 5, 60])
    XCTAssertEqual(reports.all.map(\.pressure), [.normal, .low, .low, .critical, .normal])
    XCTAssertEqual(reports.all.last?.availableBytes, 40 << 20)
  }

  private func pressures(_ readings: [MemoryReading]) -> [MemoryPressure] {
    var judge = MemoryJudge()
    return readings.map {
      judge.hear($0)
      return judge.pressure
    }
  }

  // MARK: - Reasserting

  func testOnlyWhatWasConnectedIsReasserted() {
    let failure = Failure(code: "dial.refused", isRetryable: true, userMessage: "", detail: "")
    let reconnecting = TunnelState.reconnecting(attempt: 1, retryIn: 1, failure: failure)
    let degraded = TunnelState.degraded(failure: failure)
    let failed = TunnelState.failed(failure: failure, isTrafficBlocked: false)
    var reassertion = Reassertion()
    let course: [(TunnelState, Bool)] = [
      (.starting, false), (.connecting, false), (reconnecting, false), (degraded, false),
      (reconnecting, false),
      (.connected, false), (reconnecting, true), (reconnecting, true), (.connecting, false),
      (reconnecting, true),
      (degraded, false), (reconnecting, true), (.waitingForNetwork, false), (reconnecting, true),
      (.paused, false),
      (reconnecting, true), (failed, false), (reconnecting, true), (.connected, false), (.stopping, false),
    ]
    for (index, (state, expected)) in course.enumerated() {
      XCTAssertEqual(reassertion.isOn(in: state), expected, "\(index): \(state)")
    }
  }
}

extension MemoryReading {
  fileprivate static func mib(_ count: UInt64) -> Self { .available(count << 20) }
  fileprivate static func bytes(_ count: UInt64) -> Self { .available(count) }
}
