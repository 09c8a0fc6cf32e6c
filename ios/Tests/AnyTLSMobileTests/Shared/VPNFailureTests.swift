import Foundation
import NetworkExtension
import XCTest

@testable import AnyTLSMobile

final class VPNFailureTests: XCTestCase {
  private static let problem = ConfigProblem(severity: .error, path: "server.host", reason: "missing")
  private static let timeout = Failure(
    code: "dial.timeout", isRetryable: true, userMessage: "The server does not answer.", detail: "10 s")
  private static let badConfig = Failure(code: "config", isRetryable: false, userMessage: "Bad.", detail: "")

  private let cases: [(failure: VPNFailure, code: String, system: NEVPNError.Code)] = [
    (.noConfig, "no_config", .configurationInvalid),
    (.badConfig([problem]), "config", .configurationInvalid),
    (.settingsRefused("no address"), "settings", .connectionFailed),
    (.noDescriptor, "no_descriptor", .connectionFailed),
    (.core(timeout), "core.dial.timeout", .connectionFailed),
    (.core(badConfig), "core.config", .configurationInvalid),
    (.store("denied"), "store", .configurationReadWriteFailed),
    (.noAnswer("dead"), "no_answer", .connectionFailed),
    (.system("why"), "system", .connectionFailed),
  ]

  func testTheSystemSeesAnErrorOfItsOwn() {
    for (failure, code, system) in cases {
      let error = failure as NSError
      XCTAssertEqual(error.domain, NEVPNErrorDomain)
      XCTAssertEqual(error.code, system.rawValue, code)
      XCTAssertEqual(failure.code, code)
      XCTAssertEqual(error.userInfo[VPNFailure.codeKey] as? String, code)
      XCTAssertEqual(error.localizedDescription, failure.userMessage)
      XCTAssertEqual((failure as any Error).localizedDescription, failure.userMessage)
    }
  }

  func testAFailureIsReadBackFromWhatTheSystemKept() {
    for (failure, _, _) in cases {
      let passed = failure as NSError
      let kept = NSError(domain: passed.domain, code: passed.code, userInfo: passed.userInfo)
      XCTAssertEqual(VPNFailure(kept), failure)
      XCTAssertEqual(VPNFailure(failure), failure)
    }
  }

  func testOtherErrorsAreNoFailureOfOurs() {
    XCTAssertNil(VPNFailure(NSError(domain: NEVPNErrorDomain, code: 3)))
    XCTAssertNil(VPNFailure(NEVPNError(.configurationStale)))
    let garbled = NSError(domain: NEVPNErrorDomain, code: 3, userInfo: [VPNFailure.failureKey: "{"])
    XCTAssertNil(VPNFailure(garbled))
  }

  func testWhatTheSystemKeepsIsAPropertyList() {
    for (failure, _, _) in cases {
      XCTAssertTrue(PropertyListSerialization.propertyList(failure.errorUserInfo, isValidFor: .binary))
    }
  }

  func testEveryFailureHasASentenceForTheUser() {
    for (failure, code, _) in cases {
      XCTAssertTrue(failure.userMessage.hasSuffix("."), code)
      XCTAssertFalse(failure.userMessage.contains("denied"), code)
    }
    XCTAssertEqual(VPNFailure.badConfig([Self.problem]).detail, "server.host: missing")
    XCTAssertEqual(VPNFailure.core(Self.timeout).userMessage, Self.timeout.userMessage)
  }
}
