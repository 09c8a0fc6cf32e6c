import Foundation

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// A TCP server in this process, on every address of the machine. `serve` gets each connection on its own thread.
open class Target: @unchecked Sendable {
  private let listener: Int32
  public let port: UInt16

  public init(_ serve: @escaping @Sendable (Connection) throws -> Void) throws {
    (listener, port) = try listen(any: true)
    let listener = listener
    Thread.detachNewThread {
      while true {
        let fd = accept(listener, nil, nil)
        if fd < 0 && errno == EINTR { continue }
        guard fd >= 0 else { break }
        Thread.detachNewThread {
          let connection = Connection(fd)
          try? serve(connection)  // what goes wrong is the peer's business
          connection.close()
        }
      }
      closeDescriptor(listener)
    }
  }

  deinit { stop() }

  /// Lets nobody in any more.
  public func stop() { shutdown(listener, Int32(SHUT_RDWR)) }
}

/// What a `Target` serves: reading and writing wait.
public final class Connection {
  private let fd: Int32

  init(_ fd: Int32) { self.fd = fd }

  /// Empty at the end.
  public func read(atMost size: Int = 65_536) throws -> Data {
    var buffer = [UInt8](repeating: 0, count: size)
    let length = recv(fd, &buffer, size, 0)
    guard length >= 0 else { throw SystemError(code: errno, call: "recv") }
    return Data(buffer.prefix(length))
  }

  public func read(exactly size: Int) throws -> Data {
    var all = Data()
    while all.count < size {
      let more = try read(atMost: size - all.count)
      guard !more.isEmpty else { throw SystemError(code: ECONNRESET, call: "recv") }
      all += more
    }
    return all
  }

  public func write(_ data: Data) throws {
    var rest = data
    while !rest.isEmpty {
      let sent = rest.withUnsafeBytes { send(fd, $0.baseAddress, $0.count, noSignal) }
      guard sent > 0 else { throw SystemError(code: errno, call: "send") }
      rest = rest.dropFirst(sent)
    }
  }

  func close() { closeDescriptor(fd) }
}

/// Sends back what comes, and ends when the peer does.
public final class EchoTarget: Target, @unchecked Sendable {
  public init() throws {
    try super.init { connection in
      while true {
        let data = try connection.read()
        if data.isEmpty { break }
        try connection.write(data)
      }
    }
  }
}

/// Says that every name has the address `NameServer.address`, over TCP.
public final class NameServer: Target, @unchecked Sendable {
  public static let address: IPAddress = "192.0.2.7"

  public init() throws {
    try super.init { connection in
      while true {
        let size = [UInt8](try connection.read(exactly: 2))
        let query = try connection.read(exactly: Int(readWord(size[...])))
        let answer = DNSMessage.answer(to: query, Self.address)
        try connection.write(Data(word(answer.count)) + answer)
      }
    }
  }
}

/// RFC 1035.
public enum DNSMessage {
  /// A query for the IPv4 address of a name.
  public static func question(id: UInt16, _ name: String) -> Data {
    let labels: [UInt8] = name.split(separator: ".").flatMap { [UInt8($0.utf8.count)] + [UInt8]($0.utf8) }
    return Data(joined(word(id), [1, 0, 0, 1, 0, 0, 0, 0, 0, 0], labels, [0, 0, 1, 0, 1]))
  }

  public static func id(of message: Data) -> UInt16 { readWord([UInt8](message.prefix(2))[...]) }

  /// The address in an answer that ends with one.
  public static func address(in answer: Data) -> IPAddress { IPAddress(bytes: [UInt8](answer.suffix(4))) }

  static func answer(to query: Data, _ address: IPAddress) -> Data {
    let query = [UInt8](query)
    var end = 12
    while end < query.count, query[end] != 0 { end += 1 + Int(query[end]) }
    let question = Array(query[12..<min(end + 5, query.count)])
    let record: [UInt8] = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]
    let header: [UInt8] = [0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]
    return Data(joined(Array(query[..<2]), header, question, record, address.bytes))
  }
}

/// A port that lets connections in and never says anything.
public final class SilentPort: @unchecked Sendable {
  private let listener: Int32
  public let port: UInt16

  public init() throws {
    (listener, port) = try listen(any: false)
    _ = fcntl(listener, F_SETFL, O_NONBLOCK)
  }

  deinit { closeDescriptor(listener) }

  /// The next connection, if one has come.
  public func connection() -> SocketEnd? {
    let fd = accept(listener, nil, nil)
    return fd < 0 ? nil : SocketEnd(fd)
  }
}

