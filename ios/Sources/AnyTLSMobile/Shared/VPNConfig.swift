import Foundation

/// What a VPN is started with.
public struct VPNConfig: Codable, Sendable, Hashable {
  /// A JSON config or an `anytls://` URI: whatever `parseConfig` takes. Holds a password.
  public var text: String
  public var options: VPNOptions

  public init(text: String, options: VPNOptions = VPNOptions()) {
    self.text = text
    self.options = options
  }
}

extension VPNConfig: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
  public var description: String { "VPNConfig(.., \(options))" }
  public var debugDescription: String { description }
  /// For `dump` and the test frameworks, which go by this and not by `description`.
  public var customMirror: Mirror { Mirror(self, children: ["options": options]) }
}

extension VPNConfig {
  private static let optionsKey = "config"

  /// What `startVPNTunnel(options:)` takes for a start with this config instead of the saved one.
  public func startOptions() throws -> [String: NSObject] {
    [Self.optionsKey: NSData(data: try JSONEncoder().encode(self))]
  }

  /// The config among the options of a start; nil when there is none, as when the system starts the VPN by itself.
  ///
  /// Throws `VPNFailure.store` for what `startOptions()` has not written.
  public init?(startOptions: [String: NSObject]?) throws {
    guard let value = startOptions?[Self.optionsKey] else { return nil }
    // The decoder's own error could quote the text.
    guard let data = value as? NSData,
      let config = try? JSONDecoder().decode(VPNConfig.self, from: Data(referencing: data))
    else { throw VPNFailure.store("the options of the start are not readable") }
    self = config
  }
}
