import Foundation
import NetworkExtension
import TestSupport

/// A system's packet flow, without the system.
final class TestFlow: NEPacketTunnelFlow, @unchecked Sendable, AppSide {
  /// Packets to the apps with the numbers of their families.
  let written = Collector<Written>()
  struct Written: Sendable {
    var packet: Data
    var family: Int32
  }

  private let queue = DispatchQueue(label: "test flow")
  private let lock = NSLock()
  private var handlers: [@Sendable ([Data], [NSNumber]) -> Void] = []
  private var waiting: [Data] = []

  /// How many handlers wait for packets.
  var readers: Int { lock.withLock { handlers.count } }

  override func readPackets(completionHandler: @escaping @Sendable ([Data], [NSNumber]) -> Void) {
    lock.withLock { handlers.append(completionHandler) }
    deliver()
  }

  override func writePackets(_ packets: [Data], withProtocols protocols: [NSNumber]) -> Bool {
    written.add(zip(packets, protocols).map { Written(packet: $0, family: $1.int32Value) })
    return true
  }

  func send(_ packet: IPPacket) throws { send([packet.data]) }

  func send(_ packets: [Data]) {
    lock.withLock { waiting += packets }
    deliver()
  }

  func receive<T: Sendable>(_ what: String, _ fit: @escaping @Sendable (IPPacket) -> T?) async throws -> T {
    try await written.take(what) { IPPacket($0.packet).flatMap(fit) }
  }

  private func deliver() {
    queue.async { [self] in
      let (handler, packets) = lock.withLock { () -> ((@Sendable ([Data], [NSNumber]) -> Void)?, [Data]) in
        guard !waiting.isEmpty, !handlers.isEmpty else { return (nil, []) }
        defer { waiting = [] }
        return (handlers.removeFirst(), waiting)
      }
      handler?(packets, packets.map { _ in NSNumber(value: AF_INET) })
    }
  }
}

/// Where apps send and receive packets.
protocol AppSide: Sendable {
  func send(_ packet: IPPacket) throws
  func receive<T: Sendable>(_ what: String, _ fit: @escaping @Sendable (IPPacket) -> T?) async throws -> T
}

extension TestTun: AppSide {}

extension AppSide {
  /// An echo request is answered.
  func ping(_ text: String = "a ping") async throws {
    try send(.ping(from: "172.19.0.1", to: "192.0.2.1", Data(text.utf8)))
    let pong = IPPacket.pong(from: "192.0.2.1", to: "172.19.0.1", Data(text.utf8))
    try await receive("a pong") { $0 == pong ? () : nil }
  }
}
