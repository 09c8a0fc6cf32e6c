import AnyTLSMobile
import SampleLogic
import XCTest

final class SpeedTests: XCTestCase {
  private var history = SpeedHistory(span: 10)

  func testASpeedTakesTwoCounts() {
    history.add(traffic(up: 500, down: 1000), now: 0)
    XCTAssertNil(history.current)

    history.add(traffic(up: 600, down: 5000), now: 2)
    XCTAssertEqual(history.current, Speed(up: 50, down: 2000))
  }

  func testBarsMoveToTheLeftAsTimeGoesBy() {
    history.add(traffic(), now: 0)
    history.add(traffic(up: 1000), now: 1)
    let speed = Speed(up: 1000, down: 0)

    XCTAssertEqual(history.graph(now: 1).bars, [SpeedBar(from: 0.9, to: 1, speed: speed)])
    XCTAssertEqual(history.graph(now: 10).bars, [SpeedBar(from: 0, to: 0.1, speed: speed)])
    XCTAssertEqual(history.graph(now: 11).bars, [])
  }

  func testATimeWithoutCountsHasItsAverageSpeed() {
    history.add(traffic(), now: 0)
    history.add(traffic(down: 40_000), now: 8)

    let bar = SpeedBar(from: 0.2, to: 1, speed: Speed(up: 0, down: 5000))
    XCTAssertEqual(history.graph(now: 8).bars, [bar])
  }

  func testCountersThatBeginAgainBeginAnotherHistory() {
    history.add(traffic(down: 90_000), now: 0)
    history.add(traffic(down: 95_000), now: 1)
    history.add(traffic(down: 10), now: 2)

    XCTAssertNil(history.current)
    XCTAssertEqual(history.graph(now: 2).bars, [])
  }

  func testAClockThatStandsStillMakesNoSpeed() {
    history.add(traffic(), now: 1)
    history.add(traffic(down: 10), now: 1)

    XCTAssertNil(history.current)
  }

  func testTheShortestTimeAndTheLargestCountAreNoCrash() {
    history.add(traffic(), now: 0)
    history.add(traffic(up: .max), now: .leastNonzeroMagnitude)

    XCTAssertEqual(history.current, Speed(up: 1_000_000_000_000_000_000, down: 0))
    XCTAssertGreaterThanOrEqual(history.graph(now: 1).top, 1_000_000_000_000_000_000)
  }

  func testHoursKeepNoMoreThanTheSpan() {
    for second in 0...10_000 { history.add(traffic(down: UInt64(second)), now: Double(second)) }
    let bars = history.graph(now: 10_000).bars

    XCTAssertEqual(bars.count, 10)
    XCTAssertEqual(bars.first?.from, 0)
  }

  func testWhoeverCountsTooOftenKeepsNoMoreForIt() {
    for count in 0...10_000 { history.add(traffic(down: UInt64(count)), now: Double(count) / 10_000) }

    XCTAssertLessThan(history.graph(now: 1).bars.count, 1000)
    XCTAssertEqual(history.current, Speed(up: 0, down: 10_000))
  }

  func testAClearedHistoryIsAsNew() {
    history.add(traffic(), now: 0)
    history.add(traffic(down: 10), now: 1)
    history.clear()

    XCTAssertNil(history.current)
    XCTAssertEqual(history.graph(now: 1).bars, [])
  }

  func testTheScaleEndsAtARoundNumberAboveThePeak() {
    func top(_ bytesPerSecond: UInt64) -> UInt64 {
      SpeedGraph(bars: [SpeedBar(from: 0, to: 1, speed: Speed(up: bytesPerSecond, down: 1))]).top
    }

    XCTAssertEqual(SpeedGraph(bars: []).top, 10_000)
    XCTAssertEqual(top(1), 10_000)
    XCTAssertEqual(top(10_001), 20_000)
    XCTAssertEqual(top(200_001), 500_000)
    XCTAssertEqual(top(5_000_001), 10_000_000)
    for power in 0..<64 { XCTAssertGreaterThanOrEqual(top(1 << power), 1 << power) }
    XCTAssertEqual(top(.max), .max)
  }

  func testTheAreaStandsOnTheLowerEdgeAndTheLineDoesNot() {
    let graph = SpeedGraph(bars: [
      SpeedBar(from: 0.5, to: 0.75, speed: Speed(up: 0, down: 10_000)),
      SpeedBar(from: 0.75, to: 1, speed: Speed(up: 5000, down: 2500)),
    ])

    XCTAssertEqual(
      graph.downArea,
      points((0.5, 0), (0.75, 0), (0.75, 0.75), (1, 0.75), (1, 1), (0.5, 1)))
    XCTAssertEqual(graph.upLine, points((0.5, 1), (0.75, 1), (0.75, 0.5), (1, 0.5)))
  }

  func testAGraphOfNothingHasNothingToDraw() {
    let graph = SpeedGraph(bars: [])

    XCTAssertEqual(graph.downArea, [])
    XCTAssertEqual(graph.upLine, [])
    XCTAssertEqual(graph.label, "Speed over the last minute: ↑ 0 B/s   ↓ 0 B/s")
  }

  func testEveryPointIsInsideTheGraph() {
    var down: UInt64 = 0
    for second in UInt64(0)...30 {
      down += second * 7_919_333 % 10_000_000
      history.add(traffic(up: down / 7, down: down), now: Double(second))
    }
    let graph = history.graph(now: 30.5)
    let all = graph.downArea + graph.upLine

    XCTAssertGreaterThan(all.count, 30)
    for point in all {
      XCTAssertTrue((0...1).contains(point.x) && (0...1).contains(point.y), "\(point) of \(graph)")
    }
  }

  private func points(_ points: (Double, Double)...) -> [GraphPoint] {
    points.map { GraphPoint(x: $0.0, y: $0.1) }
  }
}
