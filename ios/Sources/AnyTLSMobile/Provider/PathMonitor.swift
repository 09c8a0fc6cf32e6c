import Foundation
import Network

/// The phone's network, as far as it tells one from another.
struct NetworkPath: Sendable, Hashable {
  enum Status: Sendable { case available, onDemand, none }
  enum Kind: Sendable { case wifi, cellular, wired, loopback, other }

  struct Interface: Sendable, Hashable {
    var name: String
    var kind: Kind
  }

  var status: Status
  /// The system's choice first.
  var interfaces: [Interface]
  var gateways: [String]

  /// A name by the interface that traffic leaves by and its gateways; nil when there is none. Our own interface is up
  /// whether or not there is a network below it, and never counts.
  var name: String? {
    let below = interfaces.first { $0.kind != .loopback && !$0.name.hasPrefix("utun") }
    guard status != .none, let below else { return nil }
    return ([below.name] + gateways.sorted()).joined(separator: " ")
  }
}

enum PathMonitor {
  /// The path's name, now and whenever the system has news; nil for no network. The monitor ends with the stream.
  static func names() -> AsyncStream<String?> {
    AsyncStream(bufferingPolicy: .bufferingNewest(1)) { continuation in
      let monitor = Monitor()
      continuation.onTermination = { _ in monitor.cancel() }
      monitor.start { continuation.yield(NetworkPath($0).name) }
    }
  }
}

/// Not `Sendable` in every SDK; it is started once and cancelled once, which may be done from any thread.
private final class Monitor: @unchecked Sendable {
  private let monitor = NWPathMonitor()

  func start(_ tell: @escaping @Sendable (NWPath) -> Void) {
    monitor.pathUpdateHandler = tell
    monitor.start(queue: DispatchQueue(label: "io.anytls.mobile.path"))
  }

  func cancel() { monitor.cancel() }
}

extension NetworkPath {
  init(_ path: NWPath) {
    status =
      switch path.status {
      case .satisfied: .available
      case .requiresConnection: .onDemand
      case .unsatisfied: .none
      @unknown default: .available
      }
    interfaces = path.availableInterfaces.map { Interface(name: $0.name, kind: Kind($0.type)) }
    gateways = path.gateways.map { "\($0)" }
  }
}

extension NetworkPath.Kind {
  init(_ type: NWInterface.InterfaceType) {
    self =
      switch type {
      case .wifi: .wifi
      case .cellular: .cellular
      case .wiredEthernet: .wired
      case .loopback: .loopback
      case .other: .other
      @unknown default: .other
      }
  }
}
