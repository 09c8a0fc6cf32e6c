import AnyTLSMobile
import Foundation
import SampleLogic
import XCTest

final class ConfigFormTests: XCTestCase {
  private let first = "anytls://\(secret)@one.example:443#One"
  private let second = "anytls://\(secret)@two.example:443#Two"

  func testALinkFromOutsideOnlyOffersItself() throws {
    var form = ConfigForm()
    form.show(saved: VPNConfig(text: first))

    XCTAssertTrue(form.follow(try XCTUnwrap(URL(string: second))))

    XCTAssertEqual(form.present, ["One (one.example:443)"])
    XCTAssertEqual(form.offered, ["Name: Two", "Server: two.example:443"])
    XCTAssertEqual(form.offer?.text, second)
    XCTAssertEqual(form.takeTitle, "Replace the present one")
  }

  func testALinkFromOutsideIsNotShownWithItsPassword() throws {
    var form = ConfigForm()
    form.type("anytls://\(secret)@")
    _ = form.follow(try XCTUnwrap(URL(string: second)))

    XCTAssertEqual(form.draft, "")
    XCTAssertFalse((form.present + form.offered).joined().contains(secret))
  }

  func testOtherLinksChangeNothing() throws {
    var form = ConfigForm()
    form.type(first)
    let before = form

    XCTAssertFalse(form.follow(try XCTUnwrap(URL(string: "https://example.com"))))
    XCTAssertEqual(form, before)
  }

  func testWithoutAConfigTheFirstOneIsTaken() {
    var form = ConfigForm()
    form.show(saved: nil)
    XCTAssertEqual(form.present, ["No configuration"])
    XCTAssertNil(form.offer)

    form.paste(first)
    XCTAssertEqual(form.takeTitle, "Use it")
    XCTAssertEqual(form.offer?.options, VPNOptions())
  }

  func testTheChoicesForTheVPNStayWithAnotherConfig() {
    var options = VPNOptions()
    options.packets = .packetFlow
    var form = ConfigForm()
    form.show(saved: VPNConfig(text: first, options: options))
    form.open(second)

    XCTAssertEqual(form.offer, VPNConfig(text: second, options: options))
  }

  func testProblemsAreShownInPlaceAndNothingCanBeTaken() {
    var form = ConfigForm()
    form.type(#"{ "server": 7 }"#)

    XCTAssertNil(form.offer)
    XCTAssertEqual(form.offered.first, "It cannot be used:")
    XCTAssertTrue(form.offered.contains { $0.hasPrefix("Error: server: ") }, "\(form.offered)")
  }

  func testWhatIsTypedIsReadAtOnce() {
    var form = ConfigForm()
    for end in first.indices { form.type(String(first[...end])) }

    XCTAssertEqual(form.draft, first)
    XCTAssertEqual(form.offer?.text, first)
    form.type("")
    XCTAssertNil(form.offer)
    XCTAssertEqual(form.offered, [])
  }

  func testAnEditorThatRepeatsItselfLeavesALinksOffer() throws {
    var form = ConfigForm()
    _ = form.follow(try XCTUnwrap(URL(string: second)))
    form.type("")  // the editor tells of the draft that the link has emptied

    XCTAssertEqual(form.offer?.text, second)
  }

  func testWhatCannotBeReadIsSaidInsteadOfAnOffer() {
    var form = ConfigForm()
    form.type(first)

    form.open(nil)
    XCTAssertEqual(form.offered, ["The file cannot be read."])
    XCTAssertNil(form.offer)
    form.paste(nil)
    XCTAssertEqual(form.offered, ["There is no text to paste."])
    form.paste(" ")
    XCTAssertEqual(form.offered, ["There is nothing in it."])
    form.type(first)
    XCTAssertEqual(form.offer?.text, first)
  }

  func testATakenConfigLeavesNothingBehind() {
    var form = ConfigForm()
    form.type(first)
    form.taken()

    XCTAssertEqual(form, ConfigForm())
  }
}

private let secret = "s3cret-word"
