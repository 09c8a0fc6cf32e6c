import AnyTLSCore
import Foundation
import NetworkExtension

/// Why there is no VPN, or why something asked of it was not done. Holds no secret.
public enum VPNFailure: Error, Codable, Sendable, Hashable {
  /// Started without a config, and none was saved.
  case noConfig
  /// The config cannot be used. All that is wrong with it, with JSON paths.
  case badConfig([ConfigProblem])
  /// The system did not take the network settings, or the config gives none that are complete.
  case settingsRefused(String)
  /// The system's packet interface was not found; `VPNOptions.PacketSource.packetFlow` does without it.
  case noDescriptor
  /// The core has given up, or refused a call.
  case core(Failure)
  /// The keychain or the system's VPN preferences could not be read or written.
  case store(String)
  /// The extension did not answer a message of the app.
  case noAnswer(String)
  /// The system has ended the VPN for a reason of its own: its error's domain, code and words.
  case system(String)

  /// What it is, for ever the same: `config`, `core.dial.timeout`.
  public var code: String {
    switch self {
    case .noConfig: "no_config"
    case .badConfig: "config"
    case .settingsRefused: "settings"
    case .noDescriptor: "no_descriptor"
    case .core(let failure): "core.\(failure.code)"
    case .store: "store"
    case .noAnswer: "no_answer"
    case .system: "system"
    }
  }

  /// For the person who holds the phone, in English. Translate by `code`.
  public var userMessage: String {
    switch self {
    case .noConfig: "There is no configuration."
    case .badConfig: "The configuration has errors."
    case .settingsRefused: "The system did not accept the VPN's network settings."
    case .noDescriptor: "The VPN's interface was not found."
    case .core(let failure): failure.userMessage
    case .store: "The VPN's configuration could not be read or saved."
    case .noAnswer: "The VPN does not answer."
    case .system: "The system has ended the VPN."
    }
  }

  /// For the developer. May name the server.
  public var detail: String? {
    switch self {
    case .noConfig, .noDescriptor: nil
    case .badConfig(let problems): problems.map { "\($0.path): \($0.reason)" }.joined(separator: "; ")
    case .core(let failure): failure.detail
    case .settingsRefused(let reason), .store(let reason), .noAnswer(let reason), .system(let reason): reason
    }
  }
}

extension VPNFailure: LocalizedError {
  public var errorDescription: String? { userMessage }
  public var failureReason: String? { detail }
}

/// How the system sees a failure, keeps it, and gives it to the app by `fetchLastDisconnectError`.
extension VPNFailure: CustomNSError {
  /// In `userInfo`: `code`.
  public static let codeKey = "io.anytls.mobile.code"
  /// In `userInfo`: the failure as JSON.
  static let failureKey = "io.anytls.mobile.failure"

  public static var errorDomain: String { NEVPNErrorDomain }

  public var errorCode: Int {
    switch self {
    case .noConfig, .badConfig: NEVPNError.configurationInvalid.rawValue
    case .store: NEVPNError.configurationReadWriteFailed.rawValue
    case .core(let failure) where failure.code == "config": NEVPNError.configurationInvalid.rawValue
    case .settingsRefused, .noDescriptor, .core, .noAnswer, .system: NEVPNError.connectionFailed.rawValue
    }
  }

  public var errorUserInfo: [String: Any] {
    var info = [NSLocalizedDescriptionKey: userMessage, Self.codeKey: code]
    info[NSLocalizedFailureReasonErrorKey] = detail
    if let json = try? JSONEncoder().encode(self) {
      info[Self.failureKey] = String(decoding: json, as: UTF8.self)
    }
    return info
  }

  /// The failure that an error is, or was before the system passed it on; nil for an error of another origin.
  public init?(_ error: any Error) {
    if let failure = error as? VPNFailure {
      self = failure
      return
    }
    guard let json = (error as NSError).userInfo[Self.failureKey] as? String,
      let failure = try? JSONDecoder().decode(VPNFailure.self, from: Data(json.utf8))
    else { return nil }
    self = failure
  }

  /// Of what the system tells of a VPN that has ended.
  init(ending error: any Error) {
    let told = error as NSError
    self = VPNFailure(error) ?? .system("\(told.domain) \(told.code): \(told.localizedDescription)")
  }
}
