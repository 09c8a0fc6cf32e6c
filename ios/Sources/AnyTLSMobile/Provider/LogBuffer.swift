import AnyTLSCore
import Foundation

/// The log's last lines, kept for the app to ask for. They are also in the system's log.
final class LogBuffer: LogSink, @unchecked Sendable {
  /// An app message of this size is quick, and the extension has little memory.
  static let maxBytes = 128 << 10
  static let maxLines = 1000

  private let maxBytes: Int
  private let maxLines: Int
  /// The first line has the number after it.
  private let start: UInt64
  private let lock = NSLock()
  // Under the lock.
  private var lines: [LogLine] = []
  private var bytes = 0
  private var lastNumber: UInt64

  /// Numbers begin with the time in microseconds: no run writes a million lines a second, so that those of the next one
  /// are higher.
  init(began: Date = Date(), maxBytes: Int = maxBytes, maxLines: Int = maxLines) {
    start = UInt64(max(began.timeIntervalSince1970, 0) * 1e6)
    lastNumber = start
    self.maxBytes = maxBytes
    self.maxLines = maxLines
  }

  func log(batch: [LogRecord], dropped: UInt64) {
    lock.withLock {
      lastNumber += dropped  // lines, too: nobody has seen them
      for record in batch { append(record) }
      var excess = 0
      while lines.count - excess > maxLines || bytes > maxBytes, excess < lines.count {
        bytes -= size(lines[excess])
        excess += 1
      }
      lines.removeFirst(excess)
    }
  }

  /// The lines with higher numbers, and how many of those there were are gone. After a number of another run, which is
  /// higher when the clock was set back, all lines are new.
  func lines(after number: UInt64) -> (lines: [LogLine], missed: UInt64) {
    lock.withLock {
      let seen = (start...lastNumber).contains(number) ? number : start
      let new = Array(lines.drop { $0.number <= seen })
      return (new, lastNumber - seen - UInt64(new.count))
    }
  }

  private func append(_ record: LogRecord) {
    lastNumber += 1
    let line = LogLine(
      number: lastNumber, time: record.time, level: record.level, target: record.target, line: record.line)
    lines.append(line)
    bytes += size(line)
  }

  private func size(_ line: LogLine) -> Int {
    MemoryLayout<LogLine>.stride + line.target.utf8.count + line.line.utf8.count
  }
}
