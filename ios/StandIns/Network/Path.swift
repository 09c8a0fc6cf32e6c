import Dispatch
import Foundation

public struct NWInterface: Sendable, Hashable {
  public enum InterfaceType: Sendable, Hashable {
    case other, wifi, cellular, wiredEthernet, loopback
  }

  public let name: String
  public let type: InterfaceType

  public init(name: String, type: InterfaceType) {
    self.name = name
    self.type = type
  }
}

public struct NWEndpoint: Sendable, Hashable, CustomDebugStringConvertible {
  public let debugDescription: String

  public init(_ description: String) {
    debugDescription = description
  }
}

public struct NWPath: Sendable, Hashable {
  public enum Status: Sendable, Hashable {
    case satisfied, unsatisfied, requiresConnection
  }

  public let status: Status
  public let availableInterfaces: [NWInterface]
  public let gateways: [NWEndpoint]

  public init(status: Status, availableInterfaces: [NWInterface], gateways: [NWEndpoint]) {
    self.status = status
    self.availableInterfaces = availableInterfaces
    self.gateways = gateways
  }
}

/// Says one path, as a machine with one cable would.
public final class NWPathMonitor {
  public var pathUpdateHandler: (@Sendable (NWPath) -> Void)?

  public init() {}

  public func start(queue: DispatchQueue) {
    let cable = NWInterface(name: "eth0", type: .wiredEthernet)
    let path = NWPath(status: .satisfied, availableInterfaces: [cable], gateways: [NWEndpoint("192.0.2.1")])
    let handler = pathUpdateHandler
    queue.async { handler?(path) }
  }

  public func cancel() { pathUpdateHandler = nil }
}
