import NetworkExtension
import XCTest

@testable import AnyTLSMobile

final class OnDemandTests: XCTestCase {
  func testRulesKeepTheirOrderAndMeaning() {
    let onDemand = OnDemand(rules: [
      .init(.wifiNamed(["Home", "Office"]), .disconnect), .init(.wifi, .connect), .init(.cellular, .ignore),
      .init(.any, .connect),
    ])
    let rules = onDemand.systemRules
    XCTAssertEqual(rules.map(\.action), [.disconnect, .connect, .ignore, .connect])
    XCTAssertEqual(rules.map(\.interfaceTypeMatch), [.wiFi, .wiFi, .cellular, .any])
    XCTAssertEqual(rules.map(\.ssidMatch), [["Home", "Office"], nil, nil, nil])
  }

  func testNoNamesAreNotAllNames() {
    let onDemand = OnDemand(rules: [.init(.wifiNamed([]), .disconnect), .init(.any, .connect)])
    XCTAssertEqual(onDemand.systemRules.map(\.action), [.connect])
  }

  func testOffAndAlways() {
    XCTAssertFalse(OnDemand.off.isEnabled)
    XCTAssertTrue(OnDemand.off.systemRules.isEmpty)
    XCTAssertTrue(OnDemand.always.isEnabled)
    XCTAssertEqual(OnDemand.always.systemRules.map(\.interfaceTypeMatch), [.any])
  }

  func testGoesThereAndBack() throws {
    let onDemand = OnDemand(
      isEnabled: false, rules: [.init(.wifiNamed(["a"]), .ignore), .init(.cellular, .connect)])
    XCTAssertEqual(try JSONDecoder().decode(OnDemand.self, from: JSONEncoder().encode(onDemand)), onDemand)
  }
}
