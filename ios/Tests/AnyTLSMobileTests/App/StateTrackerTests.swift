import NetworkExtension
import XCTest

@testable import AnyTLSMobile

final class StateTrackerTests: XCTestCase {
  private var tracker = StateTracker()

  private static let failure = VPNFailure.settingsRefused("no address")

  func testALife() throws {
    XCTAssertEqual(tracker.state, .stopped)
    tracker.handleStart()
    XCTAssertEqual(tracker.state, .starting)
    XCTAssertNil(tracker.handle(.connecting))
    XCTAssertEqual(tracker.state, .starting)
    let question = try XCTUnwrap(tracker.handle(.connected))
    XCTAssertEqual(tracker.state, .up(nil))
    tracker.handle(.connected, to: question)
    XCTAssertEqual(tracker.state, .up(.connected))
    tracker.handleStop()
    XCTAssertNil(tracker.handle(.disconnecting))
    XCTAssertEqual(tracker.state, .stopping)
    XCTAssertNil(tracker.handle(.disconnected))
    XCTAssertEqual(tracker.state, .stopped)
  }

  func testWhatTheSystemSaidBeforeTheStartIsOfTheRunBefore() {
    tracker.handleStart()
    XCTAssertNil(tracker.handle(.disconnecting))
    XCTAssertNil(tracker.handle(.disconnected))
    XCTAssertEqual(tracker.state, .starting)
    _ = tracker.handle(.connecting)
    XCTAssertNotNil(tracker.handle(.disconnected))
  }

  func testAnEndThatNobodyAskedForHasAReason() throws {
    let question = try fail(after: [.connecting, .connected, .disconnecting])
    XCTAssertEqual(tracker.state, .stopping)
    tracker.handle(Self.failure, isTold: true, to: question)
    XCTAssertEqual(tracker.state, .failed(Self.failure))
  }

  func testSilenceIsTheEndOfAStartThatHasNotBegun() throws {
    var tracker = StateTracker()
    tracker.handleStart()
    let first = tracker.turn
    _ = tracker.handle(.connecting)
    XCTAssertNil(tracker.handleSilence(since: first))
    XCTAssertEqual(tracker.state, .starting)
    tracker.handleStart()
    XCTAssertNil(tracker.handleSilence(since: first))
    let question = try XCTUnwrap(tracker.handleSilence(since: tracker.turn))
    XCTAssertEqual(tracker.state, .stopping)
    tracker.handle(nil, isTold: false, to: question)
    XCTAssertEqual(tracker.state, .failed(nil))
  }

  func testAReasonOfTheSystemsIsNamed() throws {
    let question = try fail(after: [.connecting])
    tracker.handle(NEVPNError(.connectionFailed), isTold: true, to: question)
    guard case .failed(.system(let reason)) = tracker.state else { return XCTFail("\(tracker.state)") }
    XCTAssertTrue(reason.hasPrefix("NEVPNErrorDomain 3: "), reason)
  }

  func testNoReasonIsTheUserInTheSettings() throws {
    let question = try fail(after: [.connecting])
    tracker.handle(nil, isTold: true, to: question)
    XCTAssertEqual(tracker.state, .stopped)
  }

  func testWithoutReasonsWhoWasNeverUpHasFailed() throws {
    let question = try fail(after: [.connecting])
    tracker.handle(nil, isTold: false, to: question)
    XCTAssertEqual(tracker.state, .failed(nil))
  }

  func testWithoutReasonsWhoWasUpWasTurnedOff() throws {
    let question = try fail(after: [.connecting, .connected])
    tracker.handle(nil, isTold: false, to: question)
    XCTAssertEqual(tracker.state, .stopped)
  }

  func testAnAnswerFromBeforeSomethingElseHappenedDoesNotCount() throws {
    let why = try fail(after: [.connecting, .connected])
    let how = try XCTUnwrap(tracker.handle(.connected))
    tracker.handle(Self.failure, isTold: true, to: why)
    XCTAssertEqual(tracker.state, .up(nil))
    _ = tracker.handle(.disconnecting)
    tracker.handle(.connected, to: how)
    XCTAssertEqual(tracker.state, .stopping)
    _ = tracker.handle(.connected)
    tracker.handle(.connected, to: how)
    XCTAssertEqual(tracker.state, .up(nil))
  }

  func testReassertingKeepsTheTunnelsState() throws {
    tracker.handle(.connected, to: try XCTUnwrap(tracker.handle(.connected)))
    let question = try XCTUnwrap(tracker.handle(.reasserting))
    XCTAssertEqual(tracker.state, .up(.connected))
    tracker.handle(.waitingForNetwork, to: question)
    XCTAssertEqual(tracker.state, .up(.waitingForNetwork))
    tracker.handle(.paused, to: try XCTUnwrap(tracker.question()))
    XCTAssertEqual(tracker.state, .up(.paused))
  }

  func testNothingIsAskedOfAVPNThatIsNotUp() {
    XCTAssertNil(tracker.question())
    tracker.handleStart()
    XCTAssertNil(tracker.question())
  }

  func testAStopBeforeTheSystemBeganIsAStop() {
    tracker.handleStart()
    tracker.handleStop()
    XCTAssertEqual(tracker.state, .stopped)
    XCTAssertNil(tracker.handle(.disconnected))
    XCTAssertEqual(tracker.state, .stopped)
  }

  func testAStopIsForgottenByTheNextStartOfTheSystem() throws {
    tracker.handleStop()
    XCTAssertNotNil(try fail(after: [.connecting]))
  }

  func testARefusedStartHasFailed() {
    tracker.handleStart()
    tracker.handleRefusal(.noConfig)
    XCTAssertEqual(tracker.state, .failed(.noConfig))
    XCTAssertNil(tracker.handle(.disconnected))
    XCTAssertEqual(tracker.state, .failed(.noConfig))
    tracker.handleStart()
    XCTAssertEqual(tracker.state, .starting)
  }

  func testAVPNThatIsNotInTheSettingsIsOff() {
    _ = tracker.handle(.connected)
    XCTAssertNil(tracker.handle(.invalid))
    XCTAssertEqual(tracker.state, .stopped)
  }

  private func fail(after statuses: [NEVPNStatus]) throws -> StateTracker.Question {
    for status in statuses { _ = tracker.handle(status) }
    return try XCTUnwrap(tracker.handle(.disconnected))
  }
}
