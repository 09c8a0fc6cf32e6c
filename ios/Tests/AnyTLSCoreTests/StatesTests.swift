import AnyTLSCore
import Foundation
import TestSupport
import XCTest

/// What a tunnel says of how it is doing.
final class StatesTests: XCTestCase {
  func testATunnelGoesFromStoppedToConnectedToStoppedInThatOrder() async throws {
    let server = try TestServer()
    let (tunnel, tun, ears) = try (Tunnel(platform: nil), TestTun(), Ears())
    _ = try tunnel.subscribe(listener: ears, statsInterval: nil)
    try await ears.state(.stopped)
    try await tunnel.start(config: server.uri, tun: tun.fd)
    try await ears.state(.connected)
    XCTAssertEqual(tunnel.state(), .connected)
    await tunnel.stop()
    try await ears.state(.stopped)
    // One that passes quickly may be missed, and none comes out of turn.
    var order: ArraySlice<TunnelState> = [.stopped, .starting, .connecting, .connected, .stopping, .stopped]
    for state in ears.states {
      guard let place = order.firstIndex(of: state) else { return XCTFail("\(ears.states)") }
      order = order[(place + 1)...]
    }
  }

  func testAServerThatGoesAwayIsWaitedForAndFoundAgain() async throws {
    let often = #""idle_session_check_interval": "1s""#
    try await withTunnel {
      $0.server = often
    } body: { rig in
      try await rig.ears.state(.connected)
      rig.server.stop()
      // A dial may have met the server while it was going.
      let (attempt, failure) = try await rig.ears.reconnecting(code: "dial.refused")
      assertFailure(failure, "dial.refused", isRetryable: true)
      XCTAssertGreaterThanOrEqual(attempt, 1)
      XCTAssertGreaterThan(rig.tunnel.stats().pool.dialsFailed, 0)
      let again = try TestServer(port: rig.server.port)
      try await rig.ears.state(.connected)
      await rig.tunnel.stop()
      again.stop()
    }
  }

  func testWithoutANetworkTheTunnelWaitsForOne() async throws {
    try await withTunnel { rig in
      try await rig.ears.state(.connected)
      rig.tunnel.networkChanged(path: nil)
      try await rig.ears.state(.waitingForNetwork)
      rig.tunnel.networkChanged(path: "en0 192.0.2.1")
      try await rig.ears.state(.connected)
    }
  }

  func testAPhoneThatSleepsPausesTheTunnel() async throws {
    try await withTunnel { rig in
      try await rig.ears.state(.connected)
      rig.tunnel.setPower(power: .sleeping)
      try await rig.ears.state(.paused)
      rig.tunnel.setPower(power: .interactive)
      try await rig.ears.state(.connected)
    }
  }

  func testWhatIsSaidOfThePhoneBeforeAStartCountsForIt() async throws {
    let server = try TestServer()
    let (tunnel, tun, ears) = try (Tunnel(platform: nil), TestTun(), Ears())
    _ = try tunnel.subscribe(listener: ears, statsInterval: nil)
    tunnel.setPower(power: .sleeping)
    tunnel.memoryPressure(pressure: .low)
    try await tunnel.start(config: server.uri, tun: tun.fd)
    try await ears.state(.paused)
    try await waitUntil("the pressure is seen") { tunnel.stats().memory.pressure == .low }
    tunnel.memoryPressure(pressure: .normal)
    try await waitUntil("it is gone") { tunnel.stats().memory.pressure == .normal }
    await tunnel.stop()
  }

  func testATUNThatIsTakenAwayEndsTheTunnelWhichCanBeStartedWithAnother() async throws {
    try await withTunnel { rig in
      try await rig.ears.state(.connected)
      rig.tun.hangUp()
      let (failure, isBlocked) = try await rig.ears.state("failed") { state in
        if case .failed(let failure, let isBlocked) = state { (failure, isBlocked) } else { nil }
      }
      assertFailure(failure, "tunnel.ended", isRetryable: true)
      XCTAssertFalse(isBlocked)  // with the TUN, its routes are gone
      try await waitUntil("the TUN is let go") { !rig.tun.isHeld }

      let another = try TestTun()
      try await rig.tunnel.start(config: rig.server.uri, tun: another.fd)
      try await rig.ears.state(.connected)
      try another.send(.ping(from: "172.19.0.1", to: "192.0.2.1", Data([1])))
      _ = try await another.receive("a pong")
    }
  }

  func testAListenerThatComesLateHearsTheStateAsItIs() async throws {
    try await withTunnel { rig in
      try await rig.ears.state(.connected)
      let late = Ears()
      _ = try rig.tunnel.subscribe(listener: late, statsInterval: nil)
      try await late.state(.connected)
      XCTAssertEqual(late.states, [.connected])
    }
  }
}
