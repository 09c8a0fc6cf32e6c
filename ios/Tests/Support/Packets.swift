import Foundation

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// An IP packet without options, made or read by hand. RFC 791, 8200.
public struct IPPacket: Sendable, Hashable {
  public static let icmp: UInt8 = 1
  public static let tcp: UInt8 = 6
  public static let udp: UInt8 = 17
  public static let icmpV6: UInt8 = 58

  public var proto: UInt8
  public var source: IPAddress
  public var destination: IPAddress
  public var payload: [UInt8]

  /// Fills in the checksum of what it carries.
  init(_ proto: UInt8, _ source: IPAddress, _ destination: IPAddress, _ payload: [UInt8]) {
    self.proto = proto
    self.source = source
    self.destination = destination
    self.payload = payload
    let place: Int
    switch proto {
    case Self.icmp, Self.icmpV6: place = 2
    case Self.tcp: place = 16
    default: place = 6
    }
    // RFC 792 has no pseudo header, all others do.
    let pseudo =
      proto == Self.icmp
      ? [] : joined(source.bytes, destination.bytes, word(payload.count), [0, proto])
    self.payload.replaceSubrange(place..<place + 2, with: checksum(pseudo + payload))
  }

  /// Nil when it is no whole packet.
  public init?(_ data: Data) {
    let bytes = [UInt8](data)
    let (header, width): (Int, Int)
    switch bytes.first.map({ $0 >> 4 }) {
    case 4: (header, width) = (20, 4)
    case 6: (header, width) = (40, 16)
    default: return nil
    }
    guard bytes.count >= header else { return nil }
    proto = bytes[width == 4 ? 9 : 6]
    source = IPAddress(bytes: Array(bytes[(header - 2 * width)..<(header - width)]))
    destination = IPAddress(bytes: Array(bytes[(header - width)..<header]))
    payload = Array(bytes[header...])
  }

  public var data: Data {
    var header: [UInt8]
    if source.isV4 {
      // version and length (1), service (1), total (2), id (2), fragment (2), hops (1), protocol (1), checksum (2)
      header = joined([0x45, 0], word(20 + payload.count), [0, 0, 0, 0, 64, proto, 0, 0])
      header.replaceSubrange(10..<12, with: checksum(joined(header, source.bytes, destination.bytes)))
    } else {
      // version, class and label (4), payload's length (2), next header (1), hops (1)
      header = joined([0x60, 0, 0, 0], word(payload.count), [proto, 64])
    }
    return Data(joined(header, source.bytes, destination.bytes, payload))
  }

  /// An echo request. RFC 792, 4443.
  public static func ping(from: IPAddress, to: IPAddress, _ data: Data) -> IPPacket {
    echo(type: from.isV4 ? 8 : 128, from, to, data)
  }

  /// What answers a ping, made by the one that was pinged.
  public static func pong(from: IPAddress, to: IPAddress, _ data: Data) -> IPPacket {
    echo(type: from.isV4 ? 0 : 129, from, to, data)
  }

  public static func udp(from: Endpoint, to: Endpoint, _ datagram: Data) -> IPPacket {
    IPPacket(
      udp, from.address, to.address,
      joined(word(from.port), word(to.port), word(8 + datagram.count), [0, 0], [UInt8](datagram)))
  }

  /// The datagram, when it is one.
  public var datagram: (from: Endpoint, to: Endpoint, data: Data)? {
    guard proto == Self.udp, payload.count >= 8 else { return nil }
    let (from, to) = ports
    return (from, to, Data(payload[8...]))
  }

  public static func tcp(
    from: Endpoint, to: Endpoint, flags: TCPSegment.Flags, sequence: UInt32, acknowledged: UInt32 = 0,
    _ data: Data = Data()
  ) -> IPPacket {
    // ports (4), sequence (4), acknowledged (4), words of header (1), flags (1), window (2), checksum (2), urgent (2)
    let header = joined(
      word(from.port), word(to.port), longWord(sequence), longWord(acknowledged),
      [5 << 4, flags.rawValue], word(8192), [0, 0, 0, 0])
    return IPPacket(tcp, from.address, to.address, header + [UInt8](data))
  }

