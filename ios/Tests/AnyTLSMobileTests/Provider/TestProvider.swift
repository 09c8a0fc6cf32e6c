import Foundation
import NetworkExtension
import TestSupport

@testable import AnyTLSMobile

/// A provider under a system that a test plays.
final class TestProvider: AnyTLSPacketTunnelProvider, @unchecked Sendable {
  let flow = TestFlow()
  /// What the system was told of the interface.
  let settings = Collector<SettingsSeen>()
  let reassertions = Collector<Bool>()
  let cancellations = Collector<VPNFailure>()
  let paths: Subject<String?>
  let memory: Subject<MemoryReading>
  /// Intervals that readings of the memory were asked for at.
  let intervals: Collector<Int>
  let breadcrumb: Breadcrumb
  /// Runs before the system takes settings.
  let settingsGate = Gate()
  let lookupGate: Gate

  private let lock = NSLock()
  private var handedOut: [TestTun] = []
  private var isHidden = false
  private var settingsError: (any Error)?
  private var isReasserting = false

  init(clock: TestClock = TestClock(), breadcrumb: Breadcrumb = .temporary(), addresses: [String]? = nil) {
    let (paths, memory, intervals) = (Subject<String?>(), Subject<MemoryReading>(), Collector<Int>())
    let gate = Gate()
    (self.paths, self.memory, self.intervals, self.breadcrumb, lookupGate) = (
      paths, memory, intervals, breadcrumb, gate
    )
    super.init(
      surroundings: Surroundings(
        paths: { paths.stream() },
        memory: { MemorySource(readings: memory.stream()) { intervals.add($0) } },
        addresses: { host in
          try await gate.pass()
          if let addresses { return addresses }
          return try await ServerAddresses.of(host)
        },
        breadcrumb: breadcrumb,
        now: { clock.now }))
  }

  /// The interfaces that were found, oldest first.
  var tuns: [TestTun] { lock.withLock { handedOut } }

  func hideTun(_ isHidden: Bool = true) { lock.withLock { self.isHidden = isHidden } }

  func refuseSettings(_ error: (any Error)?) { lock.withLock { settingsError = error } }

  override func findTun() -> Int32? {
    lock.withLock {
      guard !isHidden, let tun = try? TestTun() else { return nil }
      handedOut.append(tun)
      return tun.fd
    }
  }

  override var packetFlow: NEPacketTunnelFlow { flow }

  override func setTunnelNetworkSettings(_ tunnelNetworkSettings: NETunnelNetworkSettings?) async throws {
    let seen = (tunnelNetworkSettings as? NEPacketTunnelNetworkSettings).map(SettingsSeen.init)
    try await settingsGate.pass()
    if let error = lock.withLock({ settingsError }) { throw error }
    if let seen { settings.add(seen) }
  }

  override func cancelTunnelWithError(_ error: (any Error)?) {
    if let failure = error as? VPNFailure { cancellations.add(failure) }
  }

  override var reasserting: Bool {
    get { lock.withLock { isReasserting } }
    set {
      lock.withLock { isReasserting = newValue }
      reassertions.add(newValue)
    }
  }

  func start(_ text: String, _ packets: VPNOptions.PacketSource = .descriptor) async throws {
    try await start(VPNConfig(text: text, packets: packets))
  }

  func start(_ config: VPNConfig) async throws {
    try await startTunnel(options: try config.startOptions())
  }

  func stop() async { await stopTunnel(with: .userInitiated) }

  func ask(_ message: AppMessage) async throws -> AppReply {
    guard let answer = await handleAppMessage(try message.data()) else { throw WaitedInVain("an answer") }
    return try AppReply(data: answer)
  }

  func awaitState(_ state: TunnelState) async throws {
    try await waitUntil("\(state), and not \(adapter.core.state())") { adapter.core.state() == state }
  }

  /// The apps' side of the interface that is used now.
  func apps(_ packets: VPNOptions.PacketSource) throws -> any AppSide {
    switch packets {
    case .packetFlow: return flow
    case .descriptor:
      guard let tun = tuns.last else { throw WaitedInVain("an interface") }
      return tun
    }
  }
}

