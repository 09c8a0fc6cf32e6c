import AnyTLSCore
import Foundation
import NetworkExtension

/// This app's VPN: its place in the system's settings, on and off, and how it is doing.
///
/// ```swift
/// let vpn = AnyTLSVPN(providerBundleIdentifier: "com.example.app.tunnel")
/// try await vpn.load()
/// try await vpn.save(VPNConfig(text: "anytls://password@example.com/"))
/// try await vpn.start()
/// for await state in vpn.states() { ... }
/// ```
///
/// What throws, throws `VPNFailure`. App and extension need the capabilities Network Extensions (Packet Tunnel) and
/// Keychain Sharing, with the same keychain group as the first of both.
@MainActor
public final class AnyTLSVPN {
  /// How the VPN is doing. Current from `load` on.
  public var state: VPNState { tracker.state }

  private let providerBundleIdentifier: String
  private let store: ConfigStore
  private let pause: Pause
  /// One for all objects: of two that save at once, each would make a VPN, or write over what the other has saved.
  private static let turn = Turn()
  private var manager: NETunnelProviderManager?
  private var tracker = StateTracker()
  private var listeners: [UUID: AsyncStream<VPNState>.Continuation] = [:]
  private var watching: Task<Void, Never>?

  /// For the extension of this identifier.
  public convenience init(providerBundleIdentifier: String) {
    self.init(
      providerBundleIdentifier: providerBundleIdentifier, store: ConfigStore(), pause: pauseForReal(seconds:))
  }

  init(providerBundleIdentifier: String, store: ConfigStore, pause: @escaping Pause) {
    self.providerBundleIdentifier = providerBundleIdentifier
    self.store = store
    self.pause = pause
  }

  deinit {
    watching?.cancel()
    for listener in listeners.values { listener.finish() }
  }

  /// Asks the extension; the functions throw while none runs.
  public var client: TunnelClient {
    TunnelClient(transport: { [weak self] in try await self?.send($0) }, pause: pause)
  }

  // MARK: The config

  /// Whether the VPN is in the system's settings.
  public var isSaved: Bool { manager != nil }

  /// When the system turns the VPN on and off by itself.
  public var onDemand: OnDemand { manager?.settings.map(ConfigStore.onDemand(of:)) ?? .off }

  /// Reads the system's settings. To be called when the app comes to the front, since the user can remove the VPN
  /// there.
  public func load() async throws {
    try await Self.turn.take { try await find() }
  }

  /// The config in the system's settings; nil when there is none.
  public func savedConfig() throws -> VPNConfig? {
    guard let settings = manager?.settings else { return nil }
    do { return try store.load(from: settings) } catch VPNFailure.noConfig { return nil }
  }

  /// Puts the VPN into the system's settings, or changes it there. The first time, the system asks the user.
  ///
  /// A VPN that is up goes on as it was: `client.reload` gives it the config, too. `onDemand` is left as it is when it
  /// is nil or the same, also where `stop` has put it to rest. `name` is what the settings show; nil: the config's,
  /// else the server's.
  public func save(_ config: VPNConfig, onDemand: OnDemand? = nil, name: String? = nil) async throws {
    let summary: ConfigSummary
    do {
      summary = try parseConfig(text: config.text)
    } catch TunnelError.Config(let problems) {
      throw VPNFailure.badConfig(problems)
    }
    try await Self.turn.take {
      try await find()
      let manager = manager ?? NETunnelProviderManager()
      let before = Snapshot(of: manager)
      let onDemandBefore = self.onDemand
      let onDemand = onDemand ?? onDemandBefore
      let settings = try store.make(
        config, summary: summary, onDemand: onDemand, providerBundleIdentifier: providerBundleIdentifier)
      manager.protocolConfiguration = settings
      manager.localizedDescription = name ?? summary.name ?? summary.serverHost
      manager.onDemandRules = onDemand.systemRules
      if onDemand != onDemandBefore { manager.isOnDemandEnabled = onDemand.isEnabled }
      manager.isEnabled = true
      do {
        try await manager.save()
      } catch {
        before.restore(manager)
        store.delete(settings)
        throw error
      }
      store.deleteAll(of: providerBundleIdentifier, but: settings)
      adopt(manager)
      try await manager.load()
    }
  }

  /// Turns the VPN off, takes it out of the system's settings and forgets the config.
  public func remove() async throws {
    track { $0.handleStop() }
    try await Self.turn.take {
      try await find()
      track { $0.handleStop() }
      if let manager {
        manager.connection.stopVPNTunnel()
        try await manager.remove()
        adopt(nil)
      }
      store.deleteAll(of: providerBundleIdentifier, but: nil)
    }
  }

  // MARK: On and off

  /// Turns the VPN on; when it is on already, nothing happens. What comes of it is in `states()`.
  ///
  /// With a config, this run has that one, and the saved one stays.
  public func start(_ config: VPNConfig? = nil) async throws {
    if manager == nil { try await load() }
    for await state in states() where state != .stopping { break }
    try Task.checkCancellation()
    guard !state.isActive else { return }
    track { $0.handleStart() }
    do {
      try await Self.turn.take {
        guard let manager else { throw VPNFailure.noConfig }
        try await enable(manager)
        guard state == .starting else { return }  // stopped meanwhile
        try manager.connection.startVPNTunnel(options: try config?.startOptions())
        watchBeginning()
      }
    } catch {
      let failure = VPNFailure(storing: error)
      track { $0.handleRefusal(failure) }
      throw failure
    }
  }

