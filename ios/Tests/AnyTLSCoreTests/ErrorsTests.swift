import AnyTLSCore
import Foundation
import TestSupport
import XCTest

/// Every error that an app can bring about, and what becomes of the descriptors.
final class ErrorsTests: XCTestCase {
  func testAStartWithABadConfigFailsAndClosesTheTUN() async throws {
    let (tunnel, tun) = try (Tunnel(platform: nil), TestTun())
    var settings = Settings(port: 443)
    settings.server = #""heartbeat": 1, "max_sessions": "many""#
    let error = await assertFails("config", isRetryable: false) {
      try await tunnel.start(config: settings.json, tun: tun.fd)
    }
    guard case .Config(let problems) = error else { return XCTFail("\(String(describing: error))") }
    let paths = problems.filter { $0.severity == .error }.map(\.path)
    XCTAssertEqual(Set(paths), ["server.heartbeat", "server.max_sessions"])
    XCTAssertFalse(tun.isHeld)
    XCTAssertEqual(tunnel.state(), .stopped)
  }

  func testAStartWithoutADescriptorFails() async throws {
    let tunnel = Tunnel(platform: nil)
    for number in [-1, Int32.max] {
      await assertFails("descriptor", isRetryable: false) {
        try await tunnel.start(config: Settings(port: 443).json, tun: number)
      }
    }
    XCTAssertEqual(tunnel.state(), .stopped)
  }

  func testAStartWithAFileThatNobodyCanWaitForFailsAndClosesIt() async throws {
    let url = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    try Data().write(to: url)
    defer { try? FileManager.default.removeItem(at: url) }
    let fd = open(url.path, O_RDWR)
    let file = try FileIdentity(of: fd)
    await assertFails("tun", isRetryable: false) {
      try await Tunnel(platform: nil).start(config: Settings(port: 443).json, tun: fd)
    }
    XCTAssertEqual(file.holders, [])
  }

  func testASecondStartFailsClosesItsTUNAndLeavesTheFirstAlone() async throws {
    try await withTunnel { rig in
      let second = try TestTun()
      await assertFails("already_started", isRetryable: false) {
        try await rig.tunnel.start(config: rig.server.uri, tun: second.fd)
      }
      XCTAssertFalse(second.isHeld)
      try rig.tun.send(.ping(from: "172.19.0.1", to: "192.0.2.1", Data([1])))
      _ = try await rig.tun.receive("a pong")
    }
  }

  func testAStartWithCertificatesThatAreNotThereFailsAndClosesTheTUN() async throws {
    let (tunnel, tun) = try (Tunnel(platform: nil), TestTun())
    var settings = Settings(port: 443)
    settings.tls = #""certificate_path": "/nowhere/ca.pem""#
    await assertFails("tls_settings", isRetryable: false) {
      try await tunnel.start(config: settings.json, tun: tun.fd)
    }
    XCTAssertFalse(tun.isHeld)
  }

