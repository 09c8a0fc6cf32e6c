import NetworkExtension
import XCTest

@testable import AnyTLSMobile

final class NetworkSettingsTests: XCTestCase {
  private let v4 = InterfaceAddress(address: "172.19.0.1", prefixLength: 30)
  private let v6 = InterfaceAddress(address: "fdfe:dcba:9876::1", prefixLength: 126)

  func testBothFamiliesAreComplete() throws {
    let settings = try make(
      [v4, v6], ["172.19.0.2", "fdfe:dcba:9876::2"], servers: ["192.0.2.7", "2001:db8::7"])
    XCTAssertEqual(settings.tunnelRemoteAddress, "192.0.2.7")
    XCTAssertEqual(settings.mtu, 4064)
    let ipv4 = try XCTUnwrap(settings.ipv4Settings)
    XCTAssertEqual(ipv4.addresses, ["172.19.0.1"])
    XCTAssertEqual(ipv4.subnetMasks, ["255.255.255.252"])
    XCTAssertEqual(ipv4.includedRoutes?.map(\.destinationAddress), ["0.0.0.0"])
    XCTAssertEqual(ipv4.includedRoutes?.map(\.destinationSubnetMask), ["0.0.0.0"])
    XCTAssertEqual(ipv4.excludedRoutes?.map(\.destinationAddress), ["192.0.2.7"])
    XCTAssertEqual(ipv4.excludedRoutes?.map(\.destinationSubnetMask), ["255.255.255.255"])
    let ipv6 = try XCTUnwrap(settings.ipv6Settings)
    XCTAssertEqual(ipv6.addresses, ["fdfe:dcba:9876::1"])
    XCTAssertEqual(ipv6.networkPrefixLengths, [120])
    XCTAssertEqual(ipv6.includedRoutes?.map(\.destinationAddress), ["::"])
    XCTAssertEqual(ipv6.includedRoutes?.map(\.destinationNetworkPrefixLength), [0])
    XCTAssertEqual(ipv6.excludedRoutes?.map(\.destinationAddress), ["2001:db8::7"])
    XCTAssertEqual(ipv6.excludedRoutes?.map(\.destinationNetworkPrefixLength), [128])
    XCTAssertEqual(settings.dnsSettings?.servers, ["172.19.0.2", "fdfe:dcba:9876::2"])
    XCTAssertEqual(settings.dnsSettings?.matchDomains, [""])
  }

  func testTheRealConfigIsComplete() throws {
    let config = try parseConfig(text: "anytls://secret@192.0.2.7:443")
    let settings = try NetworkSettings.make(
      for: config, options: VPNOptions(), serverAddresses: ["192.0.2.7"])
    XCTAssertNotNil(settings.ipv4Settings)
    XCTAssertNotNil(settings.ipv6Settings)
    XCTAssertEqual(settings.mtu?.uint16Value, config.tun.mtu)
  }

  func testAFamilyComesWholeOrNotAtAll() throws {
    let onlyV4 = try make([v4, v6], ["172.19.0.2"], servers: ["192.0.2.7", "2001:db8::7"])
    XCTAssertNotNil(onlyV4.ipv4Settings)
    XCTAssertNil(onlyV4.ipv6Settings)
    let onlyV6 = try make([v6], ["172.19.0.2", "fdfe:dcba:9876::2"], servers: [])
    XCTAssertNil(onlyV6.ipv4Settings)
    XCTAssertNotNil(onlyV6.ipv6Settings)
    XCTAssertEqual(onlyV6.dnsSettings?.servers, ["fdfe:dcba:9876::2"])
  }

  func testNeverWithoutDNS() {
    for (addresses, servers) in [([v4, v6], []), ([v4], ["fdfe:dcba:9876::2"]), ([], ["172.19.0.2"])] {
      XCTAssertThrowsError(try make(addresses, servers, servers: [])) {
        XCTAssertEqual(($0 as? VPNFailure)?.code, "settings")
      }
    }
  }

  func testServersAreExcludedOnlyWhenAskedForAndKnown() throws {
    var options = VPNOptions()
    options.excludesServer = false
    let addresses = [v4, v6]
    let dns = ["172.19.0.2", "fdfe:dcba:9876::2"]
    let settings = try make(addresses, dns, servers: ["192.0.2.7"], options: options)
    XCTAssertEqual(settings.ipv4Settings?.excludedRoutes?.count, 0)
    XCTAssertEqual(settings.tunnelRemoteAddress, "192.0.2.7")

    let unknown = try make(addresses, dns, servers: ["vpn.example", "fe80::1%en0"])
    XCTAssertEqual(unknown.tunnelRemoteAddress, "127.0.0.1")
    XCTAssertEqual(unknown.ipv4Settings?.excludedRoutes?.count, 0)
    XCTAssertEqual(unknown.ipv6Settings?.excludedRoutes?.count, 0)
  }

  func testMasksOfAllLengths() throws {
    let masks = [
      0: "0.0.0.0", 1: "128.0.0.0", 8: "255.0.0.0", 9: "255.128.0.0", 24: "255.255.255.0",
      31: "255.255.255.254",
      32: "255.255.255.255",
    ]
    for (length, mask) in masks {
      let address = InterfaceAddress(address: "10.0.0.1", prefixLength: UInt8(length))
      XCTAssertEqual(try make([address], ["10.0.0.2"], servers: []).ipv4Settings?.subnetMasks, [mask])
    }
    for (length, expected) in [0: 0, 64: 64, 120: 120, 121: 120, 128: 120] {
      let address = InterfaceAddress(address: "fd00::1", prefixLength: UInt8(length))
      let settings = try make([address], ["fd00::2"], servers: [])
      XCTAssertEqual(settings.ipv6Settings?.networkPrefixLengths, [NSNumber(value: expected)])
    }
  }

  private func make(
    _ addresses: [InterfaceAddress], _ dns: [String], servers: [String], options: VPNOptions = VPNOptions()
  ) throws -> NEPacketTunnelNetworkSettings {
    let tun = TunSettings(mtu: 4064, addresses: addresses, dnsServers: dns)
    let config = ConfigSummary(
      name: nil, serverHost: "vpn.example", serverPort: 443, isInsecure: false, tun: tun, logLevel: nil,
      warnings: [])
    return try NetworkSettings.make(for: config, options: options, serverAddresses: servers)
  }
}
