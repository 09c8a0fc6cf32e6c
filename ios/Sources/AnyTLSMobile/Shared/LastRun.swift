import AnyTLSCore
import Foundation

/// What a run of the extension wrote last before its process ended: iOS kills without a word.
public struct LastRun: Codable, Sendable, Hashable {
  public var state: TunnelState
  /// When this was written.
  public var time: Date
  /// What the system would still have given to the process.
  public var availableBytes: UInt64?
  /// What the core's queues and buffers held.
  public var heldBytes: UInt64
  public var pressure: MemoryPressure
  /// Why the extension stopped; nil when it was killed.
  public var reason: String?

  /// Whether the extension stopped by itself or was told to, rather than killed.
  public var endedCleanly: Bool { reason != nil }

  public init(
    state: TunnelState, time: Date, availableBytes: UInt64?, heldBytes: UInt64, pressure: MemoryPressure,
    reason: String? = nil
  ) {
    self.state = state
    self.time = time
    self.availableBytes = availableBytes
    self.heldBytes = heldBytes
    self.pressure = pressure
    self.reason = reason
  }
}
