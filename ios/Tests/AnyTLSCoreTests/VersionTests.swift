import AnyTLSCore
import XCTest

final class VersionTests: XCTestCase {
  func testVersionIsThatOfTheCrate() {
    XCTAssertEqual(version(), "0.1.0")
  }

  func testNoTunIsFoundWhereNoSystemHidesOne() {
    XCTAssertNil(findTun())
  }
}
