import Foundation

/// The phone, for tests: its VPN preferences, and the VPN that runs. Not in Apple's framework.
///
/// A start or a stop begins (`connecting`, `disconnecting`); tests say by `set` what comes of it.
public final class StandInSystem: @unchecked Sendable {
  public static let shared = StandInSystem()

  public enum Operation: String, Sendable { case loadAll, load, save, remove, start, stop }

  /// What is saved under one manager.
  public struct Saved {
    public var protocolConfiguration: NETunnelProviderProtocol
    public var name: String?
    public var rules: [NEOnDemandRule]?
    public var isOnDemandEnabled: Bool
    public var isEnabled: Bool
    var version = 0
  }

  public typealias Extension = @Sendable (Data, @escaping @Sendable (Data?) -> Void) -> Void

  private let lock = NSRecursiveLock()
  private var preferences: [UUID: Saved] = [:]
  private var order: [UUID] = []
  private var states: [UUID: (status: NEVPNStatus, error: (any Error)?)] = [:]
  private var connections: [() -> NEVPNConnection?] = []
  private var errors: [Operation: any Error] = [:]
  private var calls: [String] = []
  private var options: [[String: NSObject]?] = []
  private var answering: Extension?

  private func locked<T>(_ body: () throws -> T) rethrows -> T {
    lock.lock()
    defer { lock.unlock() }
    return try body()
  }

  /// As a phone without any VPN.
  public func reset() {
    locked {
      (preferences, order, states, connections) = ([:], [], [:], [])
      (errors, calls, options, answering) = ([:], [], [], nil)
    }
  }

  /// The configurations in the preferences, oldest first.
  public var saved: [Saved] { locked { order.compactMap { preferences[$0] } } }
  /// What was called, in order, and what tests have added.
  public var history: [String] { locked { calls } }
  /// The options of each start.
  public var starts: [[String: NSObject]?] { locked { options } }

  public func note(_ call: String) { locked { calls.append(call) } }

  /// The next call of this kind throws.
  public func fail(_ operation: Operation, with error: any Error) { locked { errors[operation] = error } }

  /// Changes what is saved, as the user or another process does.
  public func change(_ body: (inout Saved) -> Void) {
    locked {
      for id in order {
        guard var saved = preferences[id] else { continue }
        body(&saved)
        saved.version += 1
        preferences[id] = saved
      }
    }
  }

  /// The VPN has come to this; nothing is told when it had already.
  public func set(_ status: NEVPNStatus, error: (any Error)? = nil) {
    for id in locked({ order }) { set(status, error: error, of: id) }
  }

  /// Who gets the app's messages; nil: no extension runs.
  public func onMessage(_ answering: Extension?) { locked { self.answering = answering } }

  // MARK: For the classes

  func watch(_ connection: NEVPNConnection) {
    locked { connections.append { [weak connection] in connection } }
  }

  func status(of id: UUID) -> NEVPNStatus {
    locked { preferences[id] == nil ? .invalid : states[id]?.status ?? .disconnected }
  }

  func lastError(of id: UUID) -> (any Error)? { locked { states[id]?.error } }

  func loadAll() throws -> [NETunnelProviderManager] {
    try locked {
      try begin(.loadAll)
      return order.map { id in
        let manager = NETunnelProviderManager(id: id)
        fill(manager)
        return manager
      }
    }
  }

  func load(_ manager: NEVPNManager) throws {
    try locked {
      try begin(.load)
      fill(manager)
    }
  }

  func save(_ manager: NEVPNManager) throws {
    try locked {
      try begin(.save)
      guard let settings = manager.protocolConfiguration?.copy() as? NETunnelProviderProtocol else {
        throw NEVPNError(.configurationInvalid)
      }
      let before = preferences[manager.id]?.version
      if let before, let loaded = manager.loaded, loaded != before { throw NEVPNError(.configurationStale) }
      if before == nil { order.append(manager.id) }
      preferences[manager.id] = Saved(
        protocolConfiguration: settings, name: manager.localizedDescription, rules: manager.onDemandRules,
        isOnDemandEnabled: manager.isOnDemandEnabled, isEnabled: manager.isEnabled, version: (before ?? 0) + 1
      )
      manager.loaded = nil
    }
  }

  func remove(_ manager: NEVPNManager) throws {
    try locked {
      try begin(.remove)
      guard preferences.removeValue(forKey: manager.id) != nil else {
        throw NEVPNError(.configurationUnknown)
      }
      order.removeAll { $0 == manager.id }
      states[manager.id] = nil
    }
  }

  func start(_ connection: NEVPNConnection, options: [String: NSObject]?) throws {
    try locked {
      try begin(.start)
      guard let saved = preferences[connection.id], let manager = connection.owner,
        let loaded = manager.loaded
      else { throw NEVPNError(.configurationInvalid) }
      guard loaded == saved.version else { throw NEVPNError(.configurationStale) }
      guard saved.isEnabled else { throw NEVPNError(.configurationDisabled) }
      self.options.append(options)
    }
    if status(of: connection.id) == .disconnected { set(.connecting, error: nil, of: connection.id) }
  }

  func stop(_ connection: NEVPNConnection) {
    note(Operation.stop.rawValue)
    switch status(of: connection.id) {
    case .connecting, .connected, .reasserting: set(.disconnecting, error: nil, of: connection.id)
    case .invalid, .disconnected, .disconnecting: break
    }
  }

  func send(_ message: Data, to id: UUID, answer: @escaping @Sendable (Data?) -> Void) throws {
    guard let answering = locked({ self.answering }) else { throw NEVPNError(.connectionFailed) }
    answering(message, answer)
  }

  private func begin(_ operation: Operation) throws {
    calls.append(operation.rawValue)
    if let error = errors.removeValue(forKey: operation) { throw error }
  }

  private func fill(_ manager: NEVPNManager) {
    guard let saved = preferences[manager.id] else {
      (manager.protocolConfiguration, manager.isEnabled, manager.loaded) = (nil, false, nil)
      return
    }
    manager.protocolConfiguration = saved.protocolConfiguration.copy() as? NETunnelProviderProtocol
    manager.localizedDescription = saved.name
    manager.onDemandRules = saved.rules
    manager.isOnDemandEnabled = saved.isOnDemandEnabled
    manager.isEnabled = saved.isEnabled
    manager.loaded = saved.version
  }

  private func set(_ status: NEVPNStatus, error: (any Error)?, of id: UUID) {
    let told: [NEVPNConnection] = locked {
      guard self.status(of: id) != status else { return [] }
      states[id] = (status, error)
      return connections.compactMap { $0() }.filter { $0.id == id && $0.owner != nil }
    }
    for connection in told {
      NotificationCenter.default.post(name: .NEVPNStatusDidChange, object: connection)
    }
  }
}
