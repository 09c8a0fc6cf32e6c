import AnyTLSCore
import Foundation
import NetworkExtension

/// The packet tunnel provider: an extension names it, or a subclass, as its principal class. It passes the system's
/// calls on; `TunnelAdapter` decides.
// Unchecked, since the system's class is not `Sendable`, though it is called from any thread: what changes is the
// adapter's, an actor, and of the base class only what the system lets any thread use is used.
open class AnyTLSPacketTunnelProvider: NEPacketTunnelProvider, @unchecked Sendable {
  let adapter: TunnelAdapter
  private let lock = NSLock()
  /// The last one. Under the lock.
  private var start: Task<Void, Never>?

  // Designated, so that a subclass inherits it: the system makes the extension's principal class by it.
  public override init() {
    adapter = TunnelAdapter(surroundings: Surroundings())
    super.init()
  }

  init(surroundings: Surroundings) {
    adapter = TunnelAdapter(surroundings: surroundings)
    super.init()
  }

  // MARK: - What an app may change

  /// What to start with: what the app gave the start along, else what it has saved.
  open func loadConfig(options: [String: NSObject]?) throws -> VPNConfig {
    if let config = try VPNConfig(startOptions: options) { return config }
    guard let settings = protocolConfiguration as? NETunnelProviderProtocol else { throw VPNFailure.noConfig }
    return try ConfigStore().load(from: settings)
  }

  /// The last word on what the system is told of the interface: a proxy, routes of the app's own.
  open func adjust(_ settings: NEPacketTunnelNetworkSettings, for config: ConfigSummary) {}

  /// The interface's descriptor, for the core to keep; nil when there is none to be found.
  open func findTun() -> Int32? { AnyTLSCore.findTun() }

  // MARK: - What the system calls

  // By its handler: the options are not `Sendable`, so that compilers from Xcode 26 on refuse the
  // async form. They are read before the call returns.
  open override func startTunnel(
    options: [String: NSObject]? = nil, completionHandler: @escaping @Sendable ((any Error)?) -> Void
  ) {
    let config = Result { try loadConfig(options: options) }
    lock.withLock {
      start = Task {
        do {
          try await adapter.start(try config.get(), for: self)
          completionHandler(nil)
        } catch {
          completionHandler(error)
        }
      }
    }
  }

  // By its handler, too, to call off a start that has not got as far as the adapter: the stop could overtake it.
  open override func stopTunnel(
    with reason: NEProviderStopReason, completionHandler: @escaping @Sendable () -> Void
  ) {
    lock.withLock { start }?.cancel()
    Task {
      await adapter.stop(because: reason.name)
      completionHandler()
    }
  }

  open override func handleAppMessage(_ messageData: Data) async -> Data? {
    await adapter.answer(messageData)
  }

  // At once, which the async form would not do: a wake that follows must not be overtaken.
  open override func sleep(completionHandler: @escaping @Sendable () -> Void) {
    adapter.core.setPower(power: .sleeping)
    completionHandler()
  }

  open override func wake() {
    adapter.core.setPower(power: .interactive)
  }

  // MARK: - What the adapter asks for

  /// Throws `VPNFailure.settingsRefused`.
  final func apply(_ config: ConfigSummary, _ options: VPNOptions, serverAddresses: [String]) async throws {
    let settings = try NetworkSettings.make(for: config, options: options, serverAddresses: serverAddresses)
    adjust(settings, for: config)
    do {
      try await setTunnelNetworkSettings(settings)
    } catch {
      throw VPNFailure.settingsRefused(error.localizedDescription)
    }
  }
}

extension NEProviderStopReason {
  /// For the breadcrumb.
  fileprivate var name: String {
    switch self {
    case .userInitiated: "stopped by the user"
    case .superceded: "another VPN was started"
    case .configurationDisabled, .configurationRemoved, .providerDisabled:
      "the VPN was switched off or removed"
    case .userLogout, .userSwitch: "another user"
    case .sleep: "the device sleeps"
    default: "the system's reason \(rawValue)"
    }
  }
}
