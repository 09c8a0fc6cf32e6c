import AnyTLSMobile
import Foundation

/// Numbers as people read them, the same in every locale.
public enum Format {
  /// `0 B`, `1.5 kB`, `312 MB`: powers of 1000, three digits.
  public static func bytes(_ count: UInt64) -> String {
    var value = Double(count)
    var unit = 0
    while value >= lastOfAUnit, unit < units.count - 1 {
      value /= 1000
      unit += 1
    }
    let digits = unit > 0 && value < firstWithoutDigits ? 1 : 0
    return String(format: "%.\(digits)f ", value) + units[unit]
  }

  public static func speed(_ bytesPerSecond: UInt64) -> String {
    bytes(bytesPerSecond) + "/s"
  }

  public static func speed(_ speed: Speed) -> String {
    "↑ \(self.speed(speed.up))   ↓ \(self.speed(speed.down))"
  }

  /// `23 ms`, `1.3 s`: for what is measured.
  public static func time(_ interval: TimeInterval) -> String {
    let ms = (positive(interval) * 1000).rounded()
    return ms < 1000 ? "\(Int(ms)) ms" : String(format: "%.1f s", ms / 1000)
  }

  /// `5 s`, `3 min`, `2 h 5 min`: for what lasts.
  public static func span(_ interval: TimeInterval) -> String {
    let seconds = Int(positive(interval))
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60)
    if hours > 0 { return "\(hours) h \(minutes) min" }
    return minutes > 0 ? "\(minutes) min" : "\(seconds) s"
  }

  /// `just now`, `5 min ago`: when something was.
  public static func since(_ time: Date, now: Date) -> String {
    let interval = now.timeIntervalSince(time)
    return interval < 1 ? Texts.justNow : Texts.ago(span(interval))
  }

  private static let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"]

  /// From here on it would be rounded to 1000.
  private static let lastOfAUnit = 999.5
  private static let firstWithoutDigits = 99.95
}

/// An interval that fits an integer: what comes from another process may be anything.
func positive(_ interval: TimeInterval) -> TimeInterval {
  interval > 0 ? min(interval, 1e12) : 0
}
