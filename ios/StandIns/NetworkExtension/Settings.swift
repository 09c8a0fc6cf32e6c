import Foundation

open class NETunnelNetworkSettings: NSObject {
  public let tunnelRemoteAddress: String
  public var dnsSettings: NEDNSSettings?

  public init(tunnelRemoteAddress address: String) {
    tunnelRemoteAddress = address
  }
}

open class NEPacketTunnelNetworkSettings: NETunnelNetworkSettings {
  public var ipv4Settings: NEIPv4Settings?
  public var ipv6Settings: NEIPv6Settings?
  public var mtu: NSNumber?
}

open class NEDNSSettings: NSObject {
  public let servers: [String]
  public var matchDomains: [String]?

  public init(servers: [String]) {
    self.servers = servers
  }
}

open class NEIPv4Settings: NSObject {
  public let addresses: [String]
  public let subnetMasks: [String]
  public var includedRoutes: [NEIPv4Route]?
  public var excludedRoutes: [NEIPv4Route]?

  public init(addresses: [String], subnetMasks: [String]) {
    self.addresses = addresses
    self.subnetMasks = subnetMasks
  }
}

open class NEIPv4Route: NSObject {
  public let destinationAddress: String
  public let destinationSubnetMask: String

  public init(destinationAddress address: String, subnetMask: String) {
    destinationAddress = address
    destinationSubnetMask = subnetMask
  }

  open class func `default`() -> NEIPv4Route {
    NEIPv4Route(destinationAddress: "0.0.0.0", subnetMask: "0.0.0.0")
  }
}

open class NEIPv6Settings: NSObject {
  public let addresses: [String]
  public let networkPrefixLengths: [NSNumber]
  public var includedRoutes: [NEIPv6Route]?
  public var excludedRoutes: [NEIPv6Route]?

  public init(addresses: [String], networkPrefixLengths: [NSNumber]) {
    self.addresses = addresses
    self.networkPrefixLengths = networkPrefixLengths
  }
}

open class NEIPv6Route: NSObject {
  public let destinationAddress: String
  public let destinationNetworkPrefixLength: NSNumber

  public init(destinationAddress address: String, networkPrefixLength: NSNumber) {
    destinationAddress = address
    destinationNetworkPrefixLength = networkPrefixLength
  }

  open class func `default`() -> NEIPv6Route {
    NEIPv6Route(destinationAddress: "::", networkPrefixLength: 0)
  }
}
