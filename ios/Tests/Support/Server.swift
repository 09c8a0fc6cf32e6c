import Foundation

/// An AnyTLS server: the project's own program as a child process. `ANYTLS_NATIVE` names the folder it is in.
public final class TestServer: @unchecked Sendable {
  public static let password = "correct-horse-4711"

  private let process = Process()
  /// It ends with this, and so with the test's process, however that ends.
  private let input = Pipe()
  public let port: UInt16

  public init(port: UInt16 = 0) throws {
    guard let folder = ProcessInfo.processInfo.environment["ANYTLS_NATIVE"] else {
      throw NoServer("ANYTLS_NATIVE does not say where the program is: scripts/test-swift does")
    }
    let output = Pipe()
    let program = URL(fileURLWithPath: folder).appendingPathComponent("anytls-mobile").path
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.arguments = [
      "-c", Self.untilInputEnds, program, "serve", "--listen", "127.0.0.1:\(port)", "--password",
      Self.password,
    ]
    process.standardOutput = output
    process.standardError = output
    process.standardInput = input
    try process.run()

    var said = Data()
    var found: UInt16?
    while found == nil {
      let more = output.fileHandleForReading.availableData
      guard !more.isEmpty else {
        throw NoServer("the server has ended: \(String(decoding: said, as: UTF8.self))")
      }
      said += more
      found = Self.listeningPort(in: String(decoding: said, as: UTF8.self))
    }
    self.port = found ?? 0
    // Its log must not fill the pipe.
    output.fileHandleForReading.readabilityHandler = { handle in
      if handle.availableData.isEmpty { handle.readabilityHandler = nil }
    }
  }

  deinit { stop() }

  /// Returns when it has ended.
  public func stop() {
    guard process.isRunning else { return }
    try? input.fileHandleForWriting.close()
    process.waitUntilExit()
  }

  /// The shell becomes the program; another one waits beside it. No milder signal: Foundation starts it from a thread
  /// that lets none through, and the child keeps to that.
  private static let untilInputEnds =
    #"exec 3<&0; { read -r _ <&3; kill -KILL $$; } >/dev/null 2>&1 & exec "$0" "$@" </dev/null 3<&-"#

  /// A config for it. Its certificate is made for the run, so nobody could trust it.
  public var uri: String { uri(host: "127.0.0.1") }

  /// The same by another name.
  public func uri(host: String) -> String {
    "anytls://\(Self.password)@\(host):\(port)/?insecure=1"
  }

  /// A config for it in JSON.
  public func config(_ change: (inout Settings) -> Void = { _ in }) -> String {
    var settings = Settings(port: port)
    change(&settings)
    return settings.json
  }

  private static func listeningPort(in text: String) -> UInt16? {
    for line in text.split(separator: "\n", omittingEmptySubsequences: false).dropLast()
    where line.contains("listening") {
      guard let address = line.range(of: "127.0.0.1:") else { continue }
      return UInt16(line[address.upperBound...].prefix { $0.isNumber })
    }
    return nil
  }
}

public struct NoServer: Error, CustomStringConvertible {
  public let description: String

  init(_ description: String) { self.description = description }
}

/// A config; what is given in JSON is put into the object of that name.
public struct Settings: Sendable {
  public var host = "127.0.0.1"
  public var port: UInt16
  public var password = TestServer.password
  public var server = ""
  public var tls = #""insecure": true"#
  public var tun = ""
  public var dns = ""
  public var log = ""

  public init(port: UInt16) { self.port = port }

  public var json: String {
    let more = server.isEmpty ? "" : ", \(server)"
    return """
      {
        "log": { \(log) },
        "server": { "server": "\(host)", "server_port": \(port), "password": "\(password)", "tls": { \(tls) }\(more) },
        "tun": { \(tun) },
        "dns": { \(dns) }
      }
      """
  }
}
