import Foundation

public enum NEProviderStopReason: Int, Sendable {
  case none = 0
  case userInitiated = 1
  case providerFailed = 2
  case noNetworkAvailable = 3
  case unrecoverableNetworkChange = 4
  case providerDisabled = 5
  case authenticationCanceled = 6
  case configurationFailed = 7
  case idleTimeout = 8
  case configurationDisabled = 9
  case configurationRemoved = 10
  case superceded = 11
  case userLogout = 12
  case userSwitch = 13
  case connectionFailed = 14
  case sleep = 15
  case appUpdate = 16
}

open class NEProvider: NSObject {
  public override init() {}

  open func sleep(completionHandler: @escaping @Sendable () -> Void) { completionHandler() }
  open func wake() {}
}

open class NETunnelProvider: NEProvider {
  open var protocolConfiguration: NEVPNProtocol { NETunnelProviderProtocol() }
  open var reasserting = false

  open func handleAppMessage(_ messageData: Data) async -> Data? { nil }

  /// A test overrides it to look at the settings, to refuse them, or to take its time.
  open func setTunnelNetworkSettings(_ tunnelNetworkSettings: NETunnelNetworkSettings?) async throws {}
}

open class NEPacketTunnelProvider: NETunnelProvider {
  open var packetFlow: NEPacketTunnelFlow { flow }
  private let flow = NEPacketTunnelFlow()

  open func startTunnel(
    options: [String: NSObject]? = nil, completionHandler: @escaping @Sendable ((any Error)?) -> Void
  ) {
    completionHandler(nil)
  }

  open func stopTunnel(with reason: NEProviderStopReason, completionHandler: @escaping @Sendable () -> Void) {
    completionHandler()
  }

  open func cancelTunnelWithError(_ error: (any Error)?) {}
}

/// Apple's has no initialiser for apps; a test overrides what it wants to see.
open class NEPacketTunnelFlow: NSObject {
  public override init() {}

  open func readPackets(completionHandler: @escaping @Sendable ([Data], [NSNumber]) -> Void) {}

  @discardableResult
  open func writePackets(_ packets: [Data], withProtocols protocols: [NSNumber]) -> Bool { true }
}
