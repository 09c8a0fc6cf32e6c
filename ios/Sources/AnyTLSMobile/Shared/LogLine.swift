import AnyTLSCore
import Foundation

/// A line of the extension's log.
public struct LogLine: Codable, Sendable, Hashable {
  /// Rises by one with each line, and from one run of the extension to the next.
  public var number: UInt64
  public var time: Date
  public var level: LogLevel
  /// The part of the core that wrote it.
  public var target: String
  public var line: String

  public init(number: UInt64, time: Date, level: LogLevel, target: String, line: String) {
    self.number = number
    self.time = time
    self.level = level
    self.target = target
    self.line = line
  }
}
