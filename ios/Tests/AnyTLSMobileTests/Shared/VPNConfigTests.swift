import Foundation
import XCTest

@testable import AnyTLSMobile

final class VPNConfigTests: XCTestCase {
  private let config = VPNConfig(text: "anytls://hunter2@example.com/")

  func testNoDescriptionShowsTheText() {
    var dumped = ""
    dump(config, to: &dumped)
    var dumpedMessage = ""
    dump(AppMessage.reload(config), to: &dumpedMessage)
    let shown = [
      "\(config)", String(reflecting: config), dumped, dumpedMessage, "\(AppMessage.reload(config))",
      String(reflecting: AppMessage.reload(config)), "\([config])", "\(Optional(config) as Any)",
    ]
    for text in shown { XCTAssertFalse(text.contains("hunter2"), text) }
    XCTAssertTrue("\(config)".hasPrefix("VPNConfig(.., "))
  }

  func testStartOptionsCarryTheConfig() throws {
    var config = config
    config.options.packets = .packetFlow
    XCTAssertEqual(try VPNConfig(startOptions: try config.startOptions()), config)
  }

  func testAStartOfTheSystemHasNoConfig() throws {
    XCTAssertNil(try VPNConfig(startOptions: nil))
    XCTAssertNil(try VPNConfig(startOptions: ["is-on-demand": NSNumber(value: true)]))
  }

  func testStartOptionsOfAnotherKindAreRefusedWithoutBeingQuoted() {
    let wrong: [NSObject] = [
      NSString(string: "hunter2"), NSData(data: Data(#"{"text":"hunter2","options":1"#.utf8)),
    ]
    for value in wrong {
      XCTAssertThrowsError(try VPNConfig(startOptions: ["config": value])) { error in
        XCTAssertEqual((error as? VPNFailure)?.code, "store")
        XCTAssertFalse("\(error) \(error.localizedDescription)".contains("hunter2"))
      }
    }
  }

  func testOptionsOfAnotherVersionAreTheirDefaults() throws {
    func decode(_ json: String) throws -> VPNOptions {
      try JSONDecoder().decode(VPNOptions.self, from: Data(json.utf8))
    }
    XCTAssertEqual(try decode("{}"), VPNOptions())
    XCTAssertEqual(try decode(#"{"packets":"telepathy","isQuick":true}"#), VPNOptions())
    var options = VPNOptions()
    options.packets = .packetFlow
    options.excludesServer = false
    options.includesAllNetworks = true
    options.excludesLocalNetworks = false
    let json = """
      {"packets":"packetFlow","excludesServer":false,"includesAllNetworks":true,"excludesLocalNetworks":false}
      """
    XCTAssertEqual(try decode(json), options)
    XCTAssertEqual(try decode(String(decoding: JSONEncoder().encode(options), as: UTF8.self)), options)
  }
}