extension AnyTLSPacketTunnelProvider {
  /// As the system starts it.
  func startTunnel(options: [String: NSObject]?) async throws {
    try await withCheckedThrowingContinuation { (done: CheckedContinuation<Void, any Error>) in
      startTunnel(options: options) { error in
        if let error { done.resume(throwing: error) } else { done.resume() }
      }
    }
  }

  func stopTunnel(with reason: NEProviderStopReason) async {
    await withCheckedContinuation { done in stopTunnel(with: reason) { done.resume() } }
  }
}

extension VPNConfig {
  init(text: String, packets: VPNOptions.PacketSource) {
    self.init(text: text)
    options.packets = packets
  }
}

/// What of the settings the tests look at.
struct SettingsSeen: Sendable, Hashable {
  var remote: String
  var mtu: Int?
  var addresses: [String]
  var excluded: [String]
  var dns: [String]

  init(_ settings: NEPacketTunnelNetworkSettings) {
    remote = settings.tunnelRemoteAddress
    mtu = settings.mtu?.intValue
    addresses = (settings.ipv4Settings?.addresses ?? []) + (settings.ipv6Settings?.addresses ?? [])
    excluded =
      (settings.ipv4Settings?.excludedRoutes ?? []).map(\.destinationAddress)
      + (settings.ipv6Settings?.excludedRoutes ?? []).map(\.destinationAddress)
    dns = settings.dnsSettings?.servers ?? []
  }
}

/// Passes on to a stream what a test says, to each that is open, and to one that is opened later what was said last.
final class Subject<Element: Sendable>: @unchecked Sendable {
  private let lock = NSLock()
  private var latest: Element?
  private var open: [Int: AsyncStream<Element>.Continuation] = [:]
  private var last = 0

  var streams: Int { lock.withLock { open.count } }

  func say(_ element: Element) {
    let all = lock.withLock {
      latest = element
      return Array(open.values)
    }
    for stream in all { stream.yield(element) }
  }

  func stream() -> AsyncStream<Element> {
    let (stream, continuation) = AsyncStream<Element>.makeStream()
    let id = lock.withLock {
      last += 1
      open[last] = continuation
      if let latest { continuation.yield(latest) }
      return last
    }
    continuation.onTermination = { [weak self] _ in self?.close(id) }
    return stream
  }

  private func close(_ id: Int) {
    _ = lock.withLock { open.removeValue(forKey: id) }
  }
}

/// Holds up whoever comes while it is shut.
final class Gate: @unchecked Sendable {
  private let lock = NSLock()
  private var isShut = false
  private var passes = 0
  private var arrived = 0

  /// How many have come so far.
  var arrivals: Int { lock.withLock { arrived } }

  /// Lets so many more through before that.
  func shut(after passes: Int = 0) { lock.withLock { (isShut, self.passes) = (true, passes) } }

  func open() { lock.withLock { isShut = false } }

  func pass() async throws {
    let passes = lock.withLock {
      arrived += 1
      defer { self.passes -= 1 }
      return self.passes > 0
    }
    if !passes { try await waitUntil("the gate opens") { lock.withLock { !isShut } } }
  }
}

final class TestClock: @unchecked Sendable {
  private let lock = NSLock()
  private var time = Date(timeIntervalSince1970: 1_700_000_000)

  var now: Date { lock.withLock { time } }

  func pass(_ seconds: TimeInterval) { lock.withLock { time += seconds } }
}

extension Breadcrumb {
  static func temporary() -> Breadcrumb {
    let name = "anytls-mobile-tests/\(UUID().uuidString)/last-run.json"
    return Breadcrumb(file: FileManager.default.temporaryDirectory.appendingPathComponent(name))
  }
}

/// An IPv4 address of this machine that is not the loopback's; nil when it has none.
func ownAddress() -> IPAddress? {
  var list: UnsafeMutablePointer<ifaddrs>?
  guard getifaddrs(&list) == 0 else { return nil }
  defer { freeifaddrs(list) }
  var next = list
  while let entry = next?.pointee {
    next = entry.ifa_next
    guard let address = entry.ifa_addr, Int32(address.pointee.sa_family) == AF_INET else { continue }
    let number = address.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { $0.pointee.sin_addr.s_addr }
    let bytes = withUnsafeBytes(of: number) { [UInt8]($0) }
    if bytes.first != 127 { return IPAddress(bytes: bytes) }
  }
  return nil
}
