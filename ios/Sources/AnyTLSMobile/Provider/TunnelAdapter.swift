import AnyTLSCore
import Foundation

/// Owns the core and decides. What changes the tunnel is carried out one after the other, in the order in which it was
/// asked for; a stop calls off the starts and reloads before it.
actor TunnelAdapter {
  nonisolated let core = Tunnel(platform: nil)
  nonisolated let logs: LogBuffer
  let surroundings: Surroundings

  /// How the run before the last start ended.
  private var runBefore: LastRun?
  /// Nil unless the core is on.
  var run: TunnelRun?
  private var runs: UInt64 = 0
  private var packets: TunnelPackets?

  /// What was asked for last; it waits for what was asked for before it.
  private var last: Task<Void, Never>?
  /// Starts and reloads that have not come through.
  private var pending: [UInt64: Task<Void, any Error>] = [:]
  private var requests: UInt64 = 0

  init(surroundings: Surroundings = Surroundings()) {
    self.surroundings = surroundings
    logs = LogBuffer(began: surroundings.now())
  }

  /// Returns when the core has the packets; its state tells how far the server is. When it throws, nothing is left of
  /// it: `VPNFailure`, or `CancellationError` after a stop or a cancelled task.
  func start(_ config: VPNConfig, for provider: AnyTLSPacketTunnelProvider) async throws {
    try await inTurn { try await self.carryOutStart(config, provider) }
  }

  /// Goes by another config. When it throws, what runs goes on as it was.
  func reload(_ config: VPNConfig) async throws {
    try await inTurn { try await self.carryOutReload(config) }
  }

  /// Returns when nothing runs any more. `reason` is for the next run to read.
  func stop(because reason: String) async {
    for request in pending.values { request.cancel() }
    await atLast { await self.end(because: reason) }
  }

  // MARK: - In turn

  private func inTurn(_ work: @escaping @Sendable () async throws -> Void) async throws {
    let before = last
    let task = Task {
      await before?.value
      try Task.checkCancellation()
      do { try await work() } catch { throw asFailure(error) ?? CancellationError() }
    }
    requests += 1
    let id = requests
    pending[id] = task
    last = Task { _ = await task.result }
    defer { pending[id] = nil }
    try await withTaskCancellationHandler {
      try await task.value
    } onCancel: {
      task.cancel()
    }
  }

  /// As `inTurn`, for what nobody calls off.
  private func atLast(_ work: @escaping @Sendable () async -> Void) async {
    let before = last
    let task = Task {
      await before?.value
      await work()
    }
    last = task
    await task.value
  }

  // MARK: - Start and stop

  private func carryOutStart(_ config: VPNConfig, _ provider: AnyTLSPacketTunnelProvider) async throws {
    guard run == nil else { throw TunnelError.AlreadyStarted }
    findLastRun()
    let summary = try parseConfig(text: config.text)
    try? setLogger(options: LogOptions(level: summary.logLevel ?? .info), sink: logs)
    var next = TunnelRun(id: nextRun(), provider: provider, config: config, summary: summary)
    // Not what the phone was like in the run before; from here on, it is heard.
    core.setPower(power: .interactive)
    core.memoryPressure(pressure: .normal)
    next.watchers = [watchPath()]
    note(&next)
    do {
      try await settle(next)
      try await attach(next, try packets(of: provider).source(config.options, provider.findTun))
    } catch {
      next.end()
      note(&next, reason: asFailure(error)?.code ?? "cancelled")
      throw error
    }
    begin(next)
  }

  /// Has the system set up the interface for a run.
  private func settle(_ run: TunnelRun) async throws {
    guard let provider = run.provider else { throw CancellationError() }
    let (summary, options) = (run.summary, run.config.options)
    let addresses = try await surroundings.addresses(summary.serverHost)
    let isSet: Void? = try await within(systemPatience) {
      try await provider.apply(summary, options, serverAddresses: addresses)
    }
    guard isSet != nil else { throw VPNFailure.settingsRefused("the system does not answer") }
  }

  private func attach(_ run: TunnelRun, _ source: TunnelPackets.Source) async throws {
    guard let packets else { throw CancellationError() }
    try await packets.start(core, run.config.text, source)
  }

  private func packets(of provider: AnyTLSPacketTunnelProvider) -> TunnelPackets {
    let packets = self.packets ?? TunnelPackets(provider.packetFlow)
    self.packets = packets
    return packets
  }

  private func begin(_ started: TunnelRun) {
    var started = started
    let id = started.id
    let (states, memory) = (core.states(), surroundings.memory())
    started.watchers += [
      Task { [weak self] in
        for await state in states { await self?.hear(state, of: id) }
      },
      Task { [weak self] in
        await MemoryMonitor.follow(memory) { await self?.hear($0, of: id) }
      },
    ]
    run = started
  }

  /// The core knows the path before it starts if the system says it by then; nobody waits for it.
  private func watchPath() -> Task<Void, Never> {
    let paths = surroundings.paths()
    return Task { [core] in
      for await path in paths where !Task.isCancelled { core.networkChanged(path: path) }
    }
  }

  private func end(because reason: String) async {
    guard var ended = run else { return }
    run = nil
    ended.end()
    packets?.end()
    await core.stop()
    note(&ended, reason: reason)
  }

  private func nextRun() -> UInt64 {
    runs += 1
    return runs
  }

  // MARK: - Reload

  private func carryOutReload(_ config: VPNConfig) async throws {
    guard let before = run else { throw TunnelError.NotStarted }
    let summary = try parseConfig(text: config.text)
    var next = before
    (next.config, next.summary) = (config, summary)
    do {
      if before.needsInterface(for: config, summary) { throw TunnelError.TunSettings }
      try await core.reload(config: config.text)
    } catch TunnelError.TunSettings {  // the core's word: a summary does not show everything
      return try await replace(before, with: next)
    }
    if before.needsRoutes(for: config, summary) {
      do {
        try await settle(next)
      } catch {
        try? await core.reload(config: before.config.text)
        throw error
      }
    }
    run?.config = config
    run?.summary = summary
  }

  /// Restarts the core with an interface that the system has set up anew.
  private func replace(_ before: TunnelRun, with next: TunnelRun) async throws {
    guard let provider = before.provider else { throw CancellationError() }
    try await settle(next)
    let source: TunnelPackets.Source
    do {
      source = try packets(of: provider).source(next.config.options, provider.findTun)
    } catch {
      try? await settle(before)
      throw error
    }
    do {
      try await restart(next, source)
    } catch {
      await restore(before, provider, after: error)
      throw error
    }
  }

  private func restart(_ next: TunnelRun, _ source: TunnelPackets.Source) async throws {
    run?.end()
    run = nil
    packets?.end()
    await core.stop()
    let next = TunnelRun(
      id: nextRun(), provider: next.provider, config: next.config, summary: next.summary,
      watchers: [watchPath()], reassertion: next.reassertion, memory: next.memory, noted: next.noted)
    do {
      try await attach(next, source)
    } catch {
      next.end()
      throw error
    }
    begin(next)
  }

  /// The config that ran before, unless it was called off; else there is no VPN any more.
  private func restore(_ before: TunnelRun, _ provider: AnyTLSPacketTunnelProvider, after error: any Error)
    async
  {
    var before = before
    guard let failure = asFailure(error) else {
      note(&before, reason: "cancelled")
      return
    }
    do {
      try await settle(before)
      try await restart(before, try packets(of: provider).source(before.config.options, provider.findTun))
    } catch {
      let isCalledOff = asFailure(error) == nil
      note(&before, reason: isCalledOff ? "cancelled" : failure.code)
      if !isCalledOff { provider.cancelTunnelWithError(failure) }
    }
  }

  // MARK: - What is heard

  private func hear(_ state: TunnelState, of id: UInt64) {
    guard var run, run.id == id else { return }
    run.state = state
    let isReasserting = run.reassertion.isOn(in: state)
    if run.provider?.reasserting != isReasserting { run.provider?.reasserting = isReasserting }
    note(&run)
    self.run = run
    if case .failed(let failure, _) = state {
      Task { await giveUp(.core(failure), id) }
    }
  }

  private func hear(_ memory: MemoryReport, of id: UInt64) {
    guard var run, run.id == id else { return }
    let isOther = memory.pressure != run.memory.pressure
    run.memory = memory
    if isOther { core.memoryPressure(pressure: memory.pressure) }
    if isOther || abs(surroundings.now().timeIntervalSince(run.noted)) >= noteInterval { note(&run) }
    self.run = run
  }

  /// The core has ended by itself.
  private func giveUp(_ failure: VPNFailure, _ id: UInt64) async {
    await atLast { await self.carryOutGivingUp(failure, id) }
  }

  private func carryOutGivingUp(_ failure: VPNFailure, _ id: UInt64) async {
    guard run?.id == id else { return }
    let provider = run?.provider
    await end(because: failure.code)
    provider?.cancelTunnelWithError(failure)
  }

  // MARK: - The breadcrumb

  /// How the run before this one ended; before any start, the last one of another process.
  var lastRun: LastRun? { runs == 0 ? surroundings.breadcrumb.read() : runBefore }

  private func findLastRun() {
    runBefore = surroundings.breadcrumb.read()
    if let runBefore, !runBefore.endedCleanly { SystemLog.warn(runBefore.obituary) }
  }

  private func note(_ run: inout TunnelRun, reason: String? = nil) {
    run.noted = surroundings.now()
    let note = LastRun(
      state: run.state, time: run.noted, availableBytes: run.memory.availableBytes,
      heldBytes: core.stats().memory.heldBytes, pressure: run.memory.pressure, reason: reason)
    surroundings.breadcrumb.write(note)
  }
}

/// For the system to set up an interface, which takes a second at most when it works. The system gives a start 60.
private let systemPatience = 15.0

/// Seconds between two notes while nothing happens.
private let noteInterval = 60.0
