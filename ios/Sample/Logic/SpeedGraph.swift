/// One speed, from a time to another: 0 is the left edge and the beginning of the span, 1 is now.
public struct SpeedBar: Sendable, Hashable {
  public let from: Double
  public let to: Double
  public let speed: Speed

  public init(from: Double, to: Double, speed: Speed) {
    self.from = from
    self.to = to
    self.speed = speed
  }
}

/// A place in a graph of width and height 1, from its left upper corner.
public struct GraphPoint: Sendable, Hashable {
  public let x: Double
  public let y: Double

  public init(x: Double, y: Double) {
    self.x = x
    self.y = y
  }
}

/// What a graph shows, oldest first: what came down as an area, what went up as a line, and the scale.
public struct SpeedGraph: Sendable, Hashable {
  public let bars: [SpeedBar]

  /// The speed at the upper edge. 1, 2 or 5 and zeros, so that the scale rarely changes.
  public let top: UInt64

  public init(bars: [SpeedBar]) {
    self.bars = bars
    top = roundedUp(bars.map { max($0.speed.up, $0.speed.down) }.max() ?? 0)
  }

  /// The outline of an area that stands on the lower edge.
  public var downArea: [GraphPoint] {
    guard let first = bars.first, let last = bars.last else { return [] }
    return trace(\.down) + [GraphPoint(x: last.to, y: 1), GraphPoint(x: first.from, y: 1)]
  }

  public var upLine: [GraphPoint] { trace(\.up) }

  /// For those who hear the screen.
  public var label: String {
    Texts.graph(Format.speed(bars.last?.speed ?? .none))
  }

  /// Level through each bar's time, and straight up or down between them.
  private func trace(_ bytesPerSecond: KeyPath<Speed, UInt64>) -> [GraphPoint] {
    bars.flatMap { bar in
      let y = 1 - Double(bar.speed[keyPath: bytesPerSecond]) / Double(top)
      return [GraphPoint(x: bar.from, y: y), GraphPoint(x: bar.to, y: y)]
    }
  }
}

/// Not below what a quiet phone sends anyway.
private func roundedUp(_ bytesPerSecond: UInt64) -> UInt64 {
  var step: UInt64 = 10_000
  while step < UInt64.max / 100 {
    for top in [step, step * 2, step * 5] where top >= bytesPerSecond { return top }
    step *= 10
  }
  return UInt64.max
}
