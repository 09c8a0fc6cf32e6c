import AnyTLSMobile
import SampleLogic
import XCTest

final class DashboardTests: XCTestCase {
  private var board = Dashboard(now: 0)

  func testTheSwitchStartsOnlyWhatThereIs() {
    XCTAssertEqual(board.action(turningOn: true), .start)
    board.hasConfig = false
    XCTAssertEqual(board.action(turningOn: true), .configure)
    XCTAssertEqual(board.action(turningOn: false), .stop)
  }

  func testAVPNComesUpOnce() {
    XCTAssertFalse(board.handle(.starting, now: 1))
    XCTAssertTrue(board.handle(.up(nil), now: 2))
    XCTAssertFalse(board.handle(.up(.connected), now: 3))
    XCTAssertFalse(board.handle(.stopped, now: 4))
    XCTAssertTrue(board.handle(.up(.connected), now: 5))
  }

  func testCountsAreShownWhileItIsUp() {
    _ = board.handle(.up(.connected), now: 0)
    board.handle(stats(down: 0), now: 1)
    board.handle(stats(down: 3000), now: 2)

    XCTAssertEqual(board.traffic.speed, "↑ 0 B/s   ↓ 3.0 kB/s")
    XCTAssertEqual(board.graph(now: 2).bars.count, 1)
  }

  func testNothingOfARunIsShownAfterIt() {
    _ = board.handle(.up(.connected), now: 0)
    board.handle(stats(down: 0), now: 1)
    board.handle(stats(down: 3000), now: 2)
    _ = board.handle(.stopping, now: 3)

    XCTAssertNil(board.stats)
    XCTAssertEqual(board.graph(now: 3).bars, [])
    board.handle(stats(down: 4000), now: 4)  // an answer that was under way
    XCTAssertNil(board.stats)
    XCTAssertEqual(board.traffic.totals, "")
  }

  func testTheViewFollowsStateAndTime() {
    let failure = Failure(code: "dial.refused", isRetryable: true, userMessage: "Refused.", detail: "")
    _ = board.handle(.up(.reconnecting(attempt: 1, retryIn: 3, failure: failure)), now: 10)

    XCTAssertEqual(board.view(now: 11).headline, "Reconnecting")
    XCTAssertTrue(board.view(now: 11).detail.hasSuffix("in 2 s."))
    XCTAssertTrue(board.view(now: 14).detail.hasSuffix("is due."))
  }

  func testAMissingConfigIsNamed() {
    board.hasConfig = false

    XCTAssertEqual(board.view(now: 0).detail, Texts.addAConfig)
  }
}
