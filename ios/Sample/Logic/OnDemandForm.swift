import AnyTLSMobile
import Foundation

/// The screen for when the VPN turns on and off by itself: a choice for each kind of network, and Wi-Fi networks that
/// need no VPN.
public struct OnDemandForm: Sendable, Hashable {
  public var isEnabled: Bool
  public var onWifi: OnDemand.Action
  public var onCellular: OnDemand.Action
  /// Names of Wi-Fi networks where the VPN is turned off.
  public private(set) var trusted: [String]
  /// What is typed into the field for another name.
  public var newName = ""

  /// Everywhere at first: whoever turns the rules on wants that most of the time.
  public init(_ onDemand: OnDemand = .off) {
    let isNew = onDemand.rules.isEmpty
    isEnabled = onDemand.isEnabled
    onWifi = isNew ? .connect : onDemand.action { $0 == .wifi }
    onCellular = isNew ? .connect : onDemand.action { $0 == .cellular }
    trusted = onDemand.rules.flatMap { rule -> [String] in
      guard case .wifiNamed(let names) = rule.network, rule.action == .disconnect else { return [] }
      return names
    }
  }

  /// The rules to save, in the order in which the system tries them.
  public var onDemand: OnDemand {
    var rules: [OnDemand.Rule] = []
    if !trusted.isEmpty { rules.append(.init(.wifiNamed(trusted), .disconnect)) }
    if onWifi == onCellular {
      rules.append(.init(.any, onWifi))  // cables, too
    } else {
      rules += [.init(.wifi, onWifi), .init(.cellular, onCellular)]
    }
    return OnDemand(isEnabled: isEnabled, rules: rules)
  }

  /// The name that is typed, without the blanks around it; nil when it is none, or known.
  public var nameToAdd: String? {
    let name = newName.trimmingCharacters(in: .whitespacesAndNewlines)
    return name.isEmpty || trusted.contains(name) ? nil : name
  }

  public mutating func addName() {
    guard let name = nameToAdd else { return }
    trusted.append(name)
    newName = ""
  }

  public mutating func removeNames(at offsets: IndexSet) {
    trusted = trusted.indices.filter { !offsets.contains($0) }.map { trusted[$0] }
  }

  /// What comes of it, in a sentence.
  public var consequence: String {
    if !isEnabled { return Texts.onDemandOff }
    let turnsOn = onWifi == .connect || onCellular == .connect
    return turnsOn ? Texts.onDemandComesBack : Texts.neverTurnsOn
  }
}

extension OnDemand {
  /// What the first rule for a kind of network says; the system does nothing where there is none.
  fileprivate func action(_ fits: (Network) -> Bool) -> Action {
    rules.first { $0.network == .any || fits($0.network) }?.action ?? .ignore
  }
}

extension OnDemand.Action {
  public var title: String {
    switch self {
    case .connect: Texts.turnOn
    case .disconnect: Texts.turnOff
    case .ignore: Texts.leaveAlone
    }
  }
}
