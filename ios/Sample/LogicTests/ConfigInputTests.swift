import AnyTLSMobile
import Foundation
import SampleLogic
import XCTest

/// With the real parser.
final class ConfigInputTests: XCTestCase {
  func testALinkIsRead() throws {
    let good = try good("  anytls://\(secret)@example.com:8443/?sni=a.example#At%20home\n")

    XCTAssertEqual(good.text, "anytls://\(secret)@example.com:8443/?sni=a.example#At%20home")
    XCTAssertEqual(good.summary.name, "At home")
    XCTAssertEqual(good.summary.serverHost, "example.com")
  }

  func testALinkWithBlanksInItsNameIsReadWhole() throws {
    XCTAssertEqual(try good("anytls://\(secret)@example.com#At home").summary.name, "At home")
  }

  func testALinkIsFoundAmongOtherWords() throws {
    let message = "Here is my server:\n<ANYTLS://\(secret)@example.com:8443/>.\r\nHave fun!"

    XCTAssertEqual(try good(message).text, "ANYTLS://\(secret)@example.com:8443/")
  }

  func testTheSameLinkTwiceIsOne() throws {
    XCTAssertEqual(try good("\(link) \(link)").summary.serverHost, "example.com")
  }

  func testSeveralLinksAreRefused() throws {
    let problems = try problems("anytls://a@one.example and anytls://b@two.example")

    XCTAssertEqual(problemLines(problems), ["Error: one link is expected, and there are 2"])
  }

  func testJSONIsReadEvenWhenItHasLinksInIt() throws {
    let json = #"{ "tag": "anytls://not.this.one", "server": "example.com", "password": "\#(secret)" }"#

    XCTAssertEqual(try good("\u{FEFF}" + json).summary.name, "anytls://not.this.one")
  }

  func testAllProblemsComeWithTheirPathsAndNoValue() throws {
    let json = """
      { "server": { "server_port": "\(secret)", "password": ["\(secret)"], "tls": { "alpn": [7] } } }
      """
    let problems = try problems(json)
    let paths = Set(problems.filter { $0.severity == .error }.map(\.path))

    let wrong: Set = ["server.server", "server.server_port", "server.password", "server.tls.alpn[0]"]
    XCTAssertTrue(paths.isSuperset(of: wrong), "\(paths)")
    XCTAssertFalse(problemLines(problems).joined().contains(secret))
  }

  func testOtherWordsAreRefused() throws {
    XCTAssertFalse(try problems("hello").isEmpty)
  }

  func testNothingIsNoConfig() {
    for nothing in ["", " \n", "\u{FEFF} \n"] { XCTAssertEqual(ConfigInput.read(nothing), .empty) }
  }

  func testOnlyLinksToServersAreFollowed() throws {
    let page = try XCTUnwrap(URL(string: "https://example.com/?anytls://a@b.example"))
    XCTAssertNil(ConfigInput.read(link: page))
    XCTAssertNil(ConfigInput.read(link: URL(fileURLWithPath: "/etc/passwd")))

    let server = try XCTUnwrap(URL(string: "AnyTLS://\(secret)@example.com:8443/#Home"))
    let read = ConfigInput.read(link: server)
    guard case .good(let config) = read else { return XCTFail("\(String(describing: read))") }
    XCTAssertEqual(config.summary.name, "Home")
  }

  func testWhatIsShownOfAConfigHasNoPasswordInIt() throws {
    let good = try good("anytls://\(secret)@[2001:db8::1]:8443/?insecure=1#Home")
    let shown = describe(good.summary)

    XCTAssertEqual(shown.prefix(2), ["Name: Home", "Server: [2001:db8::1]:8443"])
    XCTAssertTrue(shown.contains { $0.hasPrefix("Warning: uri.insecure: ") }, "\(shown)")
    let input = ConfigInput.good(good)
    var dumped = ""
    dump(input, to: &dumped)
    let written = ["\(good)", "\(input)", String(reflecting: input), dumped, "\(Server(good.summary))"]
    XCTAssertFalse((shown + written).joined().contains(secret))
  }

  func testADocumentIsReadWhole() throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    try Data(link.utf8).write(to: path)
    defer { try? FileManager.default.removeItem(at: path) }

    XCTAssertEqual(try ConfigInput.text(of: FileHandle(forReadingFrom: path)), link)
  }

  func testADocumentWithoutEndIsRefusedByItsLength() throws {
    let endless = try FileHandle(forReadingFrom: URL(fileURLWithPath: "/dev/zero"))
    let text = try ConfigInput.text(of: endless)

    XCTAssertEqual(text.utf8.count, (1 << 20) + 1)
    XCTAssertFalse(try problems("{" + text + "}").isEmpty)
  }

  func testADocumentThatIsNoneIsRefused() throws {
    let folder = try FileHandle(forReadingFrom: FileManager.default.temporaryDirectory)

    XCTAssertThrowsError(try ConfigInput.text(of: folder))
  }

  private func good(_ text: String) throws -> ReadConfig {
    let input = ConfigInput.read(text)
    guard case .good(let config) = input else { throw Unexpected(input: input) }
    return config
  }

  private func problems(_ text: String) throws -> [ConfigProblem] {
    let input = ConfigInput.read(text)
    guard case .bad(let problems) = input else { throw Unexpected(input: input) }
    return problems
  }
}

private struct Unexpected: Error {
  let input: ConfigInput
}

private let secret = "s3cret-word"
private let link = "anytls://\(secret)@example.com"