  func testAReloadWithWhatCannotChangeFailsAndChangesNothing() async throws {
    try await withTunnel { rig in
      await assertFails("tun_settings", isRetryable: false) {
        try await rig.tunnel.reload(config: rig.server.config { $0.tun = #""mtu": 1400"# })
      }
      await assertFails("config", isRetryable: false) { try await rig.tunnel.reload(config: "{}") }
      await assertFails("tls_settings", isRetryable: false) {
        let tls = #""certificate_path": "/nowhere/ca.pem""#
        try await rig.tunnel.reload(config: rig.server.config { $0.tls = tls })
      }
      try await rig.ears.state(.connected)
      try await rig.tunnel.reload(config: rig.server.config())
    }
  }

  func testATunnelThatIsOffDoesNothingButSaySo() async throws {
    let tunnel = Tunnel(platform: nil)
    await assertFails("not_started", isRetryable: false) {
      try await tunnel.reload(config: Settings(port: 443).json)
    }
    await assertFails("not_started", isRetryable: false) {
      _ = try await tunnel.testLatency(destination: "127.0.0.1:80")
    }
    let socket = try StreamPair()
    await assertFails("not_started", isRetryable: false) {
      _ = try tunnel.connectStream(socket: socket.fd, destination: "127.0.0.1:80")
    }
    XCTAssertFalse(socket.isHeld)
    XCTAssertFalse(tunnel.closeConnection(id: 1))
    XCTAssertEqual(tunnel.sessions(), [])
    XCTAssertEqual(tunnel.connections(), [])
    XCTAssertEqual(tunnel.state(), .stopped)
    await tunnel.stop()
  }

  func testAStreamWithoutASocketFailsAndClosesWhatItWasGiven() async throws {
    try await withTunnel { rig in
      await assertFails("descriptor", isRetryable: false) {
        _ = try rig.tunnel.connectStream(socket: -1, destination: "127.0.0.1:80")
      }
      let packets = try TestTun()
      await assertFails("descriptor", isRetryable: false) {
        _ = try rig.tunnel.connectStream(socket: packets.fd, destination: "127.0.0.1:80")
      }
      XCTAssertFalse(packets.isHeld)
      let pipe = Pipe()
      let fd = dup(pipe.fileHandleForReading.fileDescriptor)
      await assertFails("descriptor", isRetryable: false) {
        _ = try rig.tunnel.connectStream(socket: fd, destination: "127.0.0.1:80")
      }
      XCTAssertEqual(fcntl(fd, F_GETFD), -1)
    }
  }

  func testADestinationIsAHostAndAPort() async throws {
    try await withTunnel { rig in
      for text in ["", "name.example", "name.example:", "name.example:70000", ":80"] {
        let socket = try StreamPair()
        await assertFails("destination", isRetryable: false) {
          _ = try rig.tunnel.connectStream(socket: socket.fd, destination: text)
        }
        XCTAssertFalse(socket.isHeld, text)
        await assertFails("destination", isRetryable: false) {
          _ = try await rig.tunnel.testLatency(destination: text)
        }
      }
    }
  }

  func testAServerThatIsNotThereIsSaidToRefuse() async throws {
    try await assertDialFails("dial.refused", isRetryable: true) { $0.port = try deadPort() }
  }

  func testAWrongPasswordIsTheUsersToChange() async throws {
    try await assertDialFails("dial.authentication", isRetryable: false) { $0.password = "wrong" }
  }

  func testACertificateOfNobodysIsNotTrusted() async throws {
    try await assertDialFails("dial.certificate", isRetryable: false) { $0.tls = "" }
  }

  func testAServerThatDoesNotAnswerIsGivenUp() async throws {
    let full = try FullPort()
    try await assertDialFails("dial.timeout", isRetryable: true) {
      $0.port = full.port
      $0.server = #""connect_timeout": "1s""#
    }
  }

  func testADestinationThatTheServerCannotReachIsRefused() async throws {
    let dead = try deadPort()
    try await withTunnel { rig in
      await assertFails("refused", isRetryable: true) {
        _ = try await rig.tunnel.testLatency(destination: "127.0.0.1:\(dead)")
      }
    }
  }

  func testWithoutANetworkNothingIsTried() async throws {
    try await withTunnel { rig in
      rig.tunnel.networkChanged(path: nil)
      try await rig.ears.state(.waitingForNetwork)
      await assertFails("offline", isRetryable: true) {
        _ = try await rig.tunnel.testLatency(destination: "127.0.0.1:80")
      }
    }
  }

  private func assertDialFails(
    _ code: String, isRetryable: Bool, line: UInt = #line, _ change: (inout Settings) throws -> Void
  ) async throws {
    try await withTunnel(change) { rig in
      let error = await assertFails(code, isRetryable: isRetryable, line: line) {
        _ = try await rig.tunnel.testLatency(destination: "127.0.0.1:80")
      }
      guard case .Dial(let failure) = error else {
        return XCTFail("\(String(describing: error))", line: line)
      }
      XCTAssertEqual(failure, error?.failure(), line: line)
      let state = try await rig.ears.reconnecting(code: code)
      assertFailure(state.failure, code, isRetryable: isRetryable, line: line)
    }
  }
}
