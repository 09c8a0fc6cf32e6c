import AnyTLSMobile
import SampleLogic
import XCTest

final class ViewStateTests: XCTestCase {
  private let failure = Failure(
    code: "dial.timeout", isRetryable: true, userMessage: "The server does not answer.",
    detail: "for developers")

  func testTheSwitchStandsWhereTheUserPutItLast() {
    XCTAssertFalse(view(.stopped).isOn)
    XCTAssertTrue(view(.starting).isOn)
    XCTAssertTrue(view(.up(nil)).isOn)
    XCTAssertTrue(view(.up(.waitingForNetwork)).isOn)
    XCTAssertTrue(view(.up(.failed(failure: failure, isTrafficBlocked: true))).isOn)
    XCTAssertFalse(view(.stopping).isOn)
    XCTAssertFalse(view(.failed(.noDescriptor)).isOn)
  }

  func testOnlyWhileItStopsTheSwitchDoesNotMove() {
    let states: [VPNState] = [.stopped, .starting, .up(nil), .up(.connected), .stopping, .failed(nil)]

    XCTAssertEqual(states.filter { !view($0).canSwitch }, [.stopping])
  }

  func testConnectedIsGoodAndNeedsNoMoreWords() {
    let connected = view(.up(.connected))

    XCTAssertEqual(connected.tone, .good)
    XCTAssertEqual(connected.headline, "Connected")
    XCTAssertEqual(connected.detail, "")
  }

  func testNothingIsClaimedBeforeTheExtensionHasSpoken() {
    XCTAssertEqual(view(.up(nil)).tone, .busy)
    XCTAssertEqual(view(.up(nil)).headline, "On")
  }

  func testTonesTellTroubleFromWork() {
    let busy: [TunnelState] = [.stopped, .starting, .connecting, .waitingForNetwork, .paused, .stopping]
    let trouble: [TunnelState] = [
      .degraded(failure: failure), .reconnecting(attempt: 1, retryIn: 1, failure: failure),
      .failed(failure: failure, isTrafficBlocked: false),
    ]

    for state in busy { XCTAssertEqual(view(.up(state)).tone, .busy, "\(state)") }
    for state in trouble { XCTAssertEqual(view(.up(state)).tone, .trouble, "\(state)") }
    XCTAssertEqual(view(.failed(nil)).tone, .trouble)
    XCTAssertEqual(view(.stopped).tone, .off)
  }

  func testWithoutAConfigItSaysSo() {
    XCTAssertEqual(ViewState(Seen(.stopped, at: 0), now: 0, hasConfig: false).detail, Texts.addAConfig)
    XCTAssertEqual(ViewState(Seen(.stopped, at: 0), now: 0, hasConfig: true).detail, "")
    XCTAssertEqual(view(.failed(.noConfig)).detail, Texts.addAConfig)
  }

  func testTheTimeToTheNextTryRunsDown() {
    let seen = Seen(.up(.reconnecting(attempt: 2, retryIn: 4.5, failure: failure)), at: 10)
    func detail(_ now: Double) -> String { ViewState(seen, now: now, hasConfig: true).detail }
    let reason = "The server does not answer. (dial.timeout)\n"

    XCTAssertEqual(detail(10), reason + "2 tries have failed, the next one is in 5 s.")
    XCTAssertEqual(detail(10.5), reason + "2 tries have failed, the next one is in 4 s.")
    XCTAssertEqual(detail(14.25), reason + "2 tries have failed, the next one is in 1 s.")
    XCTAssertEqual(detail(14.5), reason + "2 tries have failed, the next one is due.")
    XCTAssertEqual(detail(99), reason + "2 tries have failed, the next one is due.")
  }

  func testAStateThatIsToldAgainKeepsItsTime() {
    let state = VPNState.up(.reconnecting(attempt: 1, retryIn: 4, failure: failure))
    let seen = Seen(.starting, at: 1).next(state, at: 2)

    XCTAssertEqual(seen, Seen(state, at: 2))
    XCTAssertEqual(seen.next(state, at: 3), seen)
    XCTAssertEqual(seen.next(.stopped, at: 3), Seen(.stopped, at: 3))
  }

  func testABadConfigIsToldWithEveryProblem() {
    let problems = [
      ConfigProblem(severity: .error, path: "server.password", reason: "required"),
      ConfigProblem(severity: .warning, path: "", reason: "odd"),
    ]

    XCTAssertEqual(
      view(.failed(.badConfig(problems))).detail,
      "The configuration has errors.\nError: server.password: required\nWarning: odd")
  }

  func testABlockedNetworkIsTold() {
    let blocked = view(.up(.failed(failure: failure, isTrafficBlocked: true)))
    let free = view(.up(.failed(failure: failure, isTrafficBlocked: false)))

    XCTAssertTrue(blocked.detail.hasSuffix("\n" + Texts.trafficBlocked))
    XCTAssertFalse(free.detail.contains(Texts.trafficBlocked))
  }

  func testWhatADeveloperReadsIsNotForTheScreen() {
    let states: [VPNState] = [
      .failed(.core(failure)), .up(.degraded(failure: failure)),
      .up(.failed(failure: failure, isTrafficBlocked: true)),
    ]
    for state in states {
      XCTAssertTrue(view(state).detail.hasPrefix("The server does not answer. (dial.timeout)"), "\(state)")
      XCTAssertFalse(view(state).detail.contains(failure.detail), "\(state)")
    }
    for secret in [VPNFailure.settingsRefused("inner"), .store("inner"), .noAnswer("inner")] {
      XCTAssertEqual(view(.failed(secret)).detail, "\(secret.userMessage) (\(secret.code))")
    }
  }

  func testAFailureWithoutAReasonSaysThatThereIsNone() {
    XCTAssertEqual(view(.failed(nil)).detail, "The system does not say why.")
  }

  func testOnlyAVPNThatIsUpCanBeAsked() {
    let states: [VPNState] = [.stopped, .starting, .up(nil), .up(.paused), .stopping, .failed(nil)]

    XCTAssertEqual(states.filter { Seen($0, at: 0).isUp }, [.up(nil), .up(.paused)])
  }

  private func view(_ state: VPNState) -> ViewState {
    ViewState(Seen(state, at: 0), now: 0, hasConfig: true)
  }
}
