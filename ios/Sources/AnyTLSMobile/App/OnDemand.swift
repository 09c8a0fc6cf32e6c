import NetworkExtension

/// When the system turns the VPN on and off by itself.
///
/// The first rule that fits the network counts; where none does, nothing happens.
public struct OnDemand: Codable, Sendable, Hashable {
  public enum Network: Codable, Sendable, Hashable {
    case any
    case wifi
    /// Wi-Fi of one of these names.
    case wifiNamed([String])
    /// Fits no network on a Mac.
    case cellular
  }

  public enum Action: String, Codable, Sendable, CaseIterable {
    /// Turns the VPN on when an app wants the network.
    case connect
    /// Turns the VPN off.
    case disconnect
    /// Leaves the VPN as it is.
    case ignore
  }

  public struct Rule: Codable, Sendable, Hashable {
    public var network: Network
    public var action: Action

    public init(_ network: Network, _ action: Action) {
      self.network = network
      self.action = action
    }
  }

  public var isEnabled: Bool
  public var rules: [Rule]

  public init(isEnabled: Bool = true, rules: [Rule]) {
    self.isEnabled = isEnabled
    self.rules = rules
  }

  public static let off = OnDemand(isEnabled: false, rules: [])
  public static let always = OnDemand(rules: [Rule(.any, .connect)])

  /// In the system's terms.
  public var systemRules: [NEOnDemandRule] { rules.compactMap(\.systemRule) }
}

extension OnDemand.Rule {
  fileprivate var systemRule: NEOnDemandRule? {
    let rule: NEOnDemandRule =
      switch action {
      case .connect: NEOnDemandRuleConnect()
      case .disconnect: NEOnDemandRuleDisconnect()
      case .ignore: NEOnDemandRuleIgnore()
      }
    switch network {
    case .any:
      rule.interfaceTypeMatch = .any
    case .wifi:
      rule.interfaceTypeMatch = .wiFi
    case .wifiNamed(let names):
      if names.isEmpty { return nil }  // the system takes no names for all names
      rule.interfaceTypeMatch = .wiFi
      rule.ssidMatch = names
    case .cellular:
      #if os(macOS)
        return nil
      #else
        rule.interfaceTypeMatch = .cellular
      #endif
    }
    return rule
  }
}
