import Foundation

public enum NEVPNStatus: Int, Sendable {
  case invalid = 0
  case disconnected = 1
  case connecting = 2
  case connected = 3
  case reasserting = 4
  case disconnecting = 5
}

extension NSNotification.Name {
  // swift-format-ignore: AlwaysUseLowerCamelCase
  public static let NEVPNStatusDidChange = NSNotification.Name("com.apple.networkextension.statuschange")
}

/// What an app changes is its own until it is saved, and not fit for a start until it is loaded again.
open class NEVPNManager: NSObject {
  open var protocolConfiguration: NEVPNProtocol?
  open var localizedDescription: String?
  open var onDemandRules: [NEOnDemandRule]?
  open var isOnDemandEnabled = false
  open var isEnabled = false

  public var connection: NEVPNConnection { session }
  private lazy var session = NETunnelProviderSession(of: self)

  let id: UUID
  /// That of the preferences this was loaded from; nil when they were not loaded since the last save.
  var loaded: Int?

  init(id: UUID) {
    self.id = id
  }

  open func loadFromPreferences(completionHandler: @escaping @Sendable ((any Error)?) -> Void) {
    let error = outcome { try StandInSystem.shared.load(self) }
    later { completionHandler(error) }
  }

  open func saveToPreferences(completionHandler: (@Sendable ((any Error)?) -> Void)? = nil) {
    let error = outcome { try StandInSystem.shared.save(self) }
    later { completionHandler?(error) }
  }

  open func removeFromPreferences(completionHandler: (@Sendable ((any Error)?) -> Void)? = nil) {
    let error = outcome { try StandInSystem.shared.remove(self) }
    later { completionHandler?(error) }
  }

  private func outcome(_ work: () throws -> Void) -> (any Error)? {
    do {
      try work()
      return nil
    } catch {
      return error
    }
  }
}

/// Handlers are called on another thread, and never before the call has returned to a caller on the main one.
private func later(_ handler: @escaping @Sendable () -> Void) {
  DispatchQueue.main.async { DispatchQueue.global().async(execute: handler) }
}

open class NETunnelProviderManager: NEVPNManager {
  public init() {
    super.init(id: UUID())
  }

  override init(id: UUID) {
    super.init(id: id)
  }

  open class func loadAllFromPreferences(
    completionHandler: @escaping @Sendable ([NETunnelProviderManager]?, (any Error)?) -> Void
  ) {
    do {
      nonisolated(unsafe) let managers = try StandInSystem.shared.loadAll()
      later { completionHandler(managers, nil) }
    } catch {
      later { completionHandler(nil, error) }
    }
  }

  open class func loadAllFromPreferences() async throws -> [NETunnelProviderManager] {
    try StandInSystem.shared.loadAll()
  }
}

open class NEVPNConnection: NSObject {
  public private(set) weak var owner: NEVPNManager?
  let id: UUID

  init(of manager: NEVPNManager) {
    owner = manager
    id = manager.id
    super.init()
    StandInSystem.shared.watch(self)
  }

  public var status: NEVPNStatus { StandInSystem.shared.status(of: id) }

  open func startVPNTunnel(options: [String: NSObject]? = nil) throws {
    try StandInSystem.shared.start(self, options: options)
  }

  open func stopVPNTunnel() {
    StandInSystem.shared.stop(self)
  }

  open func fetchLastDisconnectError(completionHandler handler: @escaping @Sendable ((any Error)?) -> Void) {
    let error = StandInSystem.shared.lastError(of: id)
    later { handler(error) }
  }
}

open class NETunnelProviderSession: NEVPNConnection {
  open func sendProviderMessage(_ messageData: Data, responseHandler: (@Sendable (Data?) -> Void)? = nil)
    throws
  {
    try StandInSystem.shared.send(messageData, to: id) { responseHandler?($0) }
  }
}
