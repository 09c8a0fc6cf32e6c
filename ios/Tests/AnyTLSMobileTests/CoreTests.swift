import AnyTLSMobile
import XCTest

final class CoreTests: XCTestCase {
  func testCoreComesWithThePackage() {
    XCTAssertFalse(version().isEmpty)
  }
}
