import AnyTLSMobile
import NetworkExtension

// The code of the READMEs, so that it is compiled: `ReadmeTests` looks whether it is still the same.

final class PacketTunnelProvider: AnyTLSPacketTunnelProvider, @unchecked Sendable {}

@MainActor
final class VPNSwitch {
  private let vpn = AnyTLSVPN(providerBundleIdentifier: "com.example.app.tunnel")

  /// Whenever the app comes to the front.
  func load() async throws { try await vpn.load() }

  func turn(on isOn: Bool) async throws {
    guard isOn else { return try await vpn.stop() }
    // The first time, iOS asks the user.
    try await vpn.save(VPNConfig(text: "anytls://password@example.com/?sni=example.com"))
    try await vpn.start()
  }

  func follow(_ show: (VPNState) -> Void) async {
    for await state in vpn.states() { show(state) }
  }
}

func browse(_ provider: NEPacketTunnelProvider, text: String) async throws -> Tunnel {
  let config = try parseConfig(text: text)  // throws TunnelError.Config with every problem
  try await provider.setTunnelNetworkSettings(settings(for: config.tun))
  let tunnel = Tunnel(platform: nil)  // the system keeps the extension's own sockets out of the VPN
  _ = try tunnel.subscribe(listener: Shown(), statsInterval: 1)  // an EventListener: onEvent(event:)
  guard let tun = findTun() else { throw NEVPNError(.connectionFailed) }  // a duplicate
  try await tunnel.start(config: text, tun: tun)
  return tunnel  // until stopTunnel: await tunnel.stop()
}

@MainActor func test(_ vpn: AnyTLSVPN, _ config: VPNConfig) async throws {
  try await vpn.save(config)  // iOS asks the user, once
  switch try await vpn.startAndAwait() {
  case .up: print(try await vpn.client.testLatency())
  case .failed(let failure): print(failure?.userMessage ?? "no reason is told")
  default: print("off")
  }
  try await vpn.stopAndAwait()
}

// What they leave to the reader.

private func settings(for tun: TunSettings) -> NEPacketTunnelNetworkSettings {
  NEPacketTunnelNetworkSettings(tunnelRemoteAddress: "127.0.0.1")
}

private final class Shown: EventListener {
  func onEvent(event: Event) throws {}
}
