import Foundation
import TestSupport
import XCTest

@testable import AnyTLSMobile

/// What goes from process to process, byte for byte but for the order of keys: an app and an extension of different
/// versions talk to each other while an update is installed.
final class AppMessageTests: XCTestCase {
  func testMessagesHaveTheirForm() throws {
    let forms: [(AppMessage, String)] = [
      (.state, #"{"state":{}}"#),
      (.stats, #"{"stats":{}}"#),
      (.sessions, #"{"sessions":{}}"#),
      (.connections, #"{"connections":{}}"#),
      (.closeConnection(id: 7), #"{"closeConnection":{"id":7}}"#),
      (
        .reload(VPNConfig(text: "{}")),
        """
        {"reload":{"_0":{"options":{"excludesLocalNetworks":true,"excludesServer":true,"includesAllNetworks":false,
        "packets":"descriptor"},"text":"{}"}}}
        """
      ),
      (.setLogLevel(.debug), #"{"setLogLevel":{"_0":{"debug":{}}}}"#),
      (.testLatency(destination: "a.example:80"), #"{"testLatency":{"destination":"a.example:80"}}"#),
      (.logs(after: .max), #"{"logs":{"after":18446744073709551615}}"#),
      (.lastRun, #"{"lastRun":{}}"#),
    ]
    for (message, json) in forms { try assertForm(of: message, is: json) }
  }

  func testRepliesHaveTheirForm() throws {
    let failure = Failure(code: "dial.lost", isRetryable: true, userMessage: "Lost.", detail: "reset")
    let failureJSON = #"{"code":"dial.lost","detail":"reset","isRetryable":true,"userMessage":"Lost."}"#
    let time = Date(timeIntervalSinceReferenceDate: 8)
    let line = LogLine(number: 3, time: time, level: .warn, target: "pool", line: "odd")
    let run = LastRun(
      state: .paused, time: time, availableBytes: nil, heldBytes: 5, pressure: .critical, reason: nil)
    let connection = ConnectionInfo(
      id: 1, kind: .udp, destination: "a.example:53", phase: .open, age: 1.5, upBytes: 2, downBytes: 3)
    let forms: [(AppReply, String)] = [
      (.state(.connected), #"{"state":{"_0":{"connected":{}}}}"#),
      (
        .state(.reconnecting(attempt: 2, retryIn: 1.5, failure: failure)),
        #"{"state":{"_0":{"reconnecting":{"attempt":2,"failure":\#(failureJSON),"retryIn":1.5}}}}"#
      ),
      (
        .state(.failed(failure: failure, isTrafficBlocked: true)),
        #"{"state":{"_0":{"failed":{"failure":\#(failureJSON),"isTrafficBlocked":true}}}}"#
      ),
      (.sessions([]), #"{"sessions":{"_0":[]}}"#),
      (
        .connections([connection]),
        """
        {"connections":{"_0":[{"age":1.5,"destination":"a.example:53","downBytes":3,"id":1,"kind":{"udp":{}},
        "phase":{"open":{}},"upBytes":2}]}}
        """
      ),
      (.closed(true), #"{"closed":{"_0":true}}"#),
      (
        .latency(LatencyReport(tcp: 0.5, tls: 0.25, firstStream: 1, warmStream: 2)),
        #"{"latency":{"_0":{"firstStream":1,"tcp":0.5,"tls":0.25,"warmStream":2}}}"#
      ),
      (
        .logs([line], missed: 2),
        """
        {"logs":{"_0":[{"level":{"warn":{}},"line":"odd","number":3,"target":"pool","time":8}],"missed":2}}
        """
      ),
      (
        .lastRun(run),
        #"{"lastRun":{"_0":{"heldBytes":5,"pressure":{"critical":{}},"state":{"paused":{}},"time":8}}}"#
      ),
      (.lastRun(nil), #"{"lastRun":{}}"#),
      (.done, #"{"done":{}}"#),
      (.failure(.noConfig), #"{"failure":{"_0":{"noConfig":{}}}}"#),
      (.failure(.core(failure)), #"{"failure":{"_0":{"core":{"_0":\#(failureJSON)}}}}"#),
      (
        .failure(.badConfig([ConfigProblem(severity: .warning, path: "a", reason: "b")])),
        #"{"failure":{"_0":{"badConfig":{"_0":[{"path":"a","reason":"b","severity":{"warning":{}}}]}}}}"#
      ),
    ]
    for (reply, json) in forms { try assertForm(of: reply, is: json) }
  }

  func testStatsGoThereAndBack() throws {
    let reply = AppReply.stats(.sample(up: 4))
    XCTAssertEqual(try AppReply(data: try reply.data()), reply)
  }

  func testAnUnknownMessageIsAFailureThatQuotesNothing() {
    let wrong = [
      "", "hunter2", "{}", #"{"selfDestruct":{}}"#, #"{"reload":{"_0":{"text":"hunter2"}}}"#,
      #"{"reload":{"_0":{"text":["hunter2"],"options":{}}}}"#,
    ]
    for json in wrong {
      XCTAssertThrowsError(try AppMessage(data: Data(json.utf8)), json) { error in
        XCTAssertEqual((error as? VPNFailure)?.code, "no_answer")
        XCTAssertFalse("\(error)".contains("hunter2"))
      }
    }
  }

  func testFieldsOfANewerVersionAreSkipped() throws {
    let json = #"{"closeConnection":{"id":7,"isPolite":true}}"#
    XCTAssertEqual(try AppMessage(data: Data(json.utf8)), .closeConnection(id: 7))
  }

  func testWhatJSONCannotSayIsAFailure() {
    let reply = AppReply.latency(LatencyReport(tcp: .infinity, tls: 0, firstStream: 0, warmStream: 0))
    XCTAssertThrowsError(try reply.data()) { XCTAssertEqual(($0 as? VPNFailure)?.code, "no_answer") }
  }

  func testARunThatLeftNoReasonWasKilled() {
    var run = LastRun(state: .connected, time: Date(), availableBytes: 1, heldBytes: 2, pressure: .normal)
    XCTAssertFalse(run.endedCleanly)
    run.reason = "the user"
    XCTAssertTrue(run.endedCleanly)
  }

  private func assertForm<T: AppCoded & Equatable>(
    of value: T, is json: String, line: UInt = #line
  ) throws {
    XCTAssertEqual(try sorted(try value.data()), try sorted(Data(json.utf8)), line: line)
    XCTAssertEqual(try T(data: Data(json.utf8)), value, line: line)
  }

  private func sorted(_ data: Data) throws -> String {
    let object = try JSONSerialization.jsonObject(with: data)
    return String(
      decoding: try JSONSerialization.data(withJSONObject: object, options: [.sortedKeys]), as: UTF8.self)
  }
}

extension TunnelStats {
  static func sample(up: UInt64) -> TunnelStats {
    var stats = TunnelStats.zero
    stats.traffic.upBytes = up
    return stats
  }
}
