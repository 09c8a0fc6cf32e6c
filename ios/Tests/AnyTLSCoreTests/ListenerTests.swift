import AnyTLSCore
import Foundation
import TestSupport
import XCTest

/// Listeners, good ones and bad ones.
final class ListenerTests: XCTestCase {
  private let often: TimeInterval = 0.1

  func testAListenerThatThrowsEndsNothingAndHearsWhatComesNext() async throws {
    let refusals: [any Error & Sendable] = [CallbackError.Failed(reason: "not now"), OnPurpose()]
    for refusal in refusals {
      try await withTunnel { rig in
        let bad = Ears { _ in throw refusal }
        _ = try rig.tunnel.subscribe(listener: bad, statsInterval: often)
        try await bad.state(.connected)
        try await bad.stats()
        try await rig.ears.state(.connected)
        rig.tunnel.setPower(power: .doze)
        try await bad.state(.paused)
      }
    }
  }

  func testAListenerMayStopTheTunnel() async throws {
    try await withTunnel { rig in
      let stopped = Collector<TunnelState>()
      let tunnel = rig.tunnel
      let stopper = Ears { event in
        guard event == .state(state: .connected) else { return }
        Task {
          await tunnel.stop()
          stopped.add(tunnel.state())
        }
      }
      _ = try tunnel.subscribe(listener: stopper, statsInterval: nil)
      let state = try await stopped.take("the end")
      XCTAssertEqual(state, .stopped)
      XCTAssertFalse(rig.tun.isHeld)
    }
  }

  func testNothingIsHeardAfterAStopHasReturnedAndAllAgainAfterTheNextStart() async throws {
    try await withTunnel { rig in
      let ears = Ears()
      _ = try rig.tunnel.subscribe(listener: ears, statsInterval: often)
      try await ears.stats()
      await rig.tunnel.stop()
      XCTAssertEqual(ears.states.last, .stopped)
      let heard = ears.events.all.count
      rig.tunnel.networkChanged(path: "another")
      // As much as another listener hears would have been enough.
      try await withTunnel { other in
        let control = Ears()
        _ = try other.tunnel.subscribe(listener: control, statsInterval: often)
        for _ in 0..<3 { try await control.stats() }
      }
      XCTAssertEqual(ears.events.all.count, heard)

      ears.events.drain()
      let again = try TestTun()
      try await rig.tunnel.start(config: rig.server.uri, tun: again.fd)
      try await ears.state(.connected)
      try await ears.stats()
    }
  }

  func testAListenerThatUnsubscribesHearsNothingMore() async throws {
    try await withTunnel { rig in
      let (leaver, control) = (Ears(), Ears())
      let id = try rig.tunnel.subscribe(listener: leaver, statsInterval: often)
      try await leaver.stats()
      rig.tunnel.unsubscribe(id: id)
      _ = try rig.tunnel.subscribe(listener: control, statsInterval: often)
      try await control.stats()
      leaver.events.drain()  // what was under way
      for _ in 0..<3 { try await control.stats() }
      rig.tunnel.setPower(power: .doze)
      try await control.state(.paused)
      XCTAssertEqual(leaver.events.drain(), [])
    }
  }

  func testStatsAreToldWhileSomebodyLooksAtThePhone() async throws {
    try await withTunnel { rig in
      let watcher = Ears()
      _ = try rig.tunnel.subscribe(listener: watcher, statsInterval: often)
      for _ in 0..<2 { try await watcher.stats() }

      rig.tunnel.setPower(power: .background)
      try await withTunnel { other in
        let control = Ears()
        _ = try other.tunnel.subscribe(listener: control, statsInterval: often)
        try await control.stats()
        watcher.events.drain()  // what was under way
        for _ in 0..<5 { try await control.stats() }
      }
      let heard = watcher.events.drain().filter { if case .stats = $0 { true } else { false } }
      XCTAssertEqual(heard, [])

      rig.tunnel.setPower(power: .interactive)
      let stats = try await watcher.stats()
      XCTAssertGreaterThan(stats.pool.dialed, 0)
    }
  }

  func testWithoutAnIntervalThereAreNoStats() async throws {
    try await withTunnel { rig in
      let control = Ears()
      _ = try rig.tunnel.subscribe(listener: control, statsInterval: often)
      for _ in 0..<3 { try await control.stats() }
      XCTAssertTrue(rig.ears.events.all.allSatisfy { if case .state = $0 { true } else { false } })
    }
  }

  func testATunnelThatWasNeverStartedTellsThatItIsOff() async throws {
    let (tunnel, ears) = (Tunnel(platform: nil), Ears())
    let id = try tunnel.subscribe(listener: ears, statsInterval: often)
    try await ears.state(.stopped)
    tunnel.unsubscribe(id: id)
    tunnel.unsubscribe(id: id)
    tunnel.unsubscribe(id: 4711)
    XCTAssertEqual(ears.states, [.stopped])
  }
}
