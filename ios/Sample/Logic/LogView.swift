import AnyTLSMobile
import Foundation

/// A line of the log on the screen. Its id is the app's own, since what is missing has a line, too.
public struct LogEntry: Sendable, Hashable, Identifiable {
  public let id: UInt64
  public let time: Date
  public let level: LogLevel
  public let target: String
  public let line: String
}

/// The last lines of the extension's log, up to a number of characters.
public struct LogView: Sendable {
  /// Lines that are more talkative are not shown.
  public var level: LogLevel = .info

  /// What to ask for: lines newer than this number.
  public private(set) var cursor: UInt64 = 0

  private var entries: [LogEntry] = []
  private var nextId: UInt64 = 0
  private var chars = 0
  private let maxChars: Int

  /// By default an hour or so at the usual level, and half a megabyte at most.
  public init(maxChars: Int = 250_000) {
    self.maxChars = maxChars
  }

  /// Oldest first, without those that are more talkative than the level.
  public var shown: [LogEntry] {
    entries.filter { $0.level.rank <= level.rank }
  }

  /// The answer to `question`, which was the `cursor`. One that another answer has overtaken is of no use.
  public mutating func add(_ lines: [LogLine], missed: UInt64, to question: UInt64) {
    // What is missing at the end is told of before the line that follows.
    guard question == cursor, let first = lines.first, let newest = lines.last else { return }
    if missed > 0 { append(first.time, .warn, "", Texts.missed(missed)) }
    for line in lines { append(line.time, line.level, line.target, line.line) }
    cursor = newest.number
    dropOldest()
  }

  public mutating func clear() {
    entries.removeAll()
    chars = 0
  }

  private mutating func append(_ time: Date, _ level: LogLevel, _ target: String, _ line: String) {
    // A single line longer than everything would push everything out, itself included.
    let entry = LogEntry(
      id: nextId, time: time, level: level, target: target, line: String(line.prefix(maxChars / 2)))
    entries.append(entry)
    nextId += 1
    chars += entry.chars
  }

  private mutating func dropOldest() {
    var surplus = 0
    while chars > maxChars, surplus < entries.count {
      chars -= entries[surplus].chars
      surplus += 1
    }
    entries.removeFirst(surplus)
  }
}

/// The log as text, a line each: `12:30:01.250 INFO anytls_mobile::client: ..`.
public struct LogFormat: Sendable {
  private let zone: TimeZone

  public init(zone: TimeZone) {
    self.zone = zone
  }

  public func line(_ entry: LogEntry) -> String {
    let target = entry.target.isEmpty ? "" : "\(entry.target): "
    return "\(clock(entry.time)) \(entry.level.name) \(target)\(entry.line)"
  }

  /// The newest lines that fit.
  public func tail(_ entries: [LogEntry], maxChars: Int) -> String {
    var room = maxChars
    var lines: [String] = []
    for entry in entries.reversed() {
      let line = line(entry)
      room -= line.count + 1
      if room < 0 { break }
      lines.append(line)
    }
    return lines.reversed().joined(separator: "\n")
  }

  /// By hand: a formatter goes by the phone's locale, and there is one for each line on the screen.
  private func clock(_ time: Date) -> String {
    let day = 86_400_000
    let utc = Int((positive(time.timeIntervalSince1970) * 1000).rounded())
    let ms = utc + zone.secondsFromGMT(for: time) * 1000
    let ofDay = (ms % day + day) % day
    let parts = [ofDay / 3_600_000, ofDay / 60_000 % 60, ofDay / 1000 % 60, ofDay % 1000]
    return String(format: "%02d:%02d:%02d.%03d", parts[0], parts[1], parts[2], parts[3])
  }
}

extension LogLevel {
  /// What a picker offers, the quietest first.
  public static let choices: [LogLevel] = [.error, .warn, .info, .debug, .trace]

  public var name: String {
    switch self {
    case .off: "OFF"
    case .error: "ERROR"
    case .warn: "WARN"
    case .info: "INFO"
    case .debug: "DEBUG"
    case .trace: "TRACE"
    }
  }

  /// The level of that name; `.info` for any other.
  public init(name: String) {
    self = Self.choices.first { $0.name == name } ?? .info
  }

  fileprivate var rank: Int {
    switch self {
    case .off: 0
    case .error: 1
    case .warn: 2
    case .info: 3
    case .debug: 4
    case .trace: 5
    }
  }
}

extension LogEntry {
  /// With what time, level and the rest take, about.
  fileprivate var chars: Int { line.count + target.count + 32 }
}