  /// Like `start`, and waits until the interface is there, `.up`, or why not. Being cancelled turns the VPN off.
  public func startAndAwait(_ config: VPNConfig? = nil) async throws -> VPNState {
    try await start(config)
    for await state in states() {
      switch state {
      case .up, .failed, .stopped: return state
      case .starting, .stopping: continue
      }
    }
    try? await stop()
    throw CancellationError()
  }

  /// Turns the VPN off, and on-demand until the next `start`: the system would turn it on again at once. Fine in every
  /// state. When it throws, the VPN is off, and on-demand is not.
  public func stop() async throws {
    track { $0.handleStop() }
    try await Self.turn.take {
      defer { manager?.connection.stopVPNTunnel() }
      // The user can turn on-demand on in the system's settings, too.
      if let manager { try await manager.load() } else { try await find() }
      track { $0.handleStop() }
      guard let manager, manager.isOnDemandEnabled else { return }
      manager.isOnDemandEnabled = false
      do {
        try await manager.save()
      } catch {
        manager.isOnDemandEnabled = true
        throw error
      }
    }
  }

  /// Like `stop`, and waits until the interface is gone: about a second.
  public func stopAndAwait() async throws {
    try await stop()
    for await state in states() where !state.isActive { return }
    throw CancellationError()
  }

  /// Loads, since there is no start after a save without. The user may have chosen another VPN meanwhile, and `stop`
  /// turns on-demand off.
  private func enable(_ manager: NETunnelProviderManager) async throws {
    try await manager.load()
    guard manager.settings != nil else {  // the user has removed it
      adopt(nil)
      throw VPNFailure.noConfig
    }
    let isOnDemand = onDemand.isEnabled
    if manager.isEnabled, manager.isOnDemandEnabled == isOnDemand { return }
    manager.isEnabled = true
    manager.isOnDemandEnabled = isOnDemand
    try await manager.save()
    try await manager.load()
  }

  /// A notification shows the state as it is by then: of a start that fails at once, perhaps the end alone, which could
  /// be that of the run before.
  private func watchBeginning() {
    let start = tracker.turn
    Task { [weak self, pause] in
      try? await pause(10)
      guard let self, manager?.connection.status == .disconnected else { return }
      var question: StateTracker.Question?
      track { question = $0.handleSilence(since: start) }
      if let question { await ask(question) }
    }
  }

  // MARK: States

  /// The state now, and every change of it; who is slow sees the newest only.
  public func states() -> AsyncStream<VPNState> {
    let (states, listener) = AsyncStream.makeStream(of: VPNState.self, bufferingPolicy: .bufferingNewest(1))
    let id = UUID()
    listeners[id] = listener
    listener.onTermination = { [weak self] _ in
      Task { @MainActor in self?.listeners[id] = nil }
    }
    listener.yield(state)
    return states
  }

  /// Asks the extension how the tunnel is doing, while the VPN is up. The system says nothing when that changes: call
  /// this, or read `client.states()`, as often as it is to be shown.
  public func refresh() async {
    guard let question = tracker.question() else { return }
    await ask(question)
  }

  private func track(_ change: (inout StateTracker) -> Void) {
    let before = state
    change(&tracker)
    guard state != before else { return }
    for listener in listeners.values { listener.yield(state) }
  }

  private func handle(_ status: NEVPNStatus) {
    var question: StateTracker.Question?
    track { question = $0.handle(status) }
    guard let question else { return }
    Task { await ask(question) }
  }

  private func ask(_ question: StateTracker.Question) async {
    switch question {
    case .tunnelState:
      guard let tunnel = try? await client.state() else { return }
      track { $0.handle(tunnel, to: question) }
    case .disconnectError:
      guard #available(iOS 16, macOS 13, *), let manager else {
        return track { $0.handle(nil, isTold: false, to: question) }
      }
      let fetcher = ErrorFetcher(connection: manager.connection)
      let answer = try? await within(10, pause: pause) { try await fetcher.fetch() }
      track { $0.handle(answer ?? nil, isTold: answer != nil, to: question) }
    }
  }

  private func send(_ data: Data) async throws -> Data? {
    guard let session = manager?.connection as? NETunnelProviderSession else {
      throw VPNFailure.noAnswer("there is no VPN in the system's settings")
    }
    return try await MessageSender(session: session).send(data)
  }

  /// In a turn: what was found is old once somebody else has saved.
  private func find() async throws {
    let managers = try await NETunnelProviderManager.loadAll()
    adopt(managers.first { $0.settings?.providerBundleIdentifier == providerBundleIdentifier })
  }

  /// Goes by this manager from now on. The system tells changes to those only who have kept the connection.
  private func adopt(_ new: NETunnelProviderManager?) {
    if let new, new !== manager { watch(new.connection) }
    if new == nil { watching?.cancel() }
    manager = new
    handle(new?.connection.status ?? .invalid)
  }

  private func watch(_ connection: NEVPNConnection) {
    watching?.cancel()
    let statuses = connection.statuses()
    watching = Task { [weak self] in
      for await status in statuses { self?.handle(status) }
    }
  }
}
