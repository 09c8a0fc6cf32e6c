import AnyTLSMobile
import Foundation

/// Bytes a second, each way.
public struct Speed: Sendable, Hashable {
  public var up: UInt64
  public var down: UInt64

  public init(up: UInt64, down: UInt64) {
    self.up = up
    self.down = down
  }

  public static let none = Speed(up: 0, down: 0)
}

/// The speeds of the last minute, out of counters that only grow.
public struct SpeedHistory: Sendable {
  private struct Sample: Sendable {
    let at: TimeInterval
    let up: UInt64
    let down: UInt64
  }

  private let span: TimeInterval
  private var samples: [Sample] = []

  public init(span: TimeInterval = 60) {
    self.span = span
  }

  /// `now` is of a clock that only goes forward. Counters that are less than before belong to another run.
  public mutating func add(_ traffic: TrafficStats, now: TimeInterval) {
    let sample = Sample(at: now, up: traffic.upBytes, down: traffic.downBytes)
    if let last = samples.last {
      if sample.up < last.up || sample.down < last.down { samples.removeAll() }
      if now <= last.at { return }
    }
    samples.append(sample)
    // The last one before the span stays: the first speed inside is counted from it.
    while samples.count > 2, samples[1].at <= now - span { samples.removeFirst() }
    // Whoever asks more often than this gets a shorter past.
    if samples.count > Self.maxSamples { samples.removeFirst() }
  }

  public mutating func clear() {
    samples.removeAll()
  }

  /// That of the last second or so; nil before there are two counts.
  public var current: Speed? {
    guard samples.count >= 2 else { return nil }
    return speed(from: samples[samples.count - 2], to: samples[samples.count - 1])
  }

  /// What to draw at `now`.
  public func graph(now: TimeInterval) -> SpeedGraph {
    let bars = zip(samples, samples.dropFirst()).map { from, to in
      SpeedBar(from: x(from.at, now), to: x(to.at, now), speed: speed(from: from, to: to))
    }
    return SpeedGraph(bars: bars.filter { $0.to > 0 })
  }

  private func x(_ at: TimeInterval, _ now: TimeInterval) -> Double {
    min(max((span - (now - at)) / span, 0), 1)
  }

  private func speed(from: Sample, to: Sample) -> Speed {
    let seconds = to.at - from.at
    return Speed(up: rate(to.up - from.up, seconds), down: rate(to.down - from.down, seconds))
  }

  private static let maxSamples = 600
}

private func rate(_ bytes: UInt64, _ seconds: TimeInterval) -> UInt64 {
  // A time too short for the division gives infinity, which is no integer.
  UInt64(min((Double(bytes) / seconds).rounded(), 1e18))
}