/// A port that lets no connection in: its queue is full, and nobody takes from it.
public final class FullPort: @unchecked Sendable {
  private let listener: Int32
  private var waiting: [Int32] = []
  public let port: UInt16

  public init() throws {
    (listener, port) = try listen(any: false, queue: 0)
    // What does not fit is not answered.
    for _ in 0..<4 { waiting.append(try connecting(to: port)) }
  }

  deinit { for fd in waiting + [listener] { closeDescriptor(fd) } }
}

extension SocketEnd {
  /// Waits until the peer has ended the connection.
  public func awaitEnd() async throws {
    try await waitUntil("the peer has ended the connection") {
      while true {
        do {
          guard let data = try read(atMost: 4096) else { return false }
          if data.isEmpty { return true }
        } catch is SystemError {
          return true  // reset
        }
      }
    }
  }
}

/// Sends datagrams back where they come from.
public final class UDPEcho: @unchecked Sendable {
  private let socket: Int32
  public let port: UInt16

  public init() throws {
    (socket, port) = try bound(datagramSocket, any: true)
    let socket = socket
    Thread.detachNewThread {
      var buffer = [UInt8](repeating: 0, count: 65_536)
      while true {
        var peer = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let size = withUnsafeMutablePointer(to: &peer) {
          $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            recvfrom(socket, &buffer, buffer.count, 0, $0, &length)
          }
        }
        guard size > 0 else { break }
        _ = withUnsafePointer(to: &peer) {
          $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { sendto(socket, buffer, size, 0, $0, length) }
        }
      }
      closeDescriptor(socket)
    }
  }

  deinit { stop() }

  public func stop() { shutdown(socket, Int32(SHUT_RDWR)) }
}

/// An IPv4 address of this machine that a tunnel takes packets for: the loopback's are nobody's out there.
public func ownAddress() -> IPAddress? {
  var first: UnsafeMutablePointer<ifaddrs>?
  guard getifaddrs(&first) == 0 else { return nil }
  defer { freeifaddrs(first) }
  for entry in sequence(first: first, next: { $0?.pointee.ifa_next }) {
    guard let address = entry?.pointee.ifa_addr, address.pointee.sa_family == AF_INET else { continue }
    let number = address.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { $0.pointee.sin_addr.s_addr }
    let bytes = withUnsafeBytes(of: number) { [UInt8]($0) }
    if bytes.first != 127 { return IPAddress(bytes: bytes) }
  }
  return nil
}

/// A port of the loopback on which nobody listens.
public func deadPort() throws -> UInt16 {
  let (fd, port) = try bound(streamSocket, any: false)
  closeDescriptor(fd)
  return port
}

private func listen(any: Bool, queue: Int32 = 16) throws -> (Int32, UInt16) {
  let (fd, port) = try bound(streamSocket, any: any)
  #if canImport(Glibc)
    let result = Glibc.listen(fd, queue)
  #else
    let result = Darwin.listen(fd, queue)
  #endif
  guard result == 0 else { throw SystemError(code: errno, call: "listen") }
  return (fd, port)
}

/// A socket that has begun to connect.
private func connecting(to port: UInt16) throws -> Int32 {
  let fd = socket(AF_INET, streamSocket, 0)
  guard fd >= 0 else { throw SystemError(code: errno, call: "socket") }
  _ = fcntl(fd, F_SETFD, FD_CLOEXEC)
  _ = fcntl(fd, F_SETFL, O_NONBLOCK)
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_port = port.bigEndian
  address.sin_addr.s_addr = INADDR_LOOPBACK.bigEndian
  let length = socklen_t(MemoryLayout<sockaddr_in>.size)
  let result = withUnsafePointer(to: &address) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(fd, $0, length) }
  }
  guard result == 0 || errno == EINPROGRESS else { throw SystemError(code: errno, call: "connect") }
  return fd
}

/// A socket of IPv4 on a free port.
private func bound(_ type: Int32, any: Bool) throws -> (Int32, UInt16) {
  let fd = socket(AF_INET, type, 0)
  guard fd >= 0 else { throw SystemError(code: errno, call: "socket") }
  _ = fcntl(fd, F_SETFD, FD_CLOEXEC)
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = (any ? INADDR_ANY : INADDR_LOOPBACK).bigEndian
  var length = socklen_t(MemoryLayout<sockaddr_in>.size)
  let result = withUnsafeMutablePointer(to: &address) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
      bind(fd, pointer, length) == 0 && getsockname(fd, pointer, &length) == 0
    }
  }
  guard result else { throw SystemError(code: errno, call: "bind") }
  return (fd, UInt16(bigEndian: address.sin_port))
}