  /// The segment, when it is one.
  public var segment: TCPSegment? {
    guard proto == Self.tcp, payload.count >= 20 else { return nil }
    let header = Int(payload[12] >> 4) * 4
    guard payload.count >= header else { return nil }
    let (from, to) = ports
    return TCPSegment(
      from: from, to: to, flags: .init(rawValue: payload[13]), sequence: readLongWord(payload[4..<8]),
      acknowledged: readLongWord(payload[8..<12]), data: Data(payload[header...]))
  }

  private var ports: (Endpoint, Endpoint) {
    (
      Endpoint(source, readWord(payload[0..<2])),
      Endpoint(destination, readWord(payload[2..<4]))
    )
  }

  private static func echo(type: UInt8, _ from: IPAddress, _ to: IPAddress, _ data: Data) -> IPPacket {
    // type (1), code (1), checksum (2), identifier (2), sequence (2)
    IPPacket(from.isV4 ? icmp : icmpV6, from, to, [type, 0, 0, 0, 0, 1, 0, 2] + [UInt8](data))
  }
}

/// RFC 9293.
public struct TCPSegment: Sendable, Hashable {
  public struct Flags: OptionSet, Sendable, Hashable {
    public let rawValue: UInt8
    public static let fin = Flags(rawValue: 1)
    public static let syn = Flags(rawValue: 2)
    public static let reset = Flags(rawValue: 4)
    public static let push = Flags(rawValue: 8)
    public static let ack = Flags(rawValue: 16)

    public init(rawValue: UInt8) { self.rawValue = rawValue }
  }

  public var from: Endpoint
  public var to: Endpoint
  public var flags: Flags
  public var sequence: UInt32
  public var acknowledged: UInt32
  public var data: Data
}

public struct Endpoint: Sendable, Hashable {
  public var address: IPAddress
  public var port: UInt16

  public init(_ address: IPAddress, _ port: UInt16) {
    self.address = address
    self.port = port
  }
}

/// An address of either family; a test writes it as text. What is no address is `::`.
public struct IPAddress: Sendable, Hashable, ExpressibleByStringLiteral, CustomStringConvertible {
  public var bytes: [UInt8]

  public init(bytes: [UInt8]) { self.bytes = bytes }

  public init(_ text: String) {
    bytes = [UInt8](repeating: 0, count: text.contains(":") ? 16 : 4)
    if inet_pton(isV4 ? AF_INET : AF_INET6, text, &bytes) != 1 {
      bytes = [UInt8](repeating: 0, count: 16)
    }
  }

  public init(stringLiteral text: String) { self.init(text) }

  public var isV4: Bool { bytes.count == 4 }

  public var description: String {
    var text = [CChar](repeating: 0, count: 64)
    _ = inet_ntop(isV4 ? AF_INET : AF_INET6, bytes, &text, socklen_t(text.count))
    return text.withUnsafeBufferPointer { $0.baseAddress.map { String(cString: $0) } ?? "" }
  }
}

/// RFC 1071.
private func checksum(_ bytes: [UInt8]) -> [UInt8] {
  var sum: UInt32 = 0
  for (index, byte) in bytes.enumerated() {
    sum += index.isMultiple(of: 2) ? UInt32(byte) << 8 : UInt32(byte)
  }
  while sum > 0xffff { sum = (sum & 0xffff) + (sum >> 16) }
  return word(UInt16(truncatingIfNeeded: ~sum))
}

/// Long sums of arrays keep the compiler busy.
func joined(_ parts: [UInt8]...) -> [UInt8] { Array(parts.joined()) }

func word<N: BinaryInteger>(_ number: N) -> [UInt8] {
  [UInt8(truncatingIfNeeded: number >> 8), UInt8(truncatingIfNeeded: number)]
}

func readWord(_ bytes: ArraySlice<UInt8>) -> UInt16 {
  bytes.reduce(0) { $0 << 8 | UInt16($1) }
}

private func longWord(_ number: UInt32) -> [UInt8] { word(number >> 16) + word(number & 0xffff) }

private func readLongWord(_ bytes: ArraySlice<UInt8>) -> UInt32 {
  bytes.reduce(0) { $0 << 8 | UInt32($1) }
}
