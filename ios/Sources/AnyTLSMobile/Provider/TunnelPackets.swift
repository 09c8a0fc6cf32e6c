import AnyTLSCore
import Foundation
import NetworkExtension

/// How packets come from the system to the core and back. Made once for a provider, used by one run after the other.
final class TunnelPackets: PacketFlow, @unchecked Sendable {
  // Apple's flow may be used from any thread, and does not say so to the compiler.
  private let flow: NEPacketTunnelFlow
  private let lock = NSLock()
  // Under the lock.
  /// Whom packets go to; nil between two runs, when they are dropped.
  private weak var reader: Tunnel?
  /// Whether the system holds a handler of ours. It never gives one back, so that the one which a run leaves behind
  /// serves the next: two would take packets from each other.
  private var isReading = false

  init(_ flow: NEPacketTunnelFlow) {
    self.flow = flow
  }

  /// Where a run's packets come from.
  enum Source: Sendable {
    /// Whoever takes it closes it.
    case descriptor(Int32)
    case flow
  }

  /// What the options ask for, to be handed to `start` at once.
  func source(_ options: VPNOptions, _ findTun: () -> Int32?) throws(VPNFailure) -> Source {
    switch options.packets {
    case .descriptor:
      guard let tun = findTun() else { throw .noDescriptor }
      return .descriptor(tun)
    case .packetFlow:
      return .flow
    }
  }

  /// Starts the core, which takes a descriptor in every case.
  func start(_ core: Tunnel, _ config: String, _ source: Source) async throws {
    try await core.cancellably {
      switch source {
      case .descriptor(let tun): try await core.start(config: config, tun: tun)
      case .flow: try await core.startWithPackets(config: config, flow: self)
      }
    }
    if case .flow = source {
      lock.withLock { reader = core }
      read()
    }
  }

  /// The run is over: nothing is read for it any more.
  func end() {
    lock.withLock { reader = nil }
  }

  /// Called by the core, never after its stop.
  func writePackets(packets: [Data]) {
    pooled { _ = flow.writePackets(packets, withProtocols: packets.map(Self.family)) }
  }

  private func read() {
    let isNeeded = lock.withLock {
      defer { isReading = true }
      return !isReading
    }
    if isNeeded { ask() }
  }

  private func ask() {
    flow.readPackets { [weak self] packets, _ in self?.take(packets) }
  }

  private func take(_ packets: [Data]) {
    // All under the lock: once `end` has returned, no packet is on its way that could meet a later run.
    let goesOn = lock.withLock {
      isReading = reader != nil
      // A network may lose packets, so that it does not matter how many found no room. And a core that has ended by
      // itself takes none, until somebody ends the run.
      pooled { _ = try? reader?.handlePackets(packets: packets) }
      return isReading
    }
    if goesOn { ask() }
  }

  /// The address family's number, by the version in the header's first half byte.
  private static func family(_ packet: Data) -> NSNumber {
    NSNumber(value: packet.first.map { $0 >> 4 } == 6 ? AF_INET6 : AF_INET)
  }
}

/// Apple's classes leave objects to the pool of their thread. The core's threads have none but the one that ends with
/// them, which is too late for an extension's memory.
private func pooled(_ work: () -> Void) {
  #if canImport(Darwin)
    autoreleasepool(invoking: work)
  #else
    work()
  #endif
}
