import Foundation

#if canImport(Glibc)
  import Glibc
  public let streamSocket = Int32(SOCK_STREAM.rawValue)
  public let datagramSocket = Int32(SOCK_DGRAM.rawValue)
  /// Keeps the borders of packets, and says when the other end has gone.
  public let packetSocket = Int32(SOCK_SEQPACKET.rawValue)
  let noSignal = Int32(MSG_NOSIGNAL)
#else
  import Darwin
  public let streamSocket = SOCK_STREAM
  public let datagramSocket = SOCK_DGRAM
  public let packetSocket = SOCK_DGRAM
  let noSignal: Int32 = 0
#endif

/// What `errno` says of a call that has failed.
public struct SystemError: Error, CustomStringConvertible {
  public let code: Int32
  public let call: String

  public var description: String { "\(call): \(String(cString: strerror(code)))" }
}

/// One end of a connected pair of sockets, which a test keeps; the other is handed over. Reading waits for nobody.
public final class SocketEnd: @unchecked Sendable {
  private let lock = NSLock()
  private var fd: Int32

  init(_ fd: Int32) {
    self.fd = fd
    _ = fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK)
  }

  deinit { close() }

  public func close() {
    lock.withLock {
      if fd >= 0 { closeDescriptor(fd) }
      fd = -1
    }
  }

  public func write(_ data: Data) throws {
    let sent = lock.withLock { data.withUnsafeBytes { send(fd, $0.baseAddress, $0.count, noSignal) } }
    guard sent == data.count else { throw SystemError(code: errno, call: "send") }
  }

  /// Nil while there is nothing; empty at the end.
  public func read(atMost size: Int) throws -> Data? {
    try lock.withLock {
      var buffer = [UInt8](repeating: 0, count: size)
      let length = recv(fd, &buffer, size, 0)
      if length >= 0 { return Data(buffer.prefix(length)) }
      if errno == EAGAIN || errno == EINTR { return nil }
      throw SystemError(code: errno, call: "recv")
    }
  }
}

/// A connected pair of sockets: ours, and the descriptor of the other.
func socketPair(_ type: Int32) throws -> (ours: SocketEnd, theirs: Int32) {
  var pair: [Int32] = [-1, -1]
  #if os(Linux)
    let flags = Int32(SOCK_CLOEXEC.rawValue)
  #else
    let flags: Int32 = 0
  #endif
  guard socketpair(AF_UNIX, type | flags, 0, &pair) == 0 else {
    throw SystemError(code: errno, call: "socketpair")
  }
  return (SocketEnd(pair[0]), pair[1])
}

/// A connected pair of sockets: one end for the tunnel to relay, the other the app's.
public final class StreamPair: Sendable {
  public let ours: SocketEnd
  /// To be handed over, once.
  public let fd: Int32
  private let file: FileIdentity

  public init() throws {
    (ours, fd) = try socketPair(streamSocket)
    file = try FileIdentity(of: fd)
  }

  /// Whether anybody in this process still holds the tunnel's end, under any number.
  public var isHeld: Bool { !file.holders.isEmpty }

  public func write(_ data: Data) throws { try ours.write(data) }

  /// So many bytes, or fewer at the end.
  public func read(_ size: Int) async throws -> Data {
    var all = Data()
    while all.count < size {
      let more = try await eventually("\(size) bytes") { [all] in try ours.read(atMost: size - all.count) }
      if more.isEmpty { break }
      all += more
    }
    return all
  }

  public func close() { ours.close() }
}

public func closeDescriptor(_ fd: Int32) {
  #if canImport(Glibc)
    _ = Glibc.close(fd)
  #else
    _ = Darwin.close(fd)
  #endif
}
