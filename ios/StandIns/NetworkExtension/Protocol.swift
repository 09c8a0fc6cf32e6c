import Foundation

open class NEVPNProtocol: NSObject, NSCopying {
  open var serverAddress: String?
  open var username: String?
  open var passwordReference: Data?
  open var disconnectOnSleep = false
  open var includeAllNetworks = false
  open var excludeLocalNetworks = true
  open var enforceRoutes = false

  public override required init() {}

  open func copy(with zone: NSZone? = nil) -> Any {
    let copy = Self()
    copy.serverAddress = serverAddress
    copy.username = username
    copy.passwordReference = passwordReference
    copy.disconnectOnSleep = disconnectOnSleep
    copy.includeAllNetworks = includeAllNetworks
    copy.excludeLocalNetworks = excludeLocalNetworks
    copy.enforceRoutes = enforceRoutes
    return copy
  }
}

open class NETunnelProviderProtocol: NEVPNProtocol {
  open var providerBundleIdentifier: String?
  open var providerConfiguration: [String: Any]?

  open override func copy(with zone: NSZone? = nil) -> Any {
    let copy = super.copy(with: zone)
    if let copy = copy as? NETunnelProviderProtocol {
      copy.providerBundleIdentifier = providerBundleIdentifier
      copy.providerConfiguration = providerConfiguration
    }
    return copy
  }
}

public enum NEOnDemandRuleAction: Int, Sendable {
  case connect = 1
  case disconnect = 2
  case evaluateConnection = 3
  case ignore = 4
}

public enum NEOnDemandRuleInterfaceType: Int, Sendable {
  case any = 0
  case wiFi = 2
  case cellular = 3
}

open class NEOnDemandRule: NSObject {
  open var action: NEOnDemandRuleAction { .connect }
  open var interfaceTypeMatch: NEOnDemandRuleInterfaceType = .any
  open var ssidMatch: [String]?

  public override init() {}
}

open class NEOnDemandRuleConnect: NEOnDemandRule {}

open class NEOnDemandRuleDisconnect: NEOnDemandRule {
  open override var action: NEOnDemandRuleAction { .disconnect }
}

open class NEOnDemandRuleIgnore: NEOnDemandRule {
  open override var action: NEOnDemandRuleAction { .ignore }
}
