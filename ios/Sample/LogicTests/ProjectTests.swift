import Foundation
import XCTest

/// What only Xcode would notice otherwise: the files that say what app and extension are, and what they name.
final class ProjectTests: XCTestCase {
  func testTheExtensionIsAPacketTunnelOfAClassThatIsThere() throws {
    let info = try plist("Extension/Info.plist")
    let point = try XCTUnwrap(info["NSExtension"] as? [String: String])

    XCTAssertEqual(point["NSExtensionPointIdentifier"], "com.apple.networkextension.packet-tunnel")
    let name = try XCTUnwrap(point["NSExtensionPrincipalClass"])
    let (module, type) = ("$(PRODUCT_MODULE_NAME).", name.split(separator: ".").last.map(String.init) ?? "")
    XCTAssertEqual(name, module + type)
    let code = try sources(in: "Extension").joined()
    XCTAssertTrue(code.contains("class \(type): AnyTLSPacketTunnelProvider"), "no class \(type)")
  }

  func testAppAndExtensionMayMakeTunnelsAndShareOneKeychainGroupAndNoMore() throws {
    let app = try plist("App/App.entitlements")
    let tunnel = try plist("Extension/Extension.entitlements")

    XCTAssertEqual(app as NSDictionary, tunnel as NSDictionary)
    XCTAssertEqual(
      app as NSDictionary,
      [
        "com.apple.developer.networking.networkextension": ["packet-tunnel-provider"],
        "keychain-access-groups": ["$(AppIdentifierPrefix)$(SAMPLE_ID)"],
      ])
    XCTAssertEqual(try value(of: "SAMPLE_ID"), "com.example.anytls")
  }

  func testLinksToServersAndNoOthersLeadToTheApp() throws {
    let types = try XCTUnwrap(plist("App/Info.plist")["CFBundleURLTypes"] as? [[String: Any]])

    XCTAssertEqual(types.flatMap { $0["CFBundleURLSchemes"] as? [String] ?? [] }, ["anytls"])
  }

  func testEveryBundleSaysWhatTheSystemAsksFor() throws {
    for path in ["App/Info.plist", "Extension/Info.plist"] {
      let info = try plist(path)
      XCTAssertEqual(info["CFBundleIdentifier"] as? String, "$(PRODUCT_BUNDLE_IDENTIFIER)", path)
      XCTAssertEqual(info["CFBundleExecutable"] as? String, "$(EXECUTABLE_NAME)", path)
      XCTAssertEqual(info["CFBundlePackageType"] as? String, "$(PRODUCT_BUNDLE_PACKAGE_TYPE)", path)
      XCTAssertEqual(info["CFBundleShortVersionString"] as? String, "$(MARKETING_VERSION)", path)
      XCTAssertEqual(info["CFBundleVersion"] as? String, "$(CURRENT_PROJECT_VERSION)", path)
    }
  }

  func testTheProjectNamesWhatIsThere() throws {
    let files = try ["INFOPLIST_FILE", "CODE_SIGN_ENTITLEMENTS"].flatMap(values(of:))
    let folders = try values(of: "sources").map { $0.trimmingCharacters(in: ["[", "]"]) }

    XCTAssertEqual(files.count, 4)
    XCTAssertEqual(folders, ["App", "Extension"])
    for path in files + folders {
      XCTAssertTrue(FileManager.default.fileExists(atPath: file(path).path), path)
    }
    let package = try text(try value(of: "path") + "/Package.swift")
    for product in try values(of: "product") {
      XCTAssertTrue(package.contains(".library(name: \"\(product)\""), product)
    }
  }

  func testTheAppAsksForTheExtensionThatTheProjectEmbeds() throws {
    let identifiers = try values(of: "PRODUCT_BUNDLE_IDENTIFIER")
    let suffix = ".tunnel"

    XCTAssertEqual(identifiers, ["$(SAMPLE_ID)", "$(SAMPLE_ID)" + suffix])
    let asked = #"(Bundle.main.bundleIdentifier ?? "") + "\#(suffix)""#
    XCTAssertTrue(try text("App/VPNModel.swift").contains(asked))
    XCTAssertEqual(try values(of: "- target"), ["AnyTLSTunnel"])
    XCTAssertEqual(try values(of: "embed"), ["true"])
  }

