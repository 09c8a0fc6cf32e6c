import AnyTLSMobile
import Foundation
import SampleLogic
import XCTest

final class LogViewTests: XCTestCase {
  private var view = LogView()
  private let time = Date(timeIntervalSince1970: 1_767_357_001.25)

  func testAnswersContinueEachOther() {
    ask(["a", "b"])
    ask(["a", "b", "c"])
    ask(["a", "b", "c"])
    ask(["a", "b", "c", "d"])

    XCTAssertEqual(shown, ["a", "b", "c", "d"])
  }

  func testWhatIsNewerThanTheNewestLineIsAskedFor() {
    XCTAssertEqual(view.cursor, 0)
    ask(["a"])
    XCTAssertEqual(view.cursor, 1)
    ask(["a", "b", "c"])
    XCTAssertEqual(view.cursor, 3)
  }

  func testAnAnswerThatComesTwiceCountsOnce() {
    ask(["a", "b"])
    let answer = [line(3, "c"), line(4, "d")]
    view.add(answer, missed: 0, to: 2)
    view.add(answer, missed: 0, to: 2)

    XCTAssertEqual(shown, ["a", "b", "c", "d"])
  }

  func testAnotherRunIsReadFromItsBeginning() {
    ask(["a", "b", "c"])
    ask(["x"], after: 1000)
    ask(["x", "y"], after: 1000)

    XCTAssertEqual(shown, ["a", "b", "c", "x", "y"])
  }

  func testLinesThatAreNoLongerKeptAreToldOfWhereTheyAreMissing() {
    ask(["a", "b"])
    ask(["a", "b", "c", "d", "e", "f"], keeping: 2)

    XCTAssertEqual(shown, ["a", "b", "2 lines dropped: the log was faster than the app", "e", "f"])
  }

  func testLinesMissedBeforeTheFirstAnswerAreToldOf() {
    ask(["a", "b", "c"], keeping: 2)

    XCTAssertEqual(shown, ["1 line dropped: the log was faster than the app", "b", "c"])
  }

  func testAnEmptiedLogIsToldOfOnce() {
    ask(["a"])
    ask(["a", "b"], keeping: 0)
    ask(["a", "b"], keeping: 0)
    ask(["a", "b", "c"], keeping: 1)

    XCTAssertEqual(shown, ["a", "1 line dropped: the log was faster than the app", "c"])
  }

  func testLinesThatNobodyHasSeenAreToldOfBeforeTheNextOne() {
    view.add([line(1, "a")], missed: 0, to: 0)
    view.add([], missed: 3, to: 1)
    view.add([], missed: 3, to: 1)
    view.add([line(5, "e")], missed: 3, to: 1)
    view.add([], missed: 0, to: 5)

    XCTAssertEqual(shown, ["a", "3 lines dropped: the log was faster than the app", "e"])
  }

  func testAnotherRunThatHasLostLinesSaysHowMany() {
    ask((1...9).map { "\($0)" })
    view.clear()
    ask(["x", "y", "z"], keeping: 1, after: 1000)

    XCTAssertEqual(shown, ["2 lines dropped: the log was faster than the app", "z"])
  }

  func testALevelHidesWhatIsMoreTalkative() {
    let levels: [LogLevel] = [.error, .info, .debug]
    let lines = levels.enumerated().map { line(UInt64($0.offset + 1), "\($0.element)", level: $0.element) }
    view.add(lines, missed: 0, to: view.cursor)

    XCTAssertEqual(shown, ["error", "info"])
    view.level = .trace
    XCTAssertEqual(shown, ["error", "info", "debug"])
    view.level = .off
    XCTAssertEqual(shown, [])
  }

  func testOldLinesMakeRoomForNewOnes() {
    view = LogView(maxChars: 1000)
    let all = (1...100).map { "line \($0)" }
    for count in 1...100 { ask(Array(all.prefix(count))) }

    XCTAssertTrue((10...30).contains(shown.count), "\(shown.count)")
    XCTAssertEqual(shown, Array(all.suffix(shown.count)))
  }

  func testALineLongerThanTheViewIsCutAndStays() {
    view = LogView(maxChars: 1000)
    ask([String(repeating: "x", count: 5000)])

    XCTAssertEqual(shown.map(\.count), [500])
  }

  func testClearedLinesDoNotComeBack() {
    ask(["a", "b"])
    view.clear()
    XCTAssertEqual(shown, [])

    ask(["a", "b", "c"])
    XCTAssertEqual(shown, ["c"])
  }

  func testNoTwoLinesHaveOneId() {
    ask(["a", "b"], keeping: 1)
    ask(["x"], after: 1000)

    XCTAssertEqual(Set(view.shown.map(\.id)).count, 3)
  }

  func testALineSaysWhenHowGraveAndWhere() throws {
    view.add([line(1, "session 1")], missed: 0, to: view.cursor)
    let entry = try XCTUnwrap(view.shown.first)
    let east = try XCTUnwrap(TimeZone(secondsFromGMT: 13 * 3600))
    let west = try XCTUnwrap(TimeZone(secondsFromGMT: -12 * 3600 - 1800))

    XCTAssertEqual(utc.line(entry), "12:30:01.250 INFO anytls_mobile::client: session 1")
    XCTAssertTrue(LogFormat(zone: east).line(entry).hasPrefix("01:30:01.250 "))
    XCTAssertTrue(LogFormat(zone: west).line(entry).hasPrefix("00:00:01.250 "))
  }

  func testTheTailHasTheNewestLinesThatFit() throws {
    ask((1...50).map { "line \($0)" })
    let all = view.shown
    let lines = all.map(utc.line)

    let two = lines.suffix(2).map { $0.count + 1 }.reduce(0, +)
    XCTAssertEqual(utc.tail(all, maxChars: two), lines.suffix(2).joined(separator: "\n"))
    XCTAssertEqual(utc.tail(all, maxChars: two - 1), lines.last)
    XCTAssertEqual(utc.tail(all, maxChars: 1_000_000), lines.joined(separator: "\n"))
    XCTAssertEqual(utc.tail(all, maxChars: 3), "")
  }

  func testALevelIsKnownByItsName() {
    for level in LogLevel.choices { XCTAssertEqual(LogLevel(name: level.name), level) }
    XCTAssertEqual(LogLevel(name: "LOUD"), .info)
  }

  private let utc = LogFormat(zone: TimeZone(secondsFromGMT: 0) ?? .current)

  private var shown: [String] { view.shown.map(\.line) }

  /// What an extension answers that has written these lines in this run, and keeps the last of them. A number below
  /// those of this run is of another.
  private func ask(_ written: [String], keeping: Int = .max, after start: UInt64 = 0) {
    let all = written.enumerated().map { line(start + UInt64($0.offset + 1), $0.element) }
    let wanted = all.filter { $0.number > view.cursor }
    let kept = all.suffix(keeping).filter { $0.number > view.cursor }
    view.add(kept, missed: UInt64(wanted.count - kept.count), to: view.cursor)
  }

  private func line(_ number: UInt64, _ text: String, level: LogLevel = .info) -> LogLine {
    LogLine(number: number, time: time, level: level, target: "anytls_mobile::client", line: text)
  }
}
