import AnyTLSMobile
import Foundation
import SampleLogic
import XCTest

final class DescriptionsTests: XCTestCase {
  func testBeforeAnythingIsCountedNothingIsClaimed() {
    let text = TrafficText(nil, speed: Speed(up: 1, down: 1))

    XCTAssertEqual([text.speed, text.totals, text.counts], ["", "", ""])
  }

  func testTrafficIsToldInWords() {
    let text = TrafficText(stats(up: 1500, down: 3_000_000), speed: nil)

    XCTAssertEqual(text.speed, "↑ 0 B/s   ↓ 0 B/s")
    XCTAssertEqual(text.totals, "Sent 1.5 kB, received 3.0 MB")
    XCTAssertEqual(text.counts, "3 sessions, 1 connection")
  }

  func testAMeasurementIsToldInWords() {
    let report = LatencyReport(tcp: 0.012, tls: 0.031, firstStream: 1.3, warmStream: 0.02)

    XCTAssertEqual(
      describe(report), "TCP 12 ms, TLS 31 ms. The first connection takes 1.3 s, another one 20 ms.")
  }

  func testSessionsAreLinesTheNewestFirst() {
    let session = SessionInfo(
      seq: 1, age: 7500, silent: 0, idle: nil, roundTrip: 0.023, streams: 2, serverVersion: 2,
      sentBytes: 1500, receivedBytes: 3_000_000, paddingBytes: 0, heartbeatsSent: 0, heartbeatsAnswered: 0)
    var idle = session
    (idle.seq, idle.idle) = (2, 7)
    let rows = sessionRows([session, idle])

    XCTAssertEqual(rows.map(\.title), ["Session 2, idle for 7 s", "Session 1, 2 streams"])
    XCTAssertEqual(
      Set(rows.map(\.detail)), ["round trip 23 ms · 2 h 5 min old · ↑ 1.5 kB · ↓ 3.0 MB"])
  }

  func testConnectionsAreLinesWithWhatToCloseTheNewestFirst() {
    let opening = ConnectionInfo(
      id: 4, kind: .tcp, destination: "example.com:443", phase: .opening, age: 1, upBytes: 0, downBytes: 0)
    var open = opening
    (open.id, open.kind, open.phase, open.upBytes) = (5, .udp, .open, 10)
    let rows = connectionRows([opening, open])

    XCTAssertEqual(rows.map(\.title), ["UDP example.com:443", "TCP example.com:443"])
    XCTAssertEqual(rows.map(\.detail), ["1 s · ↑ 10 B · ↓ 0 B", "opening · ↑ 0 B · ↓ 0 B"])
    XCTAssertEqual(rows.map(\.id), [5, 4])
  }

  func testARunThatWasStoppedSaysWhy() {
    let lines = describe(run(reason: "stopped by the user"), now: now)

    XCTAssertEqual(
      lines,
      [
        "It ended in good order: stopped by the user.", "Last written: Connected, 5 min ago.",
        "The core held 4.0 MB, and 20.0 MB were left.",
      ])
  }

  func testMemoryIsBlamedOnlyWhereItWasShort() {
    var tight = run(reason: nil)
    tight.availableBytes = 2_000_000
    var pressed = run(reason: nil)
    pressed.pressure = .critical
    var unknown = run(reason: nil)
    unknown.availableBytes = nil

    XCTAssertEqual(describe(run(reason: nil), now: now)[0], "The system ended it without a word.")
    XCTAssertEqual(describe(unknown, now: now)[0], "The system ended it without a word.")
    XCTAssertEqual(describe(unknown, now: now)[2], "The core held 4.0 MB.")
    for run in [tight, pressed] {
      XCTAssertEqual(describe(run, now: now)[0], "The system ended it, most likely for its memory.")
    }
  }

  func testErrorsOfEveryOriginHaveASentence() {
    struct Foreign: Error {}

    XCTAssertEqual(sentence(for: VPNFailure.noConfig), "There is no configuration.")
    XCTAssertEqual(sentence(for: VPNFailure.store("a secret") as NSError), VPNFailure.store("").userMessage)
    XCTAssertEqual(sentence(for: TunnelError.Offline), TunnelError.Offline.failure().userMessage)
    XCTAssertEqual(sentence(for: Foreign()), "That did not work.")
  }

  func testABlankNameIsNone() throws {
    let summary = try parseConfig(text: "anytls://word@example.com:8443#%20")

    XCTAssertEqual("\(Server(summary))", "example.com:8443")
    XCTAssertEqual(describe(summary).first, "Server: example.com:8443")
  }

  private let now = Date(timeIntervalSince1970: 1_000_000)

  private func run(reason: String?) -> LastRun {
    LastRun(
      state: .connected, time: now.addingTimeInterval(-300), availableBytes: 20_000_000,
      heldBytes: 4_000_000, pressure: .normal, reason: reason)
  }
}
