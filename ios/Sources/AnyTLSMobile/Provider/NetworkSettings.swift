import AnyTLSCore
import Foundation
import NetworkExtension

/// What the system is told of the interface. Pure: the same config gives the same settings.
public enum NetworkSettings {
  /// A family has an address, the default route and a DNS server, or nothing of these, so that no name is asked for
  /// outside of the VPN. Apple leaves the traffic of a family that is not there alone: a config with one family lets
  /// the other one pass beside the VPN, unless `VPNOptions.includesAllNetworks` holds it back.
  ///
  /// `serverAddresses` are those that are known; a system that has the VPN up could not look them up.
  ///
  /// Throws `VPNFailure.settingsRefused` when no family is complete.
  public static func make(
    for config: ConfigSummary, options: VPNOptions, serverAddresses: [String]
  ) throws(VPNFailure) -> NEPacketTunnelNetworkSettings {
    let servers = serverAddresses.filter { IPFamily(of: $0) != nil }
    // Shown by the system and used for nothing; it must be a number.
    let settings = NEPacketTunnelNetworkSettings(tunnelRemoteAddress: servers.first ?? "127.0.0.1")
    let excluded = options.excludesServer ? servers : []
    let families = IPFamily.allCases.filter {
      config.tun.addresses(of: $0) != [] && config.tun.dnsServers(of: $0) != []
    }
    guard !families.isEmpty else {
      throw VPNFailure.settingsRefused("no family has both an address and a DNS server")
    }
    for family in families {
      let addresses = config.tun.addresses(of: family)
      let excluded = excluded.filter { IPFamily(of: $0) == family }
      switch family {
      case .v4: settings.ipv4Settings = v4(addresses, excluded)
      case .v6: settings.ipv6Settings = v6(addresses, excluded)
      }
    }
    let dns = NEDNSSettings(servers: families.flatMap(config.tun.dnsServers))
    dns.matchDomains = [""]  // every name
    settings.dnsSettings = dns
    settings.mtu = NSNumber(value: config.tun.mtu)
    return settings
  }

  private static func v4(_ addresses: [InterfaceAddress], _ excluded: [String]) -> NEIPv4Settings {
    let settings = NEIPv4Settings(
      addresses: addresses.map(\.address), subnetMasks: addresses.map { mask($0.prefixLength) })
    settings.includedRoutes = [.default()]
    settings.excludedRoutes = excluded.map { NEIPv4Route(destinationAddress: $0, subnetMask: mask(32)) }
    return settings
  }

  private static func v6(_ addresses: [InterfaceAddress], _ excluded: [String]) -> NEIPv6Settings {
    let settings = NEIPv6Settings(
      addresses: addresses.map(\.address),
      networkPrefixLengths: addresses.map { NSNumber(value: min($0.prefixLength, longestPrefix)) })
    settings.includedRoutes = [.default()]
    settings.excludedRoutes = excluded.map { NEIPv6Route(destinationAddress: $0, networkPrefixLength: 128) }
    return settings
  }

  /// An interface with a longer one has been seen to get no IPv6 at all (known to VPN developers, in no document of
  /// Apple's). Nobody else is in the tunnel's network, so that a larger one changes nothing. Routes have no such limit.
  private static let longestPrefix: UInt8 = 120

  private static func mask(_ prefixLength: UInt8) -> String {
    let bits: UInt32 = prefixLength == 0 ? 0 : ~0 << (32 - UInt32(min(prefixLength, 32)))
    return [24, 16, 8, 0].map { String(bits >> $0 & 0xff) }.joined(separator: ".")
  }
}

enum IPFamily: CaseIterable {
  case v4, v6

  /// Nil for what is no number.
  init?(of address: String) {
    var v4 = in_addr()
    var v6 = in6_addr()
    if inet_pton(AF_INET, address, &v4) == 1 {
      self = .v4
    } else if inet_pton(AF_INET6, address, &v6) == 1 {
      self = .v6
    } else {
      return nil
    }
  }
}

extension TunSettings {
  fileprivate func addresses(of family: IPFamily) -> [InterfaceAddress] {
    addresses.filter { IPFamily(of: $0.address) == family }
  }

  fileprivate func dnsServers(of family: IPFamily) -> [String] {
    dnsServers.filter { IPFamily(of: $0) == family }
  }
}
