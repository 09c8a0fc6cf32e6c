import Foundation

/// A TUN without root: a pair of sockets that keep packets apart. One end is the tunnel's, this is the apps'.
public final class TestTun: Sendable {
  /// To be handed over, once: whoever takes it closes it.
  public let fd: Int32
  private let ours: SocketEnd
  private let file: FileIdentity

  public init() throws {
    (ours, fd) = try socketPair(packetSocket)
    file = try FileIdentity(of: fd)
  }

  /// Whether anybody in this process still holds the tunnel's end, under any number.
  public var isHeld: Bool { !file.holders.isEmpty }

  /// Sends a packet as an app.
  public func send(_ packet: IPPacket) throws { try ours.write(packet.data) }

  /// The next packet to the apps.
  public func receive(_ what: String = "a packet") async throws -> IPPacket {
    try await receive(what) { $0 }
  }

  /// Passes over packets to the apps until one is fit.
  public func receive<T: Sendable>(_ what: String, _ fit: (IPPacket) -> T?) async throws -> T {
    try await eventually(what) {
      while let data = try ours.read(atMost: 65_536) {
        guard !data.isEmpty else { throw WaitedInVain("the tunnel has closed its TUN before \(what)") }
        if let found = IPPacket(data).flatMap(fit) { return found }
      }
      return nil
    }
  }

  /// As when the system takes the VPN away.
  public func hangUp() { ours.close() }
}

/// An app's TCP connection, in packets; as simple as a TUN that loses nothing allows.
public final class AppSocket {
  private let tun: TestTun
  private let from: Endpoint
  private let to: Endpoint
  private var sent: UInt32 = 1000
  private var received: UInt32 = 0

  public init(_ tun: TestTun, from: Endpoint, to: Endpoint) {
    self.tun = tun
    self.from = from
    self.to = to
  }

  /// Returns when the other side has answered the SYN.
  public func connect() async throws {
    try send(.syn)
    sent += 1
    let answer = try await segment("an answer to the SYN") { _ in true }
    guard answer.flags == [.syn, .ack] else { throw WaitedInVain("a connection; it was refused") }
    received = answer.sequence &+ 1
    try send(.ack)
  }

  public func write(_ data: Data) throws {
    try send([.ack, .push], data)
    sent += UInt32(data.count)
  }

  public func read(_ size: Int) async throws -> Data {
    var all = Data()
    while all.count < size {
      let next = received
      let segment = try await segment("data") { !$0.data.isEmpty && $0.sequence == next }
      all += segment.data
      received = received &+ UInt32(segment.data.count)
      try send(.ack)
    }
    return all
  }

  /// Returns when the other side has reset the connection.
  public func awaitReset() async throws {
    _ = try await segment("a reset") { $0.flags.contains(.reset) }
  }

  private func send(_ flags: TCPSegment.Flags, _ data: Data = Data()) throws {
    try tun.send(.tcp(from: from, to: to, flags: flags, sequence: sent, acknowledged: received, data))
  }

  private func segment(_ what: String, _ fit: (TCPSegment) -> Bool) async throws -> TCPSegment {
    try await tun.receive(what) { packet in
      guard let segment = packet.segment, segment.from == to, segment.to == from else { return nil }
      return fit(segment) ? segment : nil
    }
  }
}
