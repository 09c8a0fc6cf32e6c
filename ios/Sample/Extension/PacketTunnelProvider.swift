import AnyTLSMobile

/// The system makes it by the name in Info.plist. What an app may change is in the hooks of the class above it.
final class PacketTunnelProvider: AnyTLSPacketTunnelProvider, @unchecked Sendable {}
