import AnyTLSCore
import Foundation
import NetworkExtension

/// Asks the extension. May be used from any task; being cancelled ends the waiting.
///
/// Every function throws `VPNFailure`: `.noAnswer` when no extension runs, when it was killed meanwhile, or when it
/// says nothing in time, and what it answers otherwise.
public struct TunnelClient: Sendable {
  /// Sends a message and returns the reply; nil when the extension has ended.
  public typealias Transport = @Sendable (Data) async throws -> Data?

  private static let patience: TimeInterval = 10
  /// A measurement waits for the server, four times.
  private static let patienceWithLatency: TimeInterval = 60

  private let transport: Transport
  private let pause: Pause

  /// For an app that keeps its own `NETunnelProviderManager`; `AnyTLSVPN.client` for others.
  @MainActor
  public init(session: NETunnelProviderSession) {
    let sender = MessageSender(session: session)
    self.init(transport: { try await sender.send($0) })
  }

  /// Over something else than a session, and with another time than the real one: for tests and previews.
  public init(transport: @escaping Transport, pause: Pause? = nil) {
    self.transport = transport
    self.pause = pause ?? pauseForReal(seconds:)
  }

  /// How the tunnel is doing.
  public func state() async throws -> TunnelState {
    guard case .state(let state) = try await ask(.state) else { throw Self.otherReply }
    return state
  }

  /// What was counted since the start.
  public func stats() async throws -> TunnelStats {
    guard case .stats(let stats) = try await ask(.stats) else { throw Self.otherReply }
    return stats
  }

  /// The sessions with the server, oldest first.
  public func sessions() async throws -> [SessionInfo] {
    guard case .sessions(let sessions) = try await ask(.sessions) else { throw Self.otherReply }
    return sessions
  }

  /// The apps' connections, oldest first.
  public func connections() async throws -> [ConnectionInfo] {
    guard case .connections(let connections) = try await ask(.connections) else { throw Self.otherReply }
    return connections
  }

  /// Resets a connection; false when none that lives has this number.
  @discardableResult
  public func closeConnection(id: UInt64) async throws -> Bool {
    guard case .closed(let wasThere) = try await ask(.closeConnection(id: id)) else { throw Self.otherReply }
    return wasThere
  }

  /// Lets the VPN that is up go by another config. It is not saved: `AnyTLSVPN.save` does that.
  public func reload(_ config: VPNConfig) async throws {
    guard case .done = try await ask(.reload(config)) else { throw Self.otherReply }
  }

  public func setLogLevel(_ level: LogLevel) async throws {
    guard case .done = try await ask(.setLogLevel(level)) else { throw Self.otherReply }
  }

  /// Measures the server, by a session of its own to it and streams to the destination (`host:port`).
  public func testLatency(destination: String = "www.gstatic.com:80") async throws -> LatencyReport {
    let reply = try await ask(.testLatency(destination: destination), within: Self.patienceWithLatency)
    guard case .latency(let report) = reply else { throw Self.otherReply }
    return report
  }

  /// The lines newer than that number, oldest first; `missed` of them are no longer kept.
  public func logs(after number: UInt64 = 0) async throws -> (lines: [LogLine], missed: UInt64) {
    guard case .logs(let lines, let missed) = try await ask(.logs(after: number)) else {
      throw Self.otherReply
    }
    return (lines, missed)
  }

  /// How the run before this one ended; nil when there was none.
  public func lastRun() async throws -> LastRun? {
    guard case .lastRun(let run) = try await ask(.lastRun) else { throw Self.otherReply }
    return run
  }

  private static let otherReply = VPNFailure.noAnswer("the reply is to another message")

  private func ask(_ message: AppMessage, within seconds: TimeInterval = patience) async throws -> AppReply {
    let data = try message.data()
    let answer: Data??
    do {
      answer = try await within(seconds, pause: pause) { [transport] in try await transport(data) }
    } catch let failure as VPNFailure {
      throw failure
    } catch {
      try Task.checkCancellation()
      throw VPNFailure.noAnswer("not sent: \(error.localizedDescription)")
    }
    guard let answer else { throw VPNFailure.noAnswer("none within \(Int(seconds)) seconds") }
    guard let answer else { throw VPNFailure.noAnswer("the extension has ended") }
    let reply = try AppReply(data: answer)
    if case .failure(let failure) = reply { throw failure }
    return reply
  }
}

/// What is asked for again and again. Only while somebody waits for the next element, and without an end: a tunnel that
/// is down gives nothing until it is up again.
extension TunnelClient {
  /// What was counted since the start, now and then every so many seconds.
  public func stats(every seconds: TimeInterval = 1) -> AsyncStream<TunnelStats> {
    poll(every: seconds) { try await stats() }
  }

  /// How the tunnel is doing, now and then every so many seconds, when it has changed.
  public func states(every seconds: TimeInterval = 1) -> AsyncStream<TunnelState> {
    let last = Kept<TunnelState?>(nil)
    return poll(every: seconds) {
      let state = try await state()
      return await last.exchange(for: state) == state ? nil : state
    }
  }

  /// The log's lines as they come, oldest first, in pages that are never empty.
  public func logs(every seconds: TimeInterval = 1) -> AsyncStream<(lines: [LogLine], missed: UInt64)> {
    let last = Kept<UInt64>(0)
    return poll(every: seconds) {
      let page = try await logs(after: await last.value)
      guard let newest = page.lines.last else { return nil }
      _ = await last.exchange(for: newest.number)
      return page
    }
  }

  private func poll<T: Sendable>(
    every seconds: TimeInterval, _ ask: @escaping @Sendable () async throws -> T?
  ) -> AsyncStream<T> {
    let isFirst = Kept(true)
    return AsyncStream {
      while !Task.isCancelled {
        if await !isFirst.exchange(for: false) {
          guard (try? await pause(seconds)) != nil else { return nil }
        }
        if let element = try? await ask() { return element }
      }
      return nil
    }
  }
}

/// What a stream remembers between two elements.
private actor Kept<Value: Sendable> {
  private(set) var value: Value

  init(_ value: Value) {
    self.value = value
  }

  func exchange(for new: Value) -> Value {
    defer { value = new }
    return value
  }
}

/// Sends over a session, which belongs to the main actor.
@MainActor
struct MessageSender {
  let session: NETunnelProviderSession

  func send(_ data: Data) async throws -> Data? {
    // Called once at most, on any thread; with nil when the extension ends meanwhile, and not always then.
    try await awaitAnswer { done in
      try session.sendProviderMessage(data) { @Sendable reply in done(reply) }
    }
  }
}
