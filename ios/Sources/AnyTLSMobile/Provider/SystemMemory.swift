import AnyTLSCore
import Foundation

#if canImport(Darwin)
  import os
#endif

extension MemorySource {
  /// Apple's word on memory; elsewhere nobody says anything.
  static func system() -> MemorySource {
    let (readings, reading) = AsyncStream<MemoryReading>.makeStream(bufferingPolicy: .bufferingNewest(8))
    #if canImport(Darwin)
      let memory = SystemMemory { reading.yield($0) }
      reading.onTermination = { _ in memory.end() }
      return MemorySource(readings: readings) { memory.look(every: $0) }
    #else
      reading.finish()
      return MemorySource(readings: readings) { _ in }
    #endif
  }
}

#if canImport(Darwin)
  /// Sources of Dispatch may be changed from any thread, and do not say so to the compiler.
  private final class SystemMemory: @unchecked Sendable {
    private let timer: any DispatchSourceTimer
    private let events: any DispatchSourceMemoryPressure

    init(_ tell: @escaping @Sendable (MemoryReading) -> Void) {
      let queue = DispatchQueue(label: "io.anytls.mobile.memory")
      timer = DispatchSource.makeTimerSource(queue: queue)
      events = DispatchSource.makeMemoryPressureSource(
        eventMask: [.normal, .warning, .critical], queue: queue)
      let look: @Sendable () -> Void = {
        if let bytes = availableBytes() { tell(.available(bytes)) }
      }
      timer.setEventHandler(handler: look)
      events.setEventHandler { [weak self] in
        guard let event = self?.events.data else { return }
        tell(.event(event.contains(.critical) ? .critical : event.contains(.warning) ? .low : .normal))
        look()
      }
      timer.schedule(deadline: .distantFuture)
      timer.activate()
      events.activate()
    }

    func look(every seconds: Int) {
      // The system may put it together with other wake-ups.
      timer.schedule(deadline: .now(), repeating: .seconds(seconds), leeway: .seconds(max(seconds / 5, 1)))
    }

    func end() {
      timer.cancel()
      events.cancel()
    }
  }

  /// Nil where no process has a limit of its own.
  private func availableBytes() -> UInt64? {
    #if os(iOS)
      let bytes = os_proc_available_memory()
      return bytes > 0 ? UInt64(bytes) : nil  // 0: there is no limit
    #else
      return nil
    #endif
  }
#endif
