import Foundation

// swift-format-ignore: AlwaysUseLowerCamelCase
public let NEVPNErrorDomain = "NEVPNErrorDomain"

public struct NEVPNError: CustomNSError, Hashable {
  public enum Code: Int, Sendable {
    case configurationInvalid = 1
    case configurationDisabled = 2
    case connectionFailed = 3
    case configurationStale = 4
    case configurationReadWriteFailed = 5
    case configurationUnknown = 6
  }

  public static var configurationInvalid: Code { .configurationInvalid }
  public static var configurationDisabled: Code { .configurationDisabled }
  public static var connectionFailed: Code { .connectionFailed }
  public static var configurationStale: Code { .configurationStale }
  public static var configurationReadWriteFailed: Code { .configurationReadWriteFailed }
  public static var configurationUnknown: Code { .configurationUnknown }

  public static var errorDomain: String { NEVPNErrorDomain }

  public let code: Code
  public var errorCode: Int { code.rawValue }

  public init(_ code: Code) {
    self.code = code
  }
}
