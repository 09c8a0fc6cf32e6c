import AnyTLSCore
import Foundation
import TestSupport
import XCTest

/// What the tunnel asks the app to do. On Apple's systems an app passes nil.
final class PlatformTests: XCTestCase {
  func testASocketIsProtectedBeforeItConnects() async throws {
    let seen = Collector<Bool>()
    let platform = AppPlatform(protect: { socket in
      var address = sockaddr_storage()
      var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
      let result = withUnsafeMutablePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getpeername(socket, $0, &length) }
      }
      seen.add(result == -1 && errno == ENOTCONN)
      return true
    })
    try await withTunnel(platform: platform) { rig in
      try await rig.ears.state(.connected)
      let isSocketBeforeItConnects = try await seen.take("a socket to protect")
      XCTAssertTrue(isSocketBeforeItConnects)
    }
  }

  func testASocketThatTheAppDoesNotProtectNeverConnects() async throws {
    let reason = "what the app says of it"
    let refusals: [(any Error & Sendable)?] = [nil, CallbackError.Failed(reason: reason), OnPurpose()]
    for refusal in refusals {
      let silent = try SilentPort()
      let platform = AppPlatform(protect: { _ in if let refusal { throw refusal } else { false } })
      try await withTunnel(platform: platform) {
        $0.port = silent.port
      } body: { rig in
        let (_, failure) = try await rig.ears.reconnecting()
        assertFailure(failure, "dial.protect", isRetryable: false)
        XCTAssertEqual(failure.detail.contains(reason), refusal is CallbackError, failure.detail)
        await assertFails("dial.protect", isRetryable: false) {
          _ = try await rig.tunnel.testLatency(destination: "127.0.0.1:80")
        }
        XCTAssertNil(silent.connection())
      }
    }
  }

  func testTheAppFindsTheServerByItsName() async throws {
    let asked = Collector<String>()
    let platform = AppPlatform(resolve: { host in
      asked.add(host)
      return ["127.0.0.1"]
    })
    try await withTunnel(platform: platform) {
      $0.host = "vpn.example"
    } body: { rig in
      try await rig.ears.state(.connected)
      XCTAssertEqual(asked.all.first, "vpn.example")
    }
  }

  func testTheAppMayLeaveANameToTheSystem() async throws {
    try await withTunnel(platform: AppPlatform()) {
      $0.host = "localhost"
    } body: { rig in
      try await rig.ears.state(.connected)
    }
  }

  func testAServerWhoseNameTheAppDoesNotFindIsNotReached() async throws {
    let answers: [@Sendable (String) throws -> [String]?] = [
      { _ in [] },
      { _ in ["no address"] },
      { _ in throw CallbackError.Failed(reason: "no such name") },
      { _ in throw OnPurpose() },
    ]
    for answer in answers {
      try await withTunnel(platform: AppPlatform(resolve: answer)) {
        $0.host = "vpn.example"
      } body: { rig in
        let (_, failure) = try await rig.ears.reconnecting()
        assertFailure(failure, "dial.resolve", isRetryable: true)
      }
    }
  }
}
