import AnyTLSCore
import Foundation
import NetworkExtension

/// Where a config is kept so that the extension finds it, also when the system starts it by itself: the text among the
/// secrets, a reference to it and everything else in the system's VPN preferences.
struct ConfigStore: Sendable {
  private static let optionsKey = "options"
  private static let onDemandKey = "onDemand"

  let secrets: any SecretStore

  init(secrets: any SecretStore) {
    self.secrets = secrets
  }

  init() {
    #if canImport(Security)
      self.init(secrets: Keychain())
    #else
      self.init(secrets: MemorySecrets.shared)
    #endif
  }

  /// The config of the preferences. Throws `VPNFailure`: `.noConfig` when the secret is gone, as on a new phone that
  /// was set up from a backup.
  func load(from settings: NETunnelProviderProtocol) throws -> VPNConfig {
    guard let reference = settings.passwordReference, let text = try loadSecret(reference) else {
      throw VPNFailure.noConfig
    }
    return VPNConfig(
      text: text, options: Self.read(Self.optionsKey, from: settings.providerConfiguration) ?? VPNOptions())
  }

  /// What the app wants to know again; the system's own rules cannot be read back.
  static func onDemand(of settings: NETunnelProviderProtocol) -> OnDemand {
    read(onDemandKey, from: settings.providerConfiguration) ?? .off
  }

  /// New settings for the preferences, of which the secret is saved already: `delete` it when they are not.
  func make(
    _ config: VPNConfig, summary: ConfigSummary, onDemand: OnDemand, providerBundleIdentifier: String
  ) throws -> NETunnelProviderProtocol {
    let settings = NETunnelProviderProtocol()
    settings.providerBundleIdentifier = providerBundleIdentifier
    settings.serverAddress = summary.serverHost
    settings.providerConfiguration = [
      Self.optionsKey: try Self.write(config.options), Self.onDemandKey: try Self.write(onDemand),
    ]
    settings.disconnectOnSleep = false
    settings.includeAllNetworks = config.options.includesAllNetworks
    settings.excludeLocalNetworks = config.options.excludesLocalNetworks
    settings.passwordReference = try saveSecret(config.text, of: providerBundleIdentifier)
    return settings
  }

  /// Forgets the secret of settings that could not be saved. One that cannot be deleted now goes with the next save.
  func delete(_ settings: NEVPNProtocol) {
    guard let reference = settings.passwordReference else { return }
    try? secrets.delete(reference)
  }

  /// Forgets every secret of this extension's but that of the settings which are in the preferences now: also what a
  /// process that was killed has left behind, or an app that was deleted, whose preferences go and secrets stay.
  func deleteAll(of providerBundleIdentifier: String, but settings: NEVPNProtocol?) {
    try? secrets.deleteAll(of: providerBundleIdentifier, but: settings?.passwordReference)
  }

  private func loadSecret(_ reference: Data) throws -> String? {
    do {
      return try secrets.load(reference)
    } catch {
      throw VPNFailure(storing: error)
    }
  }

  private func saveSecret(_ text: String, of owner: String) throws -> Data {
    do {
      return try secrets.save(text, of: owner)
    } catch {
      throw VPNFailure(storing: error)
    }
  }

  /// As text, which a property list can hold and a person can read.
  private static func write(_ value: some Encodable) throws -> String {
    String(decoding: try JSONEncoder().encode(value), as: UTF8.self)
  }

  private static func read<T: Decodable>(_ key: String, from settings: [String: Any]?) -> T? {
    guard let text = settings?[key] as? String else { return nil }
    return try? JSONDecoder().decode(T.self, from: Data(text.utf8))
  }
}

extension VPNFailure {
  /// Of an error of the keychain or the preferences.
  init(storing error: any Error) {
    self = error as? VPNFailure ?? .store(error.localizedDescription)
  }
}
