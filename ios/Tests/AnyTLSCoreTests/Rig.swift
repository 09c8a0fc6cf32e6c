import AnyTLSCore
import Foundation
import TestSupport
import XCTest

/// A tunnel, the server and the TUN that it was started with, and what it says.
struct Rig: Sendable {
  let server: TestServer
  let tunnel: Tunnel
  let tun: TestTun
  let ears: Ears
}

/// Runs a tunnel over a TUN made of sockets, and stops it after the body.
func withTunnel(
  platform: (any Platform)? = nil,
  _ change: (inout Settings) throws -> Void = { _ in },
  body: (Rig) async throws -> Void
) async throws {
  let rig = try Rig(
    server: TestServer(), tunnel: Tunnel(platform: platform), tun: TestTun(), ears: Ears())
  defer { rig.server.stop() }
  var settings = Settings(port: rig.server.port)
  try change(&settings)
  _ = try rig.tunnel.subscribe(listener: rig.ears, statsInterval: nil)
  try await rig.tunnel.start(config: settings.json, tun: rig.tun.fd)
  do {
    try await body(rig)
  } catch {
    await rig.tunnel.stop()
    throw error
  }
  await rig.tunnel.stop()
}

/// What the app may do for the tunnel, as far as a test says.
final class AppPlatform: Platform {
  private let protecting: @Sendable (Int32) throws -> Bool
  private let resolving: @Sendable (String) throws -> [String]?

  init(
    protect: @escaping @Sendable (Int32) throws -> Bool = { _ in true },
    resolve: @escaping @Sendable (String) throws -> [String]? = { _ in nil }
  ) {
    protecting = protect
    resolving = resolve
  }

  func protect(socket: Int32) throws -> Bool { try protecting(socket) }

  func resolve(host: String) throws -> [String]? { try resolving(host) }
}

/// An error of the app's own.
struct OnPurpose: Error {}

/// What the call throws: with that code and advice, words for people, and no secrets.
@discardableResult
func assertFails(
  _ code: String, isRetryable: Bool, file: StaticString = #filePath, line: UInt = #line,
  _ call: () async throws -> Void
) async -> TunnelError? {
  do {
    try await call()
    XCTFail("nothing was thrown instead of \(code)", file: file, line: line)
  } catch let error as TunnelError {
    assertFailure(error.failure(), code, isRetryable: isRetryable, file: file, line: line)
    assertNoSecret("\(error) \(error.localizedDescription)", file: file, line: line)
    return error
  } catch {
    XCTFail("\(error) instead of \(code)", file: file, line: line)
  }
  return nil
}

func assertFailure(
  _ failure: Failure, _ code: String, isRetryable: Bool, file: StaticString = #filePath, line: UInt = #line
) {
  XCTAssertEqual(failure.code, code, "\(failure)", file: file, line: line)
  XCTAssertEqual(failure.isRetryable, isRetryable, "\(failure)", file: file, line: line)
  XCTAssertFalse(failure.userMessage.isEmpty, "\(failure)", file: file, line: line)
  XCTAssertFalse(failure.detail.isEmpty, "\(failure)", file: file, line: line)
  assertNoSecret("\(failure)", file: file, line: line)
}

/// Neither the password nor its SHA-256, which is what is sent of it.
func assertNoSecret(_ text: String, file: StaticString = #filePath, line: UInt = #line) {
  let hex = "d2f7cf9bf13a7544b62036f7c0bbc0ae49e8ea582b529d727c899e530f67c0ed"
  let base64 = "0vfPm/E6dUS2IDb3wLvArkno6lgrUp1yfImeUw9nwO0="
  for secret in [TestServer.password, hex, base64] {
    XCTAssertFalse(text.contains(secret), "a secret stands in: \(text)", file: file, line: line)
  }
}