  func testThePrivacyManifestsGiveAReasonForWhatIsUsed() throws {
    // The core asks for the size of files: certificates that a config names. It is linked into both.
    let core = ["FileTimestamp": ["C617.1"]]
    XCTAssertEqual(try reasons("../Sources/AnyTLSMobile/PrivacyInfo.xcprivacy"), core)
    XCTAssertEqual(try reasons("Extension/PrivacyInfo.xcprivacy"), core)
    let app = core.merging(["UserDefaults": ["CA92.1"]]) { first, _ in first }
    XCTAssertEqual(try reasons("App/PrivacyInfo.xcprivacy"), app)
    XCTAssertTrue(try sources(in: "App").joined().contains("UserDefaults"))
    XCTAssertFalse(try sources(in: "Extension").joined().contains("UserDefaults"))
  }

  func testTheCoreAsksForNothingElseThatNeedsAReason() throws {
    let symbols = try text("../../scripts/lib/apple/libSystem.txt").split(separator: "\n")
      .filter { !$0.hasPrefix("#") }.flatMap { $0.split(separator: " ") }
    let inNeed: Set<Substring> = [
      "fstat", "fstatat", "stat", "lstat", "getattrlist", "getattrlistbulk", "fgetattrlist", "getattrlistat",
      "statfs", "fstatfs", "statvfs", "fstatvfs", "mach_absolute_time",
    ]
    XCTAssertEqual(inNeed.intersection(symbols), ["fstat"])
  }

  func testEveryTextThatTheViewsShowIsThere() throws {
    let texts = try text("Logic/Texts.swift")
    let names = try sources(in: "App").flatMap { code in
      code.components(separatedBy: "Texts.").dropFirst().map { $0.prefix { $0.isLetter } }
    }

    XCTAssertGreaterThan(names.count, 30)
    for name in Set(names) { XCTAssertTrue(texts.contains("public static let \(name) ="), "\(name)") }
  }

  func testTheLogicKnowsNothingOfTheScreen() throws {
    for code in try sources(in: "Logic") {
      let imports = code.split(separator: "\n").filter { $0.hasPrefix("import ") }
      XCTAssertTrue(Set(imports).isSubset(of: ["import AnyTLSMobile", "import Foundation"]), "\(imports)")
    }
  }

  private func file(_ path: String) -> URL {
    URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent(path)
  }

  private func text(_ path: String) throws -> String {
    try String(contentsOf: file(path), encoding: .utf8)
  }

  private func sources(in folder: String) throws -> [String] {
    let names = try FileManager.default.contentsOfDirectory(atPath: file(folder).path)
    let sources = try names.filter { $0.hasSuffix(".swift") }.map { try text(folder + "/" + $0) }
    XCTAssertFalse(sources.isEmpty, folder)
    return sources
  }

  private func plist(_ path: String) throws -> [String: Any] {
    let plist = try PropertyListSerialization.propertyList(from: Data(contentsOf: file(path)), format: nil)
    return try XCTUnwrap(plist as? [String: Any], path)
  }

  private func reasons(_ path: String) throws -> [String: [String]] {
    let manifest = try plist(path)
    XCTAssertEqual(manifest["NSPrivacyTracking"] as? Bool, false)
    let types = try XCTUnwrap(manifest["NSPrivacyAccessedAPITypes"] as? [[String: Any]])
    let pairs = try types.map { type in
      let category = try XCTUnwrap(type["NSPrivacyAccessedAPIType"] as? String)
      let reasons = try XCTUnwrap(type["NSPrivacyAccessedAPITypeReasons"] as? [String])
      return (category.replacingOccurrences(of: "NSPrivacyAccessedAPICategory", with: ""), reasons)
    }
    return Dictionary(uniqueKeysWithValues: pairs)
  }

  /// What project.yml says under a key, wherever that is; it is plain enough to be read by lines.
  private func values(of key: String) throws -> [String] {
    try text("project.yml").split(separator: "\n").compactMap { line in
      let line = line.trimmingCharacters(in: .whitespaces)
      guard line.hasPrefix(key + ": ") else { return nil }
      return line.dropFirst(key.count + 2).trimmingCharacters(in: [" ", "\""])
    }
  }

  private func value(of key: String) throws -> String {
    let values = try values(of: key)
    XCTAssertEqual(values.count, 1, key)
    return values.first ?? ""
  }
}
