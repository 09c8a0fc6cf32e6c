import Foundation
import SampleLogic
import XCTest

final class FormatTests: XCTestCase {
  func testNumbersHaveThreeDigitsAtMost() {
    let numbers: [UInt64] = [0, 999, 1000, 99_949, 99_950, 999_499, 999_500, 1_234_567, .max]

    XCTAssertEqual(
      numbers.map(Format.bytes),
      ["0 B", "999 B", "1.0 kB", "99.9 kB", "100 kB", "999 kB", "1.0 MB", "1.2 MB", "18.4 EB"])
  }

  func testASpeedSaysBothWays() {
    XCTAssertEqual(Format.speed(Speed(up: 1500, down: 0)), "↑ 1.5 kB/s   ↓ 0 B/s")
  }

  func testWhatIsMeasuredIsInMillisecondsBelowASecond() {
    let times: [TimeInterval] = [0, 0.023, 0.9994, 0.9996, 1.25, 61]

    XCTAssertEqual(times.map(Format.time), ["0 ms", "23 ms", "999 ms", "1.0 s", "1.2 s", "61.0 s"])
  }

  func testWhatLastsIsInItsTwoLargestUnits() {
    let spans: [TimeInterval] = [0.9, 59.9, 60, 3599, 3600, 7530]

    XCTAssertEqual(spans.map(Format.span), ["0 s", "59 s", "1 min", "59 min", "1 h 0 min", "2 h 5 min"])
  }

  func testNumbersThatNoClockGivesAreNoCrash() {
    for odd in [-1, TimeInterval.nan, -TimeInterval.infinity] {
      XCTAssertEqual(Format.time(odd), "0 ms")
      XCTAssertEqual(Format.span(odd), "0 s")
    }
    XCTAssertTrue(Format.span(.infinity).hasSuffix(" min"))
    XCTAssertTrue(Format.time(.greatestFiniteMagnitude).hasSuffix(" s"))
  }

  func testWhenSomethingWasIsToldFromNow() {
    let now = Date(timeIntervalSince1970: 10_000)

    XCTAssertEqual(Format.since(now.addingTimeInterval(-0.5), now: now), "just now")
    XCTAssertEqual(Format.since(now.addingTimeInterval(-300), now: now), "5 min ago")
    XCTAssertEqual(Format.since(now.addingTimeInterval(300), now: now), "just now")
  }
}
