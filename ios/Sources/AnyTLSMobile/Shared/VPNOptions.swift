/// What iOS is asked for. The interface's addresses, MTU and DNS servers come from the config.
public struct VPNOptions: Codable, Sendable, Hashable {
  /// How packets come from the system to the core.
  public enum PacketSource: String, Codable, Sendable, CaseIterable {
    /// The core reads the interface's descriptor itself: less memory and work for each packet.
    case descriptor
    /// Apple's documented way, through `NEPacketTunnelFlow`.
    case packetFlow
  }

  public var packets: PacketSource = .descriptor
  /// Whether the server's addresses are excluded routes.
  public var excludesServer = true
  /// Whether everything goes through the VPN whatever the routes say, and nothing goes anywhere when it is not up.
  public var includesAllNetworks = false
  /// With `includesAllNetworks`: whether the local network stays reachable all the same.
  public var excludesLocalNetworks = true

  public init() {}

  /// Lenient, since app and extension may be of different versions: what is missing or unknown is its default.
  public init(from decoder: any Decoder) throws {
    let fields = try decoder.container(keyedBy: CodingKeys.self)
    func read<T: Decodable>(_ key: CodingKeys, into field: inout T) {
      if let value = try? fields.decode(T.self, forKey: key) { field = value }
    }
    read(.packets, into: &packets)
    read(.excludesServer, into: &excludesServer)
    read(.includesAllNetworks, into: &includesAllNetworks)
    read(.excludesLocalNetworks, into: &excludesLocalNetworks)
  }
}
