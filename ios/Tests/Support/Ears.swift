import AnyTLSCore
import Foundation

/// What callbacks bring, kept in order for a test that asks for it later.
public final class Collector<Element: Sendable>: @unchecked Sendable {
  private let lock = NSLock()
  private var elements: [Element] = []
  private var next = 0

  public init() {}

  /// All that came, also what was waited for.
  public var all: [Element] { lock.withLock { elements } }

  public func add(_ more: [Element]) {
    lock.withLock { elements += more }
  }

  public func add(_ element: Element) {
    add([element])
  }

  /// Passes over elements until one is fit.
  @discardableResult
  public func take<T: Sendable>(_ what: String, _ fit: @Sendable (Element) -> T?) async throws -> T {
    do {
      return try await eventually(what) { self.pass(fit) }
    } catch is WaitedInVain {
      throw WaitedInVain("\(what); came: \(all)")
    }
  }

  /// The next element.
  public func take(_ what: String) async throws -> Element {
    try await take(what) { $0 }
  }

  /// What nobody has waited for yet.
  @discardableResult
  public func drain() -> [Element] {
    lock.withLock {
      defer { next = elements.count }
      return Array(elements[next...])
    }
  }

  private func pass<T>(_ fit: (Element) -> T?) -> T? {
    lock.withLock {
      while next < elements.count {
        next += 1
        if let found = fit(elements[next - 1]) { return found }
      }
      return nil
    }
  }
}

/// A listener that keeps what it hears. `react` is called after that, and may throw.
public final class Ears: EventListener {
  public let events = Collector<Event>()
  private let react: @Sendable (Event) throws -> Void

  public init(react: @escaping @Sendable (Event) throws -> Void = { _ in }) {
    self.react = react
  }

  public func onEvent(event: Event) throws {
    events.add(event)
    try react(event)
  }

  /// All states that were heard, in their order, those that were waited for too.
  public var states: [TunnelState] {
    events.all.compactMap { event in
      if case .state(let state) = event { state } else { nil }
    }
  }

  /// Passes over events until a state is fit.
  @discardableResult
  public func state<T: Sendable>(
    _ what: String, _ fit: @escaping @Sendable (TunnelState) -> T?
  ) async throws -> T {
    try await events.take(what) { event in
      if case .state(let state) = event { fit(state) } else { nil }
    }
  }

  /// Passes over events until this state comes.
  public func state(_ expected: TunnelState) async throws {
    try await state("\(expected)") { $0 == expected ? () : nil }
  }

  /// Passes over events until the tunnel says that it dials in vain; why.
  @discardableResult
  public func reconnecting(
    code: String? = nil
  ) async throws -> (attempt: UInt32, failure: Failure) {
    try await state("reconnecting, \(code ?? "for any reason")") { state in
      guard case .reconnecting(let attempt, _, let failure) = state else { return nil }
      return code == nil || failure.code == code ? (attempt, failure) : nil
    }
  }

  /// Passes over events until there are stats.
  @discardableResult
  public func stats() async throws -> TunnelStats {
    try await events.take("stats") { event in
      if case .stats(let stats) = event { stats } else { nil }
    }
  }
}
