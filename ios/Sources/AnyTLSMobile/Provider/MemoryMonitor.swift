import AnyTLSCore
import Foundation

/// What the system says about memory.
enum MemoryReading: Sendable, Hashable {
  /// What this process may still take before it is killed, in bytes.
  case available(UInt64)
  /// How short the whole system is.
  case event(MemoryPressure)
}

/// From readings to what the core is told: pure.
struct MemoryJudge: Sendable {
  /// An extension of iOS has 50 MiB in all; the core's limit is 12 MiB, and rendering one page asks for several at once.
  static let lowBytes: UInt64 = 12 << 20
  static let criticalBytes: UInt64 = 6 << 20

  private var event = MemoryPressure.normal
  private var own = MemoryPressure.normal

  /// The worse of the two.
  var pressure: MemoryPressure { event.rank > own.rank ? event : own }

  /// Seconds until the next look: a wake-up costs battery, and while nothing presses nothing is lost by a late one.
  var interval: Int { pressure == .normal ? 60 : 5 }

  mutating func hear(_ reading: MemoryReading) {
    switch reading {
    case .event(let pressure): event = pressure
    case .available(let bytes): own = judge(bytes)
    }
  }

  /// It gets better only above twice what made it worse: what the core gives back because of it does not count.
  private func judge(_ bytes: UInt64) -> MemoryPressure {
    let isCritical = bytes < (own == .critical ? 2 * Self.criticalBytes + 1 : Self.criticalBytes)
    let isLow = bytes < (own == .normal ? Self.lowBytes : 2 * Self.lowBytes + 1)
    return isCritical ? .critical : isLow ? .low : .normal
  }
}

extension MemoryPressure {
  fileprivate var rank: Int {
    switch self {
    case .normal: 0
    case .low: 1
    case .critical: 2
    }
  }
}

/// Where readings come from: the system, or a test.
struct MemorySource: Sendable {
  /// They end with the stream.
  var readings: AsyncStream<MemoryReading>
  /// How many seconds there should be between two looks at the memory.
  var setInterval: @Sendable (Int) -> Void
}

/// What the core is told, and why.
struct MemoryReport: Sendable, Hashable {
  var pressure: MemoryPressure
  /// The last reading; nil where the system does not tell.
  var availableBytes: UInt64?
}

enum MemoryMonitor {
  /// Calls `tell` for each reading until the readings end or the task is cancelled.
  static func follow(_ source: MemorySource, _ tell: (MemoryReport) async -> Void) async {
    var judge = MemoryJudge()
    var report = MemoryReport(pressure: judge.pressure)
    source.setInterval(judge.interval)
    for await reading in source.readings {
      let before = judge.interval
      judge.hear(reading)
      if judge.interval != before { source.setInterval(judge.interval) }
      report.pressure = judge.pressure
      if case .available(let bytes) = reading { report.availableBytes = bytes }
      await tell(report)
    }
  }
}
